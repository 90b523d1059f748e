//! Blocks that a miner finds while others declare.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use jds_tests::http;
use jds_wire::message::PushSolution;
use rand::Rng;
use tokio::sync::watch;

use crate::board::Board;
use crate::chain::{NodeLog, OwnNode};
use crate::miner::{Answer, Miner, Scene};

/// Longest wait for anything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(5);
/// A block is found this long after its template was accepted, at the latest.
const FOUND_AFTER_MAX: Duration = Duration::from_millis(500);

/// A block that was handed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    hash: BlockHash,
    at: Instant,
    /// What the server says of it: from its solution to the last byte handed to the system.
    in_server: Option<Duration>,
}

/// The server's word on how long it has blocks.
const METRIC: &str = "jds_block_sent_seconds";

/// So many blocks, and their times together, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    count: u64,
    seconds: f64,
}

impl Sent {
    async fn read(api: SocketAddr) -> anyhow::Result<Self> {
        let text = tokio::task::spawn_blocking(move || http::get(api, "/metrics").body).await?;
        let value = |end: &str| {
            let name = format!("{METRIC}_{end} ");
            text.lines().find_map(|line| line.strip_prefix(&name)).with_context(|| name)
        };
        Ok(Self { count: value("count")?.parse()?, seconds: value("sum")?.parse()? })
    }

    /// Waits for one more block: its time.
    async fn next(self, api: SocketAddr) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::read(api).await?;
            if now.count == self.count + 1 {
                return Ok(Duration::try_from_secs_f64(now.seconds - self.seconds)?);
            }
            if now.count > self.count || Instant::now() >= deadline {
                bail!("waited for one more block in {METRIC}: {self:?}, then {now:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Finds so many blocks of full templates. Each is taken back afterwards: the node forgets it, and has
/// the same transactions to mine again. From a block until then the others are told to pause.
pub(crate) async fn find(
    scene: &Arc<Scene>,
    place: (&OwnNode, Option<SocketAddr>),
    miner: &mut Miner,
    count: u32,
    paused: &watch::Sender<bool>,
) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for number in 1..=count {
        let block = find_one(scene, place, miner, paused).await;
        found.push(block.with_context(|| format!("block {number} of {count}"))?);
    }
    paused.send_replace(false);
    Ok(found)
}

async fn find_one(
    scene: &Arc<Scene>,
    (node, api): (&OwnNode, Option<SocketAddr>),
    miner: &mut Miner,
    paused: &watch::Sender<bool>,
) -> anyhow::Result<Found> {
    // The server may still look at the block that was taken back.
    accepted(miner).await?;
    paused.send_replace(false);
    let pause = miner.rng().gen_range(Duration::from_millis(100)..FOUND_AFTER_MAX);
    tokio::time::sleep(pause).await;
    accepted(miner).await?;
    let pause = miner.rng().gen_range(Duration::ZERO..FOUND_AFTER_MAX);
    tokio::time::sleep(pause).await;

    let parent = scene.tips.borrow().hash;
    let header = node.ask(move |node| Ok(node.block(&parent)?.header)).await?;
    // A chain that was mined in seconds is ahead of the clock.
    let now = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let (time, bits) = (now.max(header.time + 1), header.bits);
    let rng = &mut miner.rng().clone();
    let solution = miner.proposal().context("a template")?.solve(parent, time, bits, rng)?;
    // The clone would find the same extranonce again.
    let _: u64 = miner.rng().r#gen();
    let header = solution.header;
    let sent_before = match api {
        Some(api) => Some((api, Sent::read(api).await?)),
        None => None,
    };
    let mut found = Found { in_server: None, hash: header.block_hash(), at: Instant::now() };
    let pushed = PushSolution {
        extranonce: &solution.extranonce,
        prev_hash: parent.to_byte_array(),
        nonce: header.nonce,
        ntime: header.time,
        nbits: header.bits.to_consensus(),
        version: header.version.to_consensus() as u32,
    };
    miner.client().context("a connection")?.push_solution(pushed).await?;

    let deadline = Instant::now() + PATIENCE;
    while node.ask(|node| Ok(node.tip()?)).await? != found.hash {
        if Instant::now() >= deadline {
            bail!("waited for {} to be the node's tip", found.hash);
        }
        tokio::time::sleep(POLL).await;
    }
    if let Some((api, before)) = sent_before {
        found.in_server = Some(before.next(api).await?);
    }
    paused.send_replace(true);
    node.ask(move |node| Ok(node.invalidate(&found.hash)?)).await?;
    Ok(found)
}

/// Declares until it is accepted.
async fn accepted(miner: &mut Miner) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        miner.prepare().await?;
        let answer = miner.answer().await?;
        if answer == Answer::Accepted {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("waited for a template to be accepted, got {answer:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writes down when the node was given each block, and when it was its tip.
pub(crate) fn judge(found: &[Found], log: &NodeLog, board: &Board) {
    for block in found {
        let Some(tip) = log.tips.get(&block.hash) else {
            board.error("solution: not in the node's log");
            continue;
        };
        if let Some(in_server) = block.in_server {
            board.solution_handed_over.record(in_server);
        }
        board.solution_to_tip.record(tip.saturating_duration_since(block.at));
        // Over IPC there is none.
        let given = log.submissions.iter().find(|given| (block.at..*tip).contains(given));
        if let Some(given) = given {
            board.solution_to_submission.record(given.saturating_duration_since(block.at));
        }
    }
}
