//! Miners who send shares, of both protocols beside each other.
//!
//! On a private chain half of all hashes make a block, and the easiest target there is lets every hash
//! be a share: a miner takes the first hash that makes no block, which costs it two. What is measured
//! is the way of a share, not the work on it.

mod peer;
mod tally;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use jds_tests::bench::Target;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::board::Board;
use crate::metronome::{Metronome, Pace};
use crate::miner::short;

use peer::{Peer, Told};
pub(crate) use tally::Tally;

/// Miners that connect at the same time.
const CONNECTING_MAX: usize = 64;
/// Until the first share: everybody is there then.
const START_PAUSE: Duration = Duration::from_millis(100);
/// How long after the last share its answer may take.
const LAST_ANSWER_WAIT: Duration = Duration::from_secs(20);

/// What a miner speaks, and what it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Kind {
    /// Stratum V2, a standard channel: header-only mining.
    Standard,
    /// Stratum V2, an extended channel.
    Extended,
    /// Stratum V1.
    Sv1,
}

impl Kind {
    /// Each of them.
    pub(crate) const ALL: [Self; 3] = [Self::Standard, Self::Extended, Self::Sv1];

    /// In the figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Standard => "share_sv2_standard",
            Self::Extended => "share_sv2_extended",
            Self::Sv1 => "share_sv1",
        }
    }
}

/// Where they connect.
#[derive(Debug, Clone)]
pub(crate) struct MiningPorts {
    /// Stratum V2.
    pub(crate) v2: Target,
    /// Stratum V1.
    pub(crate) v1: SocketAddr,
    /// Accepted shares that one answer of Stratum V2 is for at most.
    pub(crate) batch: u32,
}

/// Miners who have work, and have sent nothing yet.
pub(crate) struct Crowd {
    miners: Vec<One>,
    /// See [`MiningPorts::batch`].
    batch: u32,
}

/// One of them.
struct One {
    kind: Kind,
    peer: Peer,
}

impl Crowd {
    /// Connects so many, of the kinds in turns.
    pub(crate) async fn connect(
        ports: &MiningPorts,
        count: usize,
        kinds: &[Kind],
        board: &Arc<Board>,
    ) -> anyhow::Result<Self> {
        let places = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut connecting = JoinSet::new();
        for (number, kind) in kinds.iter().copied().cycle().take(count).enumerate() {
            let (places, ports, board) = (Arc::clone(&places), ports.clone(), Arc::clone(board));
            connecting.spawn(async move {
                let _place = places.acquire_owned().await;
                let peer = Peer::connect(&ports, kind, number, &board.handshakes).await;
                (number, peer.map(|peer| One { kind, peer }))
            });
        }
        let mut all = Vec::new();
        while let Some(one) = connecting.join_next().await {
            let (number, one) = one?;
            all.push((number, one.with_context(|| format!("miner {number} that sends shares"))?));
        }
        // So that the shares of all kinds are due in turns.
        all.sort_by_key(|(number, _)| *number);
        let miners = all.into_iter().map(|(_, one)| one).collect();
        Ok(Self { miners, batch: ports.batch })
    }
}

/// Shares at a rate, until told to stop.
pub(crate) struct Sharing {
    metronome: Metronome,
    miners: JoinSet<()>,
    began: Instant,
}

impl Sharing {
    /// So many shares a second of all together. The latencies of the first `warm_up` do not count.
    pub(crate) fn start(crowd: Crowd, rate: f64, warm_up: Duration, board: &Arc<Board>) -> Self {
        let start = Instant::now() + START_PAUSE;
        let counts_from = start + warm_up;
        let (mut hearers, mut miners) = (Vec::new(), JoinSet::new());
        for One { kind, peer } in crowd.miners {
            let (hearer, dues) = mpsc::unbounded_channel();
            hearers.push(hearer);
            let batch = if kind == Kind::Sv1 { 1 } else { crowd.batch as usize };
            let miner = Sender {
                peer,
                kind,
                batch,
                counts_from,
                board: Arc::clone(board),
                waiting: VecDeque::new(),
            };
            miners.spawn(miner.run(dues));
        }
        let metronome = Metronome::start(Pace::Even(rate), start, None, hearers);
        Self { metronome, miners, began: start }
    }

    /// Nothing more is due; waits for the answers. How long it went on.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Duration> {
        let lasted = self.began.elapsed();
        // It may be in the middle of a pause.
        tokio::task::spawn_blocking(move || drop(self.metronome)).await?;
        while let Some(miner) = self.miners.join_next().await {
            miner?;
        }
        Ok(lasted)
    }
}

/// A miner at work.
struct Sender {
    peer: Peer,
    kind: Kind,
    /// Fewer shares than this may stay without an answer.
    batch: usize,
    counts_from: Instant,
    board: Arc<Board>,
    /// Shares that have no answer yet, by the miner's number, and when they were due.
    waiting: VecDeque<(u32, Instant)>,
}

impl Sender {
    async fn run(mut self, mut dues: mpsc::UnboundedReceiver<Instant>) {
        let before = self.peer.bytes();
        if let Err(error) = self.send_all(&mut dues).await {
            self.board.error(format!("{}: {}", self.kind.name(), short(&error)));
        }
        let after = self.peer.bytes();
        self.tally().moved(after.0 - before.0, after.1 - before.1);
    }

    fn tally(&self) -> &Tally {
        self.board.shares(self.kind)
    }

    async fn send_all(
        &mut self,
        dues: &mut mpsc::UnboundedReceiver<Instant>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                told = self.peer.hear() => self.told(told?),
                due = dues.recv() => {
                    let Some(due) = due else { break };
                    let number = self.peer.submit().await?;
                    self.waiting.push_back((number, due));
                    self.tally().sent();
                }
            }
        }
        let deadline = Instant::now() + LAST_ANSWER_WAIT;
        // What waits for the rest of its batch is answered when that is full.
        while self.waiting.len() >= self.batch {
            let told = timeout_at(deadline.into(), self.peer.hear()).await;
            self.told(told.context("waited for the answers to the last shares")??);
        }
        Ok(())
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::UpTo { number, shares } => {
                self.tally().accepted(shares);
                let mut answered = None;
                while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= number) {
                    answered = self.waiting.pop_front();
                }
                // The others of a batch waited for this one, not for the server.
                if let Some((last, due)) = answered
                    && last == number
                {
                    self.measure(due);
                }
            }
            Told::Refused { number, code } => {
                self.tally().refused();
                self.board.error(format!("{}: {code}", self.kind.name()));
                if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == number) {
                    self.waiting.remove(at);
                }
            }
        }
    }

    fn measure(&self, due: Instant) {
        if due >= self.counts_from {
            self.tally().latencies.record(due.elapsed());
        }
    }
}
