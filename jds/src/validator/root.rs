//! The longest computation of a declaration, beside everything that does not depend on it.

use std::sync::{Arc, OnceLock};

use bitcoin::Wtxid;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use validation::WitnessRoot;

use crate::limits::BESIDE_WTXIDS_MIN;

/// The witness root of a declaration: computed on a thread of its own where a core is free, which
/// takes about as long as everything that does not depend on it; else by who asks for it.
pub(super) struct BesideRoot {
    wtxids: Arc<[Wtxid]>,
    root: OnceLock<WitnessRoot>,
}

impl BesideRoot {
    /// Computes it beside the caller if a core is free.
    pub(super) fn begin(wtxids: &Arc<[Wtxid]>, cpu: &Arc<Semaphore>) -> Arc<Self> {
        let this = Arc::new(Self { wtxids: Arc::clone(wtxids), root: OnceLock::new() });
        let runtime = Handle::try_current();
        if wtxids.len() >= BESIDE_WTXIDS_MIN
            && let (Ok(runtime), Ok(permit)) = (runtime, Arc::clone(cpu).try_acquire_owned())
        {
            let root = Arc::clone(&this);
            drop(runtime.spawn_blocking(move || {
                root.get();
                drop(permit);
            }));
        }
        this
    }

    /// Whoever comes first computes it, others wait for that.
    pub(super) fn get(&self) -> WitnessRoot {
        *self.root.get_or_init(|| WitnessRoot::of(&self.wtxids))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    #[tokio::test]
    async fn the_root_is_the_same_whoever_computes_it_and_the_core_is_given_back() {
        let wtxids: Arc<[Wtxid]> =
            (0..BESIDE_WTXIDS_MIN as u64).map(|n| Wtxid::hash(&n.to_le_bytes())).collect();
        for cores in [0, 1] {
            let cpu = Arc::new(Semaphore::new(cores));
            let root = BesideRoot::begin(&wtxids, &cpu);
            assert_eq!(root.get(), WitnessRoot::of(&wtxids), "{cores} cores are free");
            let free = tokio::time::timeout(
                std::time::Duration::from_secs(10),
                cpu.acquire_many(cores as u32),
            );
            assert!(free.await.is_ok(), "waited for {cores} cores to be free again");
        }
    }
}
