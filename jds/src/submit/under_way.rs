//! What is counted while it is under way.

use tokio::sync::watch;

/// Counts one solution, submission or record as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    pub(super) fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
