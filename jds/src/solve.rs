//! From `PushSolution` to a block: try every job that it may belong to.
//!
//! A found block has threads of its own here, so that no declaration, check or other work is in
//! front of it. What else could be, other solutions, is one of each connection at a time, and of
//! those that make no block a few each second.

mod mined;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Target, Transaction};
use mining::FoundShare;
use store::{NewBlock, TemplateSource};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{Span, error, info, warn};
use validation::block::{Solution, assemble, solution_header};
use validation::coinbase::EXTRANONCE_BYTES_MAX;
use validation::tip::ChainTip;

use crate::jobs::Job;
use crate::limits::{
    PROVEN_THREADS, SOLUTION_JOBS_MAX, SOLUTION_THREADS_MIN, SOLUTIONS_PENDING_PER_CONNECTION_MAX,
    SOLUTIONS_QUEUED_MAX, SOLUTIONS_WITHOUT_BLOCK_BURST, SOLUTIONS_WITHOUT_BLOCK_INTERVAL,
};
use crate::server::Shared;
use crate::session::{OwnedSolution, Solve};
use crate::submit::{Handover, Told, UnderWay};
use crate::templates::{Built, NoBlock, TemplateSolution};
pub(crate) use mined::FoundTurns;

/// The threads that look at solutions. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Solvers {
    /// What miners say are solutions, one of each connection at a time.
    queue: Sender<Task>,
    /// Places in it.
    line: Line,
    /// Shares that are blocks: there is work behind each, so no bad solution may be in front of it.
    proven: Sender<Task>,
}

/// The places of all connections' solutions.
#[derive(Debug)]
struct Line(Arc<Semaphore>);

impl Default for Line {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SOLUTIONS_QUEUED_MAX)))
    }
}

impl Line {
    /// Waits for a place, first come first served.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// One connection's place in the queue.
#[derive(Debug)]
pub(crate) struct SolutionTurns {
    turn: Arc<Semaphore>,
    without_block: Arc<Mutex<Bucket>>,
}

/// A solution, and what it may be for.
#[derive(Debug)]
pub(crate) enum Request {
    /// `PushSolution`, which names no job (SV2 6.4.9).
    Pushed(Solve),
    /// `SubmitSolution`, for a template of ours (SV2 7.7).
    Submitted(Arc<Built>, TemplateSolution),
    /// A share that makes a block.
    Mined(Box<FoundShare>, Told),
}

impl From<Solve> for Request {
    fn from(request: Solve) -> Self {
        Self::Pushed(request)
    }
}

impl From<(Arc<Built>, TemplateSolution)> for Request {
    fn from((template, solution): (Arc<Built>, TemplateSolution)) -> Self {
        Self::Submitted(template, solution)
    }
}

#[derive(Debug)]
struct Task {
    request: Request,
    received: Instant,
    shared: Arc<Shared>,
    span: Span,
    /// The server does not end before the block is on its way.
    _solving: UnderWay,
    /// Its place in line; of a share its connection's place, until the block is on its way.
    _turn: Option<OwnedSemaphorePermit>,
    /// Whether the solution made a block.
    answer: oneshot::Sender<bool>,
}

impl Solvers {
    /// Starts as many threads as there are cores, and some more for shares.
    ///
    /// # Errors
    /// The system's, when it gives us no thread.
    pub(crate) fn spawn(cores: usize) -> io::Result<Self> {
        let queue = Self::threads("solve", cores.max(SOLUTION_THREADS_MIN))?;
        let proven = Self::threads("solve-share", PROVEN_THREADS)?;
        Ok(Self { queue, line: Line::default(), proven })
    }

    fn threads(name: &str, count: usize) -> io::Result<Sender<Task>> {
        let (queue, tasks) = channel();
        let tasks = Arc::new(Mutex::new(tasks));
        for _ in 0..count {
            let tasks = Arc::clone(&tasks);
            thread::Builder::new().name(name.into()).spawn(move || serve(&tasks))?;
        }
        Ok(queue)
    }

    /// Takes a solution in, and returns when it is in line. Waits while the connection's last one
    /// is looked at, and a while longer after too many that made no block.
    pub(crate) async fn take_in(
        shared: &Arc<Shared>,
        turns: &SolutionTurns,
        request: impl Into<Request>,
        received: Instant,
    ) {
        // The semaphore is never closed.
        let turn = Arc::clone(&turns.turn).acquire_owned().await;
        // Until then the peer's connection stays, and its place among those of its address.
        let place = shared.solvers.line.take().await;
        let (answer, answered) = oneshot::channel();
        let task = Task {
            request: request.into(),
            received,
            shared: Arc::clone(shared),
            span: Span::current(),
            _solving: shared.submitter.solving(),
            _turn: place,
            answer,
        };
        if shared.solvers.queue.send(task).is_err() {
            error!("the threads that look at solutions have ended");
        }
        let without_block = Arc::clone(&turns.without_block);
        tokio::spawn(async move {
            if answered.await != Ok(true) {
                let pause = lock(&without_block).take(Instant::now());
                tokio::time::sleep(pause).await;
            }
            drop(turn);
        });
    }
}

impl Default for SolutionTurns {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(SOLUTIONS_PENDING_PER_CONNECTION_MAX)),
            without_block: Arc::new(Mutex::new(Bucket { full_at: Instant::now() })),
        }
    }
}

/// Counts solutions that make no block: some at once, then a few each second.
#[derive(Debug)]
struct Bucket {
    /// When all of the burst is there again.
    full_at: Instant,
}

impl Bucket {
    /// Takes one; how long the next has to wait.
    fn take(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + SOLUTIONS_WITHOUT_BLOCK_INTERVAL;
        let burst = SOLUTIONS_WITHOUT_BLOCK_INTERVAL * SOLUTIONS_WITHOUT_BLOCK_BURST;
        self.full_at.duration_since(now).saturating_sub(burst)
    }
}

fn serve(tasks: &Mutex<Receiver<Task>>) {
    loop {
        let task = lock(tasks).recv();
        let Ok(Task { request, received, shared, span, _solving, _turn, answer }) = task else {
            return;
        };
        let _entered = span.enter();
        // A defect must not take a thread away from the blocks to come.
        let found = catch_unwind(AssertUnwindSafe(|| solve(&shared, request, received)));
        let found = found.unwrap_or_else(|_| {
            error!("looking for the block of a solution ended abnormally");
            false
        });
        // The connection may have gone.
        let _ = answer.send(found);
    }
}

/// Finds the job that the solution makes a block of, and submits that block to every node. Whether
/// it made one that was not known.
fn solve(shared: &Arc<Shared>, request: Request, received: Instant) -> bool {
    let (end, told) = match request {
        Request::Pushed(request) => (find(shared, &request), None),
        Request::Submitted(template, solution) => (of_template(shared, &template, &solution), None),
        Request::Mined(share, told) => (mined::block(shared, &share), Some(told)),
    };
    let result = match end {
        End::Block(block, handover) => {
            match shared.submitter.submit_with(block, handover, received, told) {
                true => BLOCK,
                false => KNOWN,
            }
        }
        End::Announced(block) => match shared.submitter.announce(block, told) {
            true => ANNOUNCED,
            false => KNOWN,
        },
        End::Known(hash) => {
            info!(block = %hash, "block found again, it is under way already");
            shared.submitter.tell_when_kept(&hash, told);
            KNOWN
        }
        End::None(tried) if tried.above_target > 0 => "above_target",
        End::None(_) => "no_job",
    };
    shared.submitter.metrics().solution(result);
    result == BLOCK
}

/// What is counted of solutions: one that made a block, and one of a block that was found before.
const BLOCK: &str = "block";
/// See [`BLOCK`]: one that only the miner can submit.
const ANNOUNCED: &str = "announced";
/// See [`BLOCK`].
const KNOWN: &str = "known_block";

/// What came of a solution.
enum End {
    Block(NewBlock, Option<Handover>),
    /// A block whose transactions only its miner has.
    Announced(NewBlock),
    /// A block that was found before.
    Known(BlockHash),
    None(Tried),
}

/// Jobs that made no block, by the reason.
#[derive(Debug, Default, Clone, Copy)]
struct Tried {
    above_target: usize,
    other_extranonce: usize,
    other_height: usize,
}

/// A solution in search of its job.
struct Search<'a> {
    shared: &'a Shared,
    solution: Solution<'a>,
    /// The block that it builds on, if our nodes know it.
    parent: Option<ChainTip>,
    tip: Option<ChainTip>,
    tried: Tried,
}

fn find(shared: &Shared, request: &Solve) -> End {
    let prev_hash = BlockHash::from_byte_array(request.solution.prev_hash);
    let mut search = Search {
        shared,
        solution: as_solution(&request.solution, prev_hash),
        parent: shared.nodes.tip_by_hash(&prev_hash),
        tip: shared.nodes.tip(),
        tried: Tried::default(),
    };
    let jobs = candidates(shared, request);
    if let Some(end) = jobs.iter().find_map(|job| search.look_at(job)) {
        return end;
    }
    // After a restart of ours a miner is back with a solution before it has said who it is. One
    // that comes again for a single job has been through this.
    if request.jobs.is_empty() || !request.users.is_empty() {
        let length = request.solution.extranonce.len();
        let tried: Vec<u64> = jobs.iter().map(|job| job.number).collect();
        let max = SOLUTION_JOBS_MAX - tried.len();
        let others = shared.jobs.on_parent(&prev_hash, length, &tried, max);
        if let Some(end) = others.iter().find_map(|job| search.look_at(job)) {
            return end;
        }
    }
    let tried = search.tried;
    warn!(
        %prev_hash,
        above_target = tried.above_target,
        other_extranonce_length = tried.other_extranonce,
        other_height = tried.other_height,
        "a solution makes a block of none of the jobs"
    );
    End::None(tried)
}

/// The user in whose name blocks of template distribution are recorded: the protocol has no users,
/// and what a client calls itself could be anybody's name.
const TEMPLATE_USER: &str = "template-distribution";

/// The block that a solution makes of the template that it is for.
fn of_template(shared: &Shared, template: &Built, solution: &TemplateSolution) -> End {
    // Our own word on the target.
    let tip = *template.tip();
    let judged_by = shared.nodes.tip_by_hash(&tip.hash).unwrap_or(tip);
    let bits = judged_by.next_bits.at(solution.ntime);
    let found = template.header(solution, bits).and_then(|(header, coinbase)| {
        let hash = header.block_hash();
        // The same solution again does not make us write a block each time.
        if shared.submitter.knows(&hash) {
            return Ok(End::Known(hash));
        }
        let block = template.block(header, &coinbase)?;
        let reward: u64 =
            coinbase.output.iter().fold(0, |sum, out| sum.saturating_add(out.value.to_sat()));
        let handover = template.handover(&header, &serialize(&coinbase)).map(Handover::from);
        // A client may declare what it got here, and then hands its block in both ways.
        let job = declared_with(shared, &header, &coinbase);
        let job = job.as_deref();
        let block = NewBlock {
            user: job.map_or(TEMPLATE_USER, |job| job.user.name.as_str()).into(),
            height: tip.next_height(),
            template_source: job.map_or(TemplateSource::Pool, |_| TemplateSource::Miner),
            template_hash: job.map(|job| job.accepted.template_hash()),
            reward_sat: reward,
            block: Arc::new(block),
        };
        Ok(End::Block(block, handover))
    });
    found.unwrap_or_else(|error| {
        warn!(template = template.id(), %error, "a solution makes no block of its template");
        let above_target = usize::from(error == NoBlock::AboveTarget);
        End::None(Tried { above_target, ..Tried::default() })
    })
}

/// The declared job that a block was mined on: it has its coinbase, but for the extranonce, which ends
/// the script, and its transactions.
fn declared_with(shared: &Shared, header: &Header, coinbase: &Transaction) -> Option<Arc<Job>> {
    let [input] = coinbase.input.as_slice() else { return None };
    let (script, txid) = (input.script_sig.as_bytes(), coinbase.compute_txid());
    (1..=script.len().min(EXTRANONCE_BYTES_MAX as usize)).find_map(|length| {
        let (_, extranonce) = script.split_at_checked(script.len() - length)?;
        let on_parent = &header.prev_blockhash;
        let jobs = shared.jobs.on_parent(on_parent, length, &[], SOLUTION_JOBS_MAX);
        jobs.into_iter().find(|job| {
            job.accepted.coinbase().txid_with(extranonce) == txid
                && job.body().merkle_root(txid) == header.merkle_root
        })
    })
}

impl Search<'_> {
    /// The block that the solution makes with this job, if it makes one.
    fn look_at(&mut self, job: &Arc<Job>) -> Option<End> {
        let (accepted, solution) = (&job.accepted, &self.solution);
        // A job of another height can not be a block on this parent (BIP 34).
        if self.parent.is_some_and(|parent| parent.next_height() != accepted.height()) {
            self.tried.other_height += 1;
            return None;
        }
        // Before anything is made of the job's transactions.
        if accepted.coinbase().extranonce_len() != solution.extranonce.len() {
            self.tried.other_extranonce += 1;
            return None;
        }
        // Our own word on the target, never the peer's: of this very parent, or of the tip that
        // the job was accepted on, or of the present tip, which differs from the parent's only
        // at the border of a difficulty period.
        let own = Some(*accepted.tip()).filter(|tip| tip.hash == solution.prev_hash);
        let judged_by = self.parent.or(own).or(self.tip).unwrap_or(*accepted.tip());
        let end = self.try_job(job, judged_by.next_bits.at(solution.ntime));
        if end.is_none() {
            self.tried.above_target += 1;
        }
        end
    }

    fn try_job(&self, job: &Job, bits: CompactTarget) -> Option<End> {
        let (body, solution) = (job.body(), &self.solution);
        let (header, _) = solution_header(&job.accepted, &body, solution, bits).ok()?;
        let hash = header.block_hash();
        if !Target::from_compact(bits).is_met_by(hash) {
            return None;
        }
        // The same solution again, time after time, does not make us write a block each time.
        if self.shared.submitter.knows(&hash) {
            return Some(End::Known(hash));
        }
        let block = assemble(&job.accepted, &body, solution, bits).ok()?;
        let block = NewBlock {
            user: job.user.name.as_str().into(),
            height: job.accepted.height(),
            template_source: TemplateSource::Miner,
            template_hash: Some(job.accepted.template_hash()),
            reward_sat: job.accepted.reward_sat(),
            block: Arc::new(block),
        };
        Some(End::Block(block, None))
    }
}

/// Jobs of the connection first, newest first, then other jobs of its users.
fn candidates(shared: &Shared, request: &Solve) -> Vec<Arc<Job>> {
    let mut jobs = request.jobs.clone();
    for tag in request.users.iter().flat_map(|user| user.tags()) {
        for job in shared.jobs.of_user(tag) {
            if jobs.len() >= SOLUTION_JOBS_MAX {
                break;
            }
            if !jobs.iter().any(|known| known.number == job.number) {
                jobs.push(job);
            }
        }
    }
    jobs.truncate(SOLUTION_JOBS_MAX);
    jobs
}

fn as_solution(solution: &OwnedSolution, prev_hash: BlockHash) -> Solution<'_> {
    Solution {
        extranonce: &solution.extranonce,
        prev_hash,
        nonce: solution.nonce,
        ntime: solution.ntime,
        version: solution.version,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
