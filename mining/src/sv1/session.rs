//! The connection as a state machine.
#![deny(clippy::indexing_slicing)]

mod jobs;
mod shares;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Target};
use serde_json::{Value, json};

use super::configure::configure;
use super::difficulty::{DIFFICULTY_MAX, from_json, not_easier_than, rounded};
use super::fields;
use super::refusal::Refusal;
use super::rpc::{Incoming, Request, answer, notification};
use super::workers::{Authorized, Workers};
use crate::channel::{Channel, Open};
use crate::limits::{
    EXTRANONCE_PREFIX_BYTES, JOB_AGE_MAX, SETUP_TIMEOUT, SV1_EXTRANONCE2_BYTES, SV1_FAULTS_MAX,
    SV1_FAULTS_WINDOW, SV1_SUGGEST_INTERVAL,
};
use crate::target::HASHES_PER_DIFFICULTY;
use crate::{Action, ChannelClosed, ChannelKind, ChannelOpened, Deps, Input, Now, PoolWork};

/// Number of the one channel that a connection has inside; what is recorded has the worker's.
const CHANNEL_ID: u32 = 1;

/// The name that `client.get_version` is answered with.
const VERSION: &str = concat!("jds/", env!("CARGO_PKG_VERSION"));

/// The method that a worker logs in with.
const AUTHORIZE: &str = "mining.authorize";

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    deps: Arc<Deps>,
    extranonce1: [u8; EXTRANONCE_PREFIX_BYTES],
    subscribed: bool,
    /// The miner takes `mining.set_extranonce`.
    takes_extranonce: bool,
    /// Bits of nVersion that the miner may change.
    version_mask: u32,
    /// The easiest target that the miner takes.
    max_target: Target,
    /// What the miner is taken for, hashes per second.
    nominal_hashrate: f32,
    last_suggestion: Option<Instant>,
    workers: Workers,
    channel: Option<Channel>,
    work: Option<Arc<PoolWork>>,
    /// The newest tip that we were told of: work on another is not given out.
    tip: Option<BlockHash>,
    given: Option<Given>,
    /// Something changed that the miner learns with a job.
    job_due: bool,
    last_job_id: u32,
    told_difficulty: Option<f64>,
    faults: Faults,
    set_up_until: Option<Instant>,
    closed: bool,
    actions: VecDeque<Action>,
}

/// The newest job that the miner was given.
#[derive(Debug)]
struct Given {
    tip: BlockHash,
    /// It is worth nothing any more.
    stale: bool,
    work: u64,
    ntime: u32,
    since: Instant,
}

/// Requests without use, counted over a window.
#[derive(Debug)]
struct Faults {
    count: u32,
    since: Instant,
}

/// The name that a line of a client wants to log in with; none for all other lines.
pub fn asks_for(line: &[u8]) -> Option<String> {
    let Ok(Incoming::Request(request)) = Incoming::parse(line) else { return None };
    let name = request.params.first().and_then(Value::as_str);
    name.filter(|_| request.method == AUTHORIZE).map(str::to_owned)
}

impl Session {
    /// A session of a new connection.
    pub fn new(deps: Arc<Deps>, now: Now) -> Self {
        Self {
            extranonce1: deps.extranonces.next(),
            subscribed: false,
            takes_extranonce: false,
            version_mask: 0,
            max_target: Target::from_le_bytes([0xff; 32]),
            nominal_hashrate: deps.settings.sv1_start_hashrate,
            last_suggestion: None,
            workers: Workers::default(),
            channel: None,
            work: None,
            tip: None,
            given: None,
            job_due: false,
            last_job_id: 0,
            told_difficulty: None,
            faults: Faults { count: 0, since: now.instant },
            set_up_until: Some(now.instant + SETUP_TIMEOUT),
            closed: false,
            actions: VecDeque::new(),
            deps,
        }
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] has to come at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let job_ends = self.given.as_ref().map(|given| given.since + JOB_AGE_MAX);
        let look = self.channel.as_ref().map(Channel::deadline);
        [self.set_up_until, job_ends, look].into_iter().flatten().min()
    }

    /// True once a worker is authorized.
    pub fn is_set_up(&self) -> bool {
        self.channel.is_some()
    }

    /// Takes one input in. Whatever follows comes out of [`Self::poll_action`]. After
    /// [`Action::Close`] there is nothing more.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        if let Input::Disconnected = input {
            return self.end();
        }
        if self.closed {
            return;
        }
        match input {
            Input::Line(line) => self.on_line(line, now),
            Input::StrangerLine(line) => self.on_stranger(line, now),
            Input::Work(work) => {
                if self.work.as_ref().is_none_or(|newest| work.number > newest.number) {
                    self.tip = Some(work.tip.hash);
                    self.work = Some(work);
                    self.give_job(now);
                }
            }
            Input::Tip(tip) => self.on_tip(tip.hash, now),
            Input::Tick => self.on_tick(now),
            Input::Shutdown => {
                // Without a host: to where it is connected now.
                self.send(notification("client.reconnect", &json!([])));
                self.close("the server ends");
            }
            // Nothing of Stratum V2 comes here.
            Input::Frame(_)
            | Input::StrangerFrame(_)
            | Input::CustomJob { .. }
            | Input::Disconnected => {}
        }
    }

    fn on_tick(&mut self, now: Now) {
        if self.set_up_until.is_some_and(|until| now.instant >= until) {
            let missing = if self.subscribed { "mining.authorize" } else { "mining.subscribe" };
            return self.close(&format!("no {missing} within {} s", SETUP_TIMEOUT.as_secs()));
        }
        self.look_at_rate(now);
        let old = |given: &Given| now.instant.saturating_duration_since(given.since) >= JOB_AGE_MAX;
        if self.given.as_ref().is_some_and(old) {
            self.give_job(now);
        }
    }

    fn on_line(&mut self, line: &[u8], now: Now) {
        // Some clients end a line twice.
        if line.trim_ascii().is_empty() {
            return;
        }
        match Incoming::parse(line) {
            Ok(Incoming::Answer) => {}
            Ok(Incoming::Request(request)) => self.on_request(&request, now),
            Err(problem) => self.close(&problem.to_string()),
        }
    }

    fn on_request(&mut self, request: &Request, now: Now) {
        let params = request.params.as_slice();
        let outcome = match request.method.as_str() {
            // It answers by itself: an accepted share waits for the disk.
            "mining.submit" => match self.submit(params, request.id.as_ref(), now) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            "mining.subscribe" => Ok(self.subscribe()),
            AUTHORIZE => self.authorize(params),
            "mining.configure" => self.configure(params, now),
            "mining.suggest_difficulty" => self.suggest(params.first().and_then(from_json), now),
            "mining.suggest_target" => self.suggest(params.first().and_then(target_field), now),
            "mining.extranonce.subscribe" => {
                self.takes_extranonce = true;
                Ok(true.into())
            }
            "mining.ping" => Ok("pong".into()),
            "client.get_version" => Ok(VERSION.into()),
            _ => Err(Refusal::no_such_method()),
        };
        let refused = outcome.is_err();
        if let Some(id) = &request.id {
            self.send(answer(id, outcome));
        }
        if refused && self.faults.add(now.instant) {
            return self.close("too many requests without use");
        }
        self.start(now);
        if std::mem::take(&mut self.job_due) {
            self.give_job(now);
        }
    }

    /// The login of somebody who may not mine here.
    fn on_stranger(&mut self, line: &[u8], now: Now) {
        let Ok(Incoming::Request(request)) = Incoming::parse(line) else { return };
        if let Some(id) = &request.id {
            let refusal = Refusal::unauthorized("this user may not mine here");
            self.send(answer(id, Err(refusal)));
        }
        if self.faults.add(now.instant) {
            self.close("too many requests without use");
        }
    }

    fn subscribe(&mut self) -> Value {
        self.subscribed = true;
        let extranonce1 = self.extranonce1.to_lower_hex_string();
        json!([
            [["mining.set_difficulty", extranonce1], ["mining.notify", extranonce1]],
            extranonce1,
            SV1_EXTRANONCE2_BYTES,
        ])
    }

    fn authorize(&mut self, params: &[Value]) -> Result<Value, Refusal> {
        let Some(name) = params.first().and_then(Value::as_str) else {
            return Err(Refusal::other("mining.authorize takes a user name and a password"));
        };
        if let Authorized::New(worker) = self.workers.authorize(name, &self.deps)? {
            self.actions.push_back(Action::Opened(ChannelOpened {
                user: worker.identity.user,
                worker: worker.identity.worker,
                channel_id: worker.channel_id,
                work_selection: false,
                setup_flags: 0,
                kind: ChannelKind::Worker,
                target: self.told_difficulty.and(self.channel.as_ref()).map(Channel::target),
            }));
        }
        Ok(true.into())
    }

    fn configure(&mut self, params: &[Value], now: Now) -> Result<Value, Refusal> {
        let granted = configure(params)?;
        self.takes_extranonce |= granted.extranonce;
        if let Some(minimum) = granted.minimum_difficulty {
            self.max_target = not_easier_than(minimum);
            self.update_rate(now);
        }
        if let Some(mask) = granted.version_mask
            && mask != self.version_mask
        {
            self.version_mask = mask;
            self.job_due = true;
        }
        Ok(granted.result)
    }

    /// A difficulty that the miner would like: what it is taken for from now on, but not less than
    /// anybody is.
    fn suggest(&mut self, difficulty: Option<f64>, now: Now) -> Result<Value, Refusal> {
        let Some(difficulty) = difficulty else {
            return Err(Refusal::other("no difficulty above 0"));
        };
        let recent =
            |last: Instant| now.instant.saturating_duration_since(last) < SV1_SUGGEST_INTERVAL;
        if self.last_suggestion.is_some_and(recent) {
            return Err(Refusal::other("another difficulty was suggested a moment ago"));
        }
        self.last_suggestion = Some(now.instant);
        let per_second = f64::from(self.deps.settings.shares_per_minute) / 60.0;
        let difficulty = difficulty.min(DIFFICULTY_MAX);
        self.nominal_hashrate = (difficulty * HASHES_PER_DIFFICULTY * per_second) as f32;
        self.update_rate(now);
        Ok(true.into())
    }

    /// Opens the channel as soon as it is known who mines and the miner knows its extranonce.
    fn start(&mut self, now: Now) {
        if !self.subscribed || self.channel.is_some() {
            return;
        }
        let Some((first, _)) = self.workers.first() else {
            return;
        };
        let open = Open {
            channel_id: CHANNEL_ID,
            identity: first.clone(),
            nominal_hashrate: self.nominal_hashrate,
            max_target: self.max_target,
            extranonce_prefix: self.extranonce1,
            padding_bytes: 0,
            rolled_bytes: SV1_EXTRANONCE2_BYTES,
            settings: &self.deps.settings,
        };
        match Channel::open(open, now) {
            Ok(channel) => {
                self.channel = Some(channel.rounding(rounded));
                self.set_up_until = None;
                self.job_due = true;
            }
            Err(problem) => self.close(&format!("no channel: {problem}")),
        }
    }

    fn send(&mut self, line: String) {
        self.actions.push_back(Action::Line(line));
    }

    fn end(&mut self) {
        self.closed = true;
        for worker in self.workers.take() {
            self.actions.push_back(Action::Closed(ChannelClosed {
                user: worker.identity.user,
                channel_id: worker.channel_id,
            }));
        }
    }

    fn close(&mut self, reason: &str) {
        self.closed = true;
        self.actions.push_back(Action::Close(reason.to_owned()));
    }
}

impl Faults {
    /// One more. True when there were too many.
    fn add(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= SV1_FAULTS_WINDOW {
            *self = Self { count: 0, since: now };
        }
        self.count += 1;
        self.count > SV1_FAULTS_MAX
    }
}

/// A target as 64 hex digits, big endian, as a difficulty.
fn target_field(value: &Value) -> Option<f64> {
    let bytes = fields::bytes_hex(value.as_str()?, 32)?;
    let target = Target::from_be_bytes(bytes.try_into().ok()?);
    Some(target.difficulty_float()).filter(|difficulty| difficulty.is_finite())
}
