//! Miners that mine by themselves, until they are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use jds::client::mining::{Channel, MiningClient};
use jds_tests::sv1::{Closed, Sv1Client, is_share};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Arguments of a device that hashes a hundred times a second, and says that it is slower still (it
/// measures itself without the pauses): many shares, and next to no blocks of a signet.
pub(crate) const SLOW: &[&str] =
    &["--handicap", "10000", "--nonces-per-call", "1", "--nominal-hashrate-multiplier", "0.000001"];
/// A miner finds a share about as often. Meanwhile a new tip's transactions become a job.
const PACE: Duration = Duration::from_millis(700);
/// Nothing came for so long: what there is was heard.
const QUIET: Duration = Duration::from_millis(20);

/// A miner at work.
#[derive(Debug)]
pub(crate) struct Rig(JoinHandle<()>);

impl Drop for Rig {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A miner of Stratum V1.
pub(crate) fn sv1(address: SocketAddr, user: &'static str) -> Rig {
    Rig(tokio::spawn(async move {
        let miner = Sv1Client::mining(address, user).await;
        let Err(Closed) = mine_sv1(miner, user).await;
    }))
}

async fn mine_sv1(mut miner: Sv1Client, user: &str) -> Result<std::convert::Infallible, Closed> {
    for extranonce2 in 1.. {
        miner.listen(PACE).await?;
        let share = miner.mine(extranonce2, is_share);
        let id = miner.submit(user, &share).await;
        // Another miner's block may have been faster.
        let _ = miner.answer(id).await?;
    }
    unreachable!("more shares than there are numbers")
}

/// Channels of Stratum V2 on one connection, in turns.
pub(crate) fn sv2(mut client: MiningClient, mut channels: Vec<Channel>) -> Rig {
    Rig(tokio::spawn(async move {
        loop {
            for turn in 0..channels.len() {
                while let Ok(message) = timeout(QUIET, client.recv()).await {
                    let Ok(message) = message else { return };
                    channels.iter_mut().for_each(|channel| channel.hear(&message));
                }
                let Some(share) = channels[turn].mine_share() else { return };
                // Another miner's block may have been faster.
                if client.submit(&channels[turn], &share).await.is_err() {
                    return;
                }
                tokio::time::sleep(PACE).await;
            }
        }
    }))
}
