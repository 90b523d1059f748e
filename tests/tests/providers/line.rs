//! The line between a server and its provider, which a test can hold up and cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes pass.
    Open,
    /// Connections stand, new ones are taken, and nothing passes: a program that hangs.
    Frozen,
    /// All connections end, and new ones at once.
    Cut,
}

/// A port of its own that leads to another.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    serving: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Line {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let modes = Arc::clone(&mode);
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut modes = modes.subscribe();
                tokio::spawn(async move {
                    if *modes.borrow() == Mode::Cut {
                        return;
                    }
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    let there = pass(near_in, far_out, modes.clone());
                    let back = pass(far_in, near_out, modes.clone());
                    tokio::select! {
                        () = there => {}
                        () = back => {}
                        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
                    }
                });
            }
        });
        Self { address, mode, serving }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut modes: watch::Receiver<Mode>,
) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if modes.wait_for(|mode| *mode == Mode::Open).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    // What is still on its way arrives before the end does.
    tokio::time::sleep(Duration::ZERO).await;
}
