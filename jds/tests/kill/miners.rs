//! The load: miners who declare, and now and then find a block, until the server dies under them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use bitcoin::{Amount, TxOut};
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds_wire::Secp256k1PublicKey;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::common::solution;
use crate::notes::{Attempt, Notebook, Pushed, Verdict};
use crate::work::Work;

/// Who mines; the first has two connections.
pub(crate) const USERS: [&str; 4] = ["alice", "bob", "carol", "alice"];
/// Declarations of one miner between two kills: what a restart takes back of one user, and what
/// events of one address are written one by one, is bounded.
const ATTEMPTS_MAX: usize = 20;
/// Tokens that a miner has in reserve.
const TOKENS_AHEAD_MAX: usize = 3;
/// Solutions of one miner between two kills.
const SOLUTIONS_MAX: usize = 2;

/// Where and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Secp256k1PublicKey,
    pub(crate) user: &'static str,
    pub(crate) notebook: Notebook,
}

/// A miner with a connection, noting what it is told.
pub(crate) struct Miner {
    seat: Seat,
    client: JdClient,
    outputs: Vec<TxOut>,
    tokens: Vec<Vec<u8>>,
}

/// What is declared.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Valid,
    Unknown,
    /// As [`Kind::Unknown`], and other bytes come than were asked for.
    WrongAnswer,
    Commitment,
    Duplicate,
    Underpaid,
    Stale,
}

const KINDS: [(u32, Kind); 7] = [
    (10, Kind::Valid),
    (4, Kind::Unknown),
    (1, Kind::WrongAnswer),
    (1, Kind::Commitment),
    (1, Kind::Duplicate),
    (1, Kind::Underpaid),
    (1, Kind::Stale),
];

impl Kind {
    fn any(rng: &mut StdRng) -> Self {
        let mut left = rng.gen_range(0..KINDS.iter().map(|(weight, _)| weight).sum::<u32>());
        for (weight, kind) in KINDS {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Self::Valid
    }

    fn template(self, work: &Work, outputs: Vec<TxOut>, rng: &mut StdRng) -> MinerTemplate {
        let private = match self {
            Self::Unknown | Self::WrongAnswer => rng.gen_range(1..=4),
            _ => 0,
        };
        let mut template = work.template(outputs, private, rng);
        match self {
            Self::Valid | Self::Unknown | Self::WrongAnswer => {}
            Self::Commitment => {
                if let Some(last) = template.coinbase.output.last_mut() {
                    let mut script = last.script_pubkey.to_bytes();
                    if let Some(byte) = script.last_mut() {
                        *byte ^= 1;
                    }
                    last.script_pubkey = script.into();
                }
            }
            Self::Duplicate => {
                template.txs.extend(template.txs.last().cloned());
                template.refresh_commitment();
            }
            Self::Underpaid => template.coinbase.output[0].value = Amount::from_sat(1),
            Self::Stale => {
                // The height is pushed as one length byte and that many bytes.
                let mut script = template.coinbase.input[0].script_sig.to_bytes();
                script[1] = script[1].wrapping_sub(1);
                template.coinbase.input[0].script_sig = script.into();
            }
        }
        template
    }
}

impl Miner {
    pub(crate) async fn connect(seat: Seat) -> anyhow::Result<Self> {
        let authority = Some(seat.authority);
        let client = JdClient::connect(seat.address, authority, &SetupOptions::default()).await?;
        let mut miner = Self { seat, client, outputs: Vec::new(), tokens: Vec::new() };
        miner.allocate().await?;
        Ok(miner)
    }

    async fn allocate(&mut self) -> anyhow::Result<()> {
        let token = self.client.allocate_token(self.seat.user).await?;
        self.outputs = token.outputs()?;
        self.seat.notebook.with(|n| n.unspent.push((self.seat.user, token.bytes.clone())));
        self.tokens.push(token.bytes);
        Ok(())
    }

    /// Declares a valid template with a new token; the attempt with its answer.
    pub(crate) async fn declare_valid(
        &mut self,
        work: &Arc<Work>,
        rng: &mut StdRng,
    ) -> anyhow::Result<Attempt> {
        self.declare(Kind::Valid, work, rng).await
    }

    /// As [`Self::declare_valid`], with a token from elsewhere. Not in the notes.
    pub(crate) async fn declare_with(
        &mut self,
        token: &[u8],
        work: &Arc<Work>,
        rng: &mut StdRng,
    ) -> anyhow::Result<(Attempt, DeclareOutcome)> {
        let template = Kind::Valid.template(work, self.outputs.clone(), rng);
        let attempt = Attempt::new(self.seat.user, token.to_vec(), template, Arc::clone(work));
        let outcome = self.send(&attempt, false).await?;
        Ok((attempt, outcome))
    }

    async fn declare(
        &mut self,
        kind: Kind,
        work: &Arc<Work>,
        rng: &mut StdRng,
    ) -> anyhow::Result<Attempt> {
        if self.tokens.is_empty() {
            for _ in 0..rng.gen_range(1..=TOKENS_AHEAD_MAX) {
                self.allocate().await?;
            }
        }
        let template = kind.template(work, self.outputs.clone(), rng);
        let token = self.tokens.pop().context("a token was just allocated")?;
        let mut attempt = Attempt::new(self.seat.user, token, template, Arc::clone(work));
        self.seat.notebook.with(|notes| {
            notes.unspent.retain(|(_, token)| *token != attempt.token);
        });
        let number = self.seat.notebook.note(attempt.clone());
        let outcome = self.send(&attempt, matches!(kind, Kind::WrongAnswer)).await?;
        let verdict = match outcome {
            DeclareOutcome::Accepted { .. } => Verdict::Accepted,
            DeclareOutcome::Rejected { code, details, .. } => {
                // The server's tip may be behind or before ours; nothing else is wrong with these.
                let sound = matches!(kind, Kind::Valid | Kind::Unknown);
                if sound && code != "stale-chain-tip" {
                    bail!("a valid template was rejected: {code}: {details}");
                }
                Verdict::Rejected { code }
            }
        };
        attempt.verdict = Some(verdict.clone());
        self.seat.notebook.with(|notes| notes.attempts[number].verdict = Some(verdict));
        Ok(attempt)
    }

    async fn send(&mut self, attempt: &Attempt, lie: bool) -> anyhow::Result<DeclareOutcome> {
        let wtxids = attempt.template.wtxids();
        let declaration = Declaration {
            token: &attempt.token,
            version: attempt.template.version,
            prefix: &attempt.prefix,
            suffix: &attempt.suffix,
            wtxids: &wtxids,
        };
        let answer = |position: u16| match lie {
            true => attempt.template.raw_tx(position.wrapping_sub(1)),
            false => attempt.template.raw_tx(position),
        };
        Ok(self.client.declare(declaration, answer).await?)
    }

    /// Hands a solution in. It was read by the server when this returns.
    pub(crate) async fn push(&mut self, pushed: &Pushed) -> anyhow::Result<()> {
        self.client.push_solution(solution(&pushed.solved)).await?;
        self.allocate().await
    }

    async fn solve(&mut self, attempt: &Attempt) -> anyhow::Result<()> {
        let pushed = self.seat.notebook.solve(attempt)?;
        // Before it is sent: from then on it may become a block.
        self.seat.notebook.with(|notes| notes.pushed.push(pushed.clone()));
        self.push(&pushed).await
    }
}

/// What tells a miner how to play.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    pub(crate) work: watch::Receiver<Arc<Work>>,
    /// The server is being killed: nothing that fails from now on is a failure.
    pub(crate) killed: Arc<AtomicBool>,
    /// Odds that an accepted template is solved.
    pub(crate) solve_odds: f64,
}

/// Declares until the server is killed, or it has been enough.
pub(crate) async fn play(seat: Seat, play: Play, mut rng: StdRng) {
    let notebook = seat.notebook.clone();
    let user = seat.user;
    if let Err(error) = mine(seat, &play, &mut rng).await
        && !play.killed.load(Ordering::SeqCst)
    {
        let failure = format!("{user}, while the server was running: {error:#}");
        notebook.with(|notes| notes.failures.push(failure));
    }
}

async fn mine(seat: Seat, play: &Play, rng: &mut StdRng) -> anyhow::Result<()> {
    let mut miner = Miner::connect(seat).await?;
    let mut solutions = 0;
    for _ in 0..ATTEMPTS_MAX {
        if play.killed.load(Ordering::SeqCst) {
            break;
        }
        let work = Arc::clone(&play.work.borrow());
        let attempt = miner.declare(Kind::any(rng), &work, rng).await?;
        let solve = rng.gen_bool(play.solve_odds) && solutions < SOLUTIONS_MAX;
        if solve && attempt.is_accepted() {
            solutions += 1;
            miner.solve(&attempt).await?;
        }
    }
    Ok(())
}
