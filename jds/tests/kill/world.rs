//! A node, a server that is killed again and again, and the comparison after each kill.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bitcoin::BlockHash;
use jds::client::DeclareOutcome;
use jds::limits::{BURIED_CONFIRMATIONS, TOKEN_LIFETIME};
use jds::token::TokenMint;
use jds_wire::Secp256k1PublicKey;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use signet::wait;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::PATIENCE;
use crate::common::Running;
use crate::events::{Reader, Told};
use crate::kept::Kept;
use crate::miners::{Miner, Play, Seat, USERS, play};
use crate::notes::{Attempt, Notebook, Notes, Pushed, Verdict};
use crate::work::{Chain, Work};

/// A kill under load comes within this time of the first connection.
const LOAD_MAX: Duration = Duration::from_millis(350);
/// A kill around a solution comes within this time of the first solution, most often early.
const AFTER_SOLUTION_MAX: Duration = Duration::from_millis(40);
/// A kill during the start comes within this time of the start of the process.
const START_MAX: Duration = Duration::from_millis(250);
/// How often the miners look for a new tip.
const TIP_POLL: Duration = Duration::from_millis(5);
/// Odds that a round has solutions, that a template is solved then, and that a start is killed.
const SOLUTIONS_ODDS: f64 = 0.35;
const SOLVE_ODDS: f64 = 0.5;
const START_KILL_ODDS: f64 = 0.3;
/// Used tokens that are tried again after each restart.
const TOKENS_TRIED: usize = 6;

/// What happened, so that a test of nothing is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Stats {
    pub(crate) kills: u32,
    pub(crate) kills_while_starting: u32,
    pub(crate) accepted: u32,
    pub(crate) rejected: u32,
    pub(crate) unanswered: u32,
    pub(crate) tokens_tried_again: u32,
    pub(crate) late_blocks: u32,
    pub(crate) pushed: u32,
    /// Blocks that the disk held at a kill, and blocks that needed their solution again.
    pub(crate) kept_blocks: u32,
    pub(crate) repeated: u32,
}

pub(crate) struct World {
    pub(crate) stats: Stats,
    chain: Chain,
    server: Option<Running>,
    reader: Reader,
    told: Told,
    notebook: Notebook,
    authority: Secp256k1PublicKey,
    mint: TokenMint,
    rng: StdRng,
    starts: u32,
    /// Blocks that the node has for certain.
    in_node: HashSet<BlockHash>,
    dir: TempDir,
}

impl World {
    pub(crate) fn new(rng: StdRng) -> anyhow::Result<Self> {
        let chain = Chain::start()?;
        let dir = TempDir::with_prefix("jds-kill-")?;
        let (secret, public) = config::keys::generate()?;
        config::keys::write_new(&dir.path().join("authority.key"), &secret)?;
        let node = &chain.node;
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"data\"\n[authority]\n\
             secret_key_file = \"authority.key\"\n[payout]\nmode = \"pool\"\n\
             script = \"raw({:x})\"\n[job_declaration]\nlisten = \"127.0.0.1:0\"\n\
             [[node]]\nname = \"main\"\nrpc_url = \"{}\"\nrpc_cookie_file = {:?}\n",
            node.mining_script(),
            node.rpc_url(),
            node.cookie_file(),
        );
        fs::write(dir.path().join("jds.toml"), text)?;
        Ok(Self {
            stats: Stats::default(),
            reader: Reader::start(&dir.path().join("data")),
            chain,
            server: None,
            told: Told::default(),
            notebook: Notebook::default(),
            authority: public.to_string().parse().context("the key that was just made")?,
            mint: TokenMint::new(secret.expose_bytes(), TOKEN_LIFETIME),
            rng,
            starts: 0,
            in_node: HashSet::new(),
            dir,
        })
    }

    /// One round: a start (or several), proof that the last kill lost nothing, load, a kill.
    pub(crate) async fn round(&mut self, last: Notes) -> anyhow::Result<Notes> {
        while self.rng.gen_bool(START_KILL_ODDS) {
            self.kill_a_start().await?;
        }
        self.start();
        self.prove(last).await.context("after the restart")?;
        self.chain.refill()?;
        self.load().await?;
        self.after_kill().context("after the kill")
    }

    /// The last start: what is left is proved, and everything is looked at once more.
    pub(crate) async fn finish(&mut self, last: Notes) -> anyhow::Result<()> {
        self.start();
        self.prove(last).await.context("after the last restart")?;
        // What buries the last blocks.
        self.chain.node.mine(BURIED_CONFIRMATIONS)?;
        self.wait_told("the end of every block", |told| {
            told.blocks.values().all(|block| (block.accepted, block.ended) == (1, 1))
        })?;
        let what = "the files of found blocks to go";
        let folder = self.data_dir().join("found-blocks");
        wait::until_true(what, PATIENCE, || {
            fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none())
        })?;
        self.kill()?;
        self.after_kill().context("after the last kill")?;
        let kept = Kept::copy(&self.data_dir())?;
        kept.check_all(&self.told, &self.reader.up_to(kept.last_event_id, 0)?)
    }

    /// Where everything is, for whoever looks for the defect; it stays.
    pub(crate) fn keep(self) -> (PathBuf, String) {
        let log = self.server.as_ref().map(Running::log);
        let last = self.dir.path().join(format!("log-{}", self.starts));
        let log = log.or_else(|| fs::read_to_string(last).ok()).unwrap_or_default();
        (self.dir.keep(), log)
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn start(&mut self) {
        self.starts += 1;
        let log = self.dir.path().join(format!("log-{}", self.starts));
        self.server = Some(Running::start(&self.dir.path().join("jds.toml"), log));
    }

    fn seat(&self, user: &'static str) -> anyhow::Result<Seat> {
        let address = self.server.as_ref().context("no server")?.listens_at()?;
        let (authority, notebook) = (self.authority, self.notebook.clone());
        Ok(Seat { address, authority, user, notebook })
    }

    /// SIGKILL. Nothing that the server said before was an error.
    fn kill(&mut self) -> anyhow::Result<()> {
        let mut server = self.server.take().context("no server")?;
        let ended = server.child.try_wait()?;
        server.child.kill()?;
        server.child.wait()?;
        self.stats.kills += 1;
        let log = server.log();
        ensure!(ended.is_none(), "the server ended by itself: {ended:?}");
        let bad = log.lines().find(|line| line.contains("ERROR") || line.contains("panicked"));
        ensure!(bad.is_none(), "the server said: {bad:?}");
        Ok(())
    }

    async fn kill_a_start(&mut self) -> anyhow::Result<()> {
        self.start();
        let moment = START_MAX.mul_f64(self.rng.r#gen());
        tokio::time::sleep(moment).await;
        self.stats.kills_while_starting += 1;
        self.kill().context("while it was starting")
    }

    /// Miners declare and solve, until a kill at some moment.
    async fn load(&mut self) -> anyhow::Result<()> {
        let solving = self.rng.gen_bool(SOLUTIONS_ODDS);
        let (publish, work) = watch::channel(self.chain.work()?);
        let killed = Arc::new(AtomicBool::new(false));
        let solve_odds = if solving { SOLVE_ODDS } else { 0.0 };
        let mut miners = Vec::new();
        for user in USERS {
            let play_so = Play { work: work.clone(), killed: Arc::clone(&killed), solve_odds };
            let rng = StdRng::seed_from_u64(self.rng.r#gen());
            miners.push(tokio::spawn(play(self.seat(user)?, play_so, rng)));
        }
        let begin = Instant::now();
        let after_solution = AFTER_SOLUTION_MAX.mul_f64(self.rng.r#gen::<f64>().powi(2));
        let mut moment = (!solving).then(|| begin + LOAD_MAX.mul_f64(self.rng.r#gen()));
        loop {
            let now = Instant::now();
            let solved = self.notebook.with(|notes| !notes.pushed.is_empty());
            let over = miners.iter().all(tokio::task::JoinHandle::is_finished);
            if moment.is_none() && (solved || over) {
                moment = Some(now + after_solution);
            }
            let left = moment.map_or(TIP_POLL, |moment| moment.saturating_duration_since(now));
            if left.is_zero() {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "waited for a first solution: none came");
            tokio::time::sleep(left.min(TIP_POLL)).await;
            if solved && self.chain.node.tip()? != publish.borrow().prev_hash {
                publish.send_replace(self.chain.work()?);
            }
        }
        killed.store(true, Ordering::SeqCst);
        self.kill().context("under load")?;
        for miner in miners {
            tokio::time::timeout(PATIENCE, miner).await.context("a miner to notice the kill")??;
        }
        Ok(())
    }

    /// Compares what the miners were told with what the kill has left.
    fn after_kill(&mut self) -> anyhow::Result<Notes> {
        let notes = self.notebook.take();
        ensure!(notes.failures.is_empty(), "{:?}", notes.failures);
        for attempt in &notes.attempts {
            match attempt.verdict {
                Some(Verdict::Accepted) => self.stats.accepted += 1,
                Some(Verdict::Rejected { .. }) => self.stats.rejected += 1,
                None => self.stats.unanswered += 1,
            }
        }
        self.stats.pushed += notes.pushed.len() as u32;
        let kept = Kept::copy(&self.data_dir())?;
        self.read_events(kept.last_event_id)?;
        let epoch = self.reader.epoch().map(|epoch| epoch.to_string());
        ensure!(epoch.as_ref() == Some(&kept.epoch), "the epoch was {epoch:?}, is {}", kept.epoch);
        self.told.check(&notes.attempts)?;
        let next_height = self.chain.node.height()? + 1;
        kept.check(&notes, &self.told, &self.mint, next_height)?;
        Ok(notes)
    }

    /// After a restart: blocks that were found reach the node, solutions still make blocks, used
    /// tokens stay used, and others are good.
    async fn prove(&mut self, last: Notes) -> anyhow::Result<()> {
        for hash in self.blocks_on_disk()? {
            self.stats.kept_blocks += 1;
            self.wait_in_node(hash, "which the disk held,")?;
        }
        for pushed in &last.pushed {
            self.repeat(pushed).await?;
        }
        let late = self.accepted_before_a_kill(&last).await?;
        self.solve_late(&late).await?;
        let work = self.chain.work()?;
        self.try_used_tokens(&last, &work).await?;
        self.use_a_token_from_before(&last, &work).await
    }

    /// Found blocks whose file was complete at the last kill, or which are in the events.
    fn blocks_on_disk(&self) -> anyhow::Result<Vec<BlockHash>> {
        let names: Vec<_> = match fs::read_dir(self.data_dir().join("found-blocks")) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(_) => Vec::new(),
        };
        // Other names are of files that were not complete.
        let files = names.iter().filter_map(|name| name.to_str()?.parse::<BlockHash>().ok());
        let told = self.told.blocks.keys().map(|hash| hash.parse());
        let mut blocks = told.collect::<Result<Vec<BlockHash>, _>>()?;
        blocks.extend(files);
        blocks.retain(|hash| !self.in_node.contains(hash));
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    fn wait_in_node(&mut self, hash: BlockHash, which: &str) -> anyhow::Result<()> {
        let what = format!("the block {hash}, {which} to reach the node");
        wait::until_true(&what, PATIENCE, || self.chain.knows(&hash))?;
        self.in_node.insert(hash);
        self.wait_block_told(&hash)
    }

    fn wait_block_told(&mut self, hash: &BlockHash) -> anyhow::Result<()> {
        let hash = hash.to_string();
        self.wait_told(&format!("the block {hash}, and that the node has it"), |told| {
            told.blocks.get(&hash).is_some_and(|block| block.accepted > 0)
        })
    }

    /// Waits until the events tell of something, while the server is running.
    fn wait_told(&mut self, of: &str, tell: impl Fn(&Told) -> bool) -> anyhow::Result<()> {
        let told = wait::until(&format!("the events to tell of {of}"), PATIENCE, || {
            match self.read_events(0) {
                Ok(()) => tell(&self.told).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        });
        told.with_context(|| self.reader.place())?
    }

    fn read_events(&mut self, last: u64) -> anyhow::Result<()> {
        let events = self.reader.up_to(last, self.told.events)?;
        self.told.add(&events)
    }

    /// A miner who does not see a block in the chain sends its solution again. So does one here
    /// whose block the node has, and the server does not know of: it was killed in between.
    async fn repeat(&mut self, pushed: &Pushed) -> anyhow::Result<()> {
        let hash = pushed.hash();
        self.read_events(0)?;
        if !self.chain.knows(&hash) || !self.told.blocks.contains_key(&hash.to_string()) {
            self.stats.repeated += 1;
            Miner::connect(self.seat(pushed.user)?).await?.push(pushed).await?;
        }
        self.wait_in_node(hash, "whose solution was sent again,")
    }

    /// A template that was accepted before the last kill, on what is the tip now. If a block of
    /// the last round has moved the tip, the server is killed once more, right after its answer.
    async fn accepted_before_a_kill(&mut self, last: &Notes) -> anyhow::Result<Attempt> {
        let tip = self.chain.follow()?;
        let on_tip = |attempt: &&Attempt| attempt.is_accepted() && attempt.work.prev_hash == tip;
        let candidates: Vec<_> = last.attempts.iter().filter(on_tip).collect();
        if let Some(attempt) = candidates.choose(&mut self.rng) {
            return Ok((*attempt).clone());
        }
        let work = self.chain.work()?;
        let user = USERS[self.rng.gen_range(0..USERS.len())];
        let mut miner = Miner::connect(self.seat(user)?).await?;
        let begin = Instant::now();
        let attempt = loop {
            let attempt = miner.declare_valid(&work, &mut self.rng).await?;
            if attempt.is_accepted() {
                break attempt;
            }
            ensure!(begin.elapsed() < PATIENCE, "waited for the server to see the tip {tip}");
        };
        self.kill().context("right after an answer")?;
        self.after_kill().context("after the kill right after an answer")?;
        self.start();
        Ok(attempt)
    }

    /// The solution of a job that was accepted before the kill comes only now, on a connection
    /// that has declared nothing.
    async fn solve_late(&mut self, attempt: &Attempt) -> anyhow::Result<()> {
        let pushed = self.notebook.solve(attempt)?;
        let hash = pushed.hash();
        Miner::connect(self.seat(pushed.user)?).await?.push(&pushed).await?;
        let mut what = String::new();
        write!(what, "the block {hash} of the template {}, ", attempt.hash)?;
        write!(what, "which {} was told is accepted, to be the node's tip", attempt.user)?;
        let tip = || self.chain.node.tip();
        wait::until_true(&what, PATIENCE, || tip().is_ok_and(|tip| tip == hash))
            .with_context(|| format!("the node says {:?}", tip()))?;
        self.in_node.insert(hash);
        self.stats.late_blocks += 1;
        self.wait_block_told(&hash)
    }

    async fn try_used_tokens(&mut self, last: &Notes, work: &Arc<Work>) -> anyhow::Result<()> {
        let used: Vec<_> =
            last.attempts.iter().filter(|attempt| attempt.verdict.is_some()).collect();
        let mut tried: Vec<_> = used.choose_multiple(&mut self.rng, TOKENS_TRIED).collect();
        tried.sort_unstable_by_key(|attempt| attempt.user);
        for of_user in tried.chunk_by(|one, other| one.user == other.user) {
            let mut miner = Miner::connect(self.seat(of_user[0].user)?).await?;
            for attempt in of_user {
                let (_, outcome) = miner.declare_with(&attempt.token, work, &mut self.rng).await?;
                let refused = matches!(&outcome, DeclareOutcome::Rejected { details, .. }
                    if details.starts_with("reason=token-spent"));
                ensure!(refused, "a used token of {} is good again: {outcome:?}", attempt.user);
                self.stats.tokens_tried_again += 1;
            }
        }
        Ok(())
    }

    async fn use_a_token_from_before(
        &mut self,
        last: &Notes,
        work: &Arc<Work>,
    ) -> anyhow::Result<()> {
        let Some((user, token)) = last.unspent.choose(&mut self.rng) else { return Ok(()) };
        let mut miner = Miner::connect(self.seat(user)?).await?;
        let (mut attempt, outcome) = miner.declare_with(token, work, &mut self.rng).await?;
        attempt.verdict = Some(match &outcome {
            DeclareOutcome::Accepted { .. } => Verdict::Accepted,
            // The server's tip may be behind ours for a moment longer than it waits.
            DeclareOutcome::Rejected { code, .. } if code == "stale-chain-tip" => {
                Verdict::Rejected { code: code.clone() }
            }
            DeclareOutcome::Rejected { .. } => bail!("a token of {user} is lost: {outcome:?}"),
        });
        self.notebook.note(attempt);
        Ok(())
    }
}
