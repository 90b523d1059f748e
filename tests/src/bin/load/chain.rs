//! The node: its tips as the miners learn of them, and when it had what.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bitcoin::{BlockHash, Network};
use jds_tests::bench::Login;
use signet::{FillSpec, Node, NodeOptions};
use tokio::sync::watch;

use crate::args::{Args, Source};

/// Weight of the transactions of a full block, weight units.
const FULL_WEIGHT_WU: u64 = 3_900_000;
/// Weight of a usual transaction.
const TX_WEIGHT_WU: u64 = 975;
/// Of so many transactions of the mempool each miner leaves one out.
const SPARE_DIVISOR: usize = 20;

/// A tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) hash: BlockHash,
    pub(crate) height: u32,
    /// When the miners learned of it.
    pub(crate) at: Instant,
}

/// A node of our own, for us to mine on and to restart.
#[derive(Debug, Clone)]
pub(crate) struct OwnNode(Arc<RwLock<Node>>);

impl OwnNode {
    /// Asks it; not while it restarts. Blocks its thread.
    pub(crate) fn with<T>(
        &self,
        ask: impl FnOnce(&Node) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        ask(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Self::with`], on a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Node) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let node = self.clone();
        tokio::task::spawn_blocking(move || node.with(ask)).await?
    }

    /// Stops it in good order and starts it again. Blocks its thread.
    pub(crate) fn restart(&self) -> anyhow::Result<()> {
        Ok(self.0.write().unwrap_or_else(PoisonError::into_inner).restart()?)
    }
}

/// The node that everybody builds on.
pub(crate) enum Chain {
    /// Of our own.
    Own(OwnNode),
    /// Somebody's, followed.
    Theirs(tdp_client::Node),
}

impl Chain {
    /// A node with a mempool from which each miner takes so many transactions, and not the same.
    pub(crate) fn own(args: &Args) -> anyhow::Result<Self> {
        let options = NodeOptions::regtest()
            // When it had a tip, and when it was called, is read from its log.
            .arg("-logtimemicros=1")
            .arg("-debug=rpc")
            .arg("-debug=http");
        let needs_ipc = args.reference.is_some() || args.source == Source::Ipc;
        let node = Node::start(if needs_ipc { options.ipc() } else { options })?;
        let tx_count = pool_size(args.transactions);
        let target_weight_wu = (tx_count as u64 * TX_WEIGHT_WU).min(FULL_WEIGHT_WU);
        node.fill_mempool(FillSpec { tx_count, target_weight_wu, ..FillSpec::default() })?;
        Ok(Self::Own(OwnNode(Arc::new(RwLock::new(node)))))
    }

    /// The node of that login.
    pub(crate) fn theirs(login: &Login) -> anyhow::Result<Self> {
        Ok(Self::Theirs(login.follow()?))
    }

    /// How to ask it for what it would mine.
    pub(crate) fn login(args: &Args, own: Option<&OwnNode>) -> anyhow::Result<Login> {
        if let Some(node) = own {
            let network = Network::Regtest;
            return node.with(|node| {
                Ok(Login { rpc_url: node.rpc_url(), cookie: node.cookie_file(), network })
            });
        }
        Ok(Login {
            rpc_url: args.rpc_url.clone().context("--rpc-url")?,
            cookie: args.cookie.clone().context("--cookie")?,
            network: args.network,
        })
    }

    pub(crate) fn node(&self) -> Option<&OwnNode> {
        match self {
            Self::Own(node) => Some(node),
            Self::Theirs(_) => None,
        }
    }

    /// Its tip, and those that follow. Of our own node only what [`mine`] tells.
    pub(crate) async fn tips(&self) -> anyhow::Result<watch::Sender<Tip>> {
        match self {
            Self::Own(node) => {
                let (hash, height) = node.ask(|node| Ok((node.tip()?, node.height()?))).await?;
                Ok(watch::Sender::new(Tip { hash, height, at: Instant::now() }))
            }
            Self::Theirs(node) => {
                let mut theirs = node.tip();
                let first = theirs.wait_for(Option::is_some).await?.as_deref().copied();
                let told = |state: tdp_client::TipState| Tip {
                    hash: state.tip.hash,
                    height: state.tip.height,
                    at: state.seen_at,
                };
                let tips = watch::Sender::new(told(first.context("a tip")?));
                let tell = tips.clone();
                tokio::spawn(async move {
                    while theirs.changed().await.is_ok() {
                        let tip = theirs.borrow_and_update().as_deref().copied();
                        if let Some(tip) = tip {
                            tell.send_replace(told(tip));
                        }
                    }
                });
                Ok(tips)
            }
        }
    }
}

/// Transactions of the mempool for templates of so many.
pub(crate) fn pool_size(transactions: usize) -> usize {
    transactions + transactions.div_ceil(SPARE_DIVISOR)
}

/// Mines a block without transactions, and tells the miners. Blocks its thread.
pub(crate) fn mine(node: &Node, tips: &watch::Sender<Tip>) -> anyhow::Result<Tip> {
    let hash = node.mine_block(&[])?;
    let tip = Tip { hash, height: node.height()?, at: Instant::now() };
    tips.send_replace(tip);
    Ok(tip)
}

/// What the node has not called so long after it was received, it has refused.
const CALLED_WITHIN: Duration = Duration::from_secs(5);

/// What the node's own log says of when things happened.
#[derive(Debug, Default)]
pub(crate) struct NodeLog {
    /// When a block became the tip.
    pub(crate) tips: HashMap<BlockHash, Instant>,
    /// When a block was handed in and had arrived whole, in order.
    pub(crate) submissions: Vec<Instant>,
}

impl NodeLog {
    /// Reads all of it.
    pub(crate) fn read(path: PathBuf) -> anyhow::Result<Self> {
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (now, now_unix) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
        let instant = |at: Duration| now.checked_sub(now_unix.checked_sub(at)?);
        let mut log = Self::default();
        let mut requests = VecDeque::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((stamp, said)) = line.split_once(' ') else { continue };
            let at = || unix_time(stamp).and_then(instant);
            if let Some((_, rest)) = said.split_once("UpdateTip: new best=") {
                let hash = rest.split_whitespace().next().and_then(|hash| hash.parse().ok());
                if let (Some(hash), Some(at)) = (hash, at()) {
                    log.tips.entry(hash).or_insert(at);
                }
            } else if said.contains("Bitcoin Core version") {
                // What was asked of the node before it was started again is never called.
                requests.clear();
            } else if said.contains("Received a POST request") {
                requests.extend(at());
            } else if said.contains("ThreadRPCServer method=") {
                // Read whole, then parsed, then called. A block takes tens of milliseconds to parse, any
                // other call next to nothing, so that a block is the oldest that is not called yet.
                // A request that was refused is never called, and is not the one that is called now.
                let old = at().and_then(|at| at.checked_sub(CALLED_WITHIN));
                while requests.front().is_some_and(|request| Some(*request) < old) {
                    requests.pop_front();
                }
                let is_block = said.contains("method=submitblock");
                let called = if is_block { requests.pop_front() } else { requests.pop_back() };
                log.submissions.extend(called.filter(|_| is_block));
            }
        }
        if log.tips.is_empty() {
            bail!("no tips in {}", path.display());
        }
        Ok(log)
    }
}

/// Of `2026-11-21T10:54:29.123456Z`.
fn unix_time(stamp: &str) -> Option<Duration> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?.parse::<u64>().ok()?, time.next()?.parse::<u64>().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    // Days since 1970 of the proleptic Gregorian calendar; years begin in March, so that the leap day
    // comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = u64::try_from(days + of_year - 719_468).ok()?;
    let whole = Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60);
    Some(whole + Duration::try_from_secs_f64(second).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_had_arrived_when_the_oldest_request_that_is_not_called_had() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let post = "[http] Received a POST request for / from 127.0.0.1:1 (id=1)";
        let call = |method| format!("[rpc] ThreadRPCServer method={method} user=x id=1");
        let said = [
            // Refused: never called.
            (0, post.to_owned()),
            (5_000, post.to_owned()),
            (5_001, call("getblockhash")),
            (5_002, post.to_owned()),
            (5_003, post.to_owned()),
            (5_004, call("getbestblockhash")),
            (5_005, post.to_owned()),
            (5_006, call("submitblock")),
            (5_007, call("getbestblockhash")),
            (5_008, format!("UpdateTip: new best={} height=1", "0".repeat(64))),
        ];
        let stamp = |ms| format!("2026-11-21T10:54:{:02}.{:03}000Z", 29 + ms / 1_000, ms % 1_000);
        let lines: Vec<_> =
            said.iter().map(|(ms, said)| format!("{} {said}\n", stamp(ms))).collect();
        std::fs::write(file.path(), lines.concat()).unwrap();
        let log = NodeLog::read(file.path().to_owned()).unwrap();
        let [arrived] = log.submissions[..] else { panic!("{log:?}") };
        let tip = log.tips.values().next().unwrap();
        assert_eq!((*tip - arrived).as_micros().div_ceil(1_000), 6);
    }

    #[test]
    fn times_of_the_log_are_read_to_the_microsecond() {
        for (stamp, unix_us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:01.5Z", 951_825_601_500_000_u64),
            ("2026-11-21T10:54:29.123456Z", 1_795_258_469_123_456),
        ] {
            let read = unix_time(stamp).unwrap().as_secs_f64() * 1e6;
            assert!((read - unix_us as f64).abs() < 1.0, "{stamp} is {read}");
        }
        assert_eq!(unix_time("yesterday"), None);
    }
}
