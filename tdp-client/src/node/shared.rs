//! What the threads of one node share, and the only place that publishes and logs it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, CompactTarget, Network, Work};
use tokio::sync::watch;
use validation::tip::{ChainTip, MinDifficulty, NextBits};

use super::TemplateHold;
use crate::error::NodeError;
use crate::followed::SourceKind;
use crate::limits::{BACKOFF_MAX_MS, BACKOFF_MIN_MS, SYNC_LOG_MS};
use crate::source::{NodeState, Template, TipState};
use crate::tips::RecentTips;

/// State of one node or template provider, as its threads see it.
pub(crate) struct Shared {
    /// The operator's name for it.
    pub(crate) node: Arc<str>,
    pub(crate) kind: SourceKind,
    /// Where it is: a URL, the path of a socket, or an address.
    place: Arc<str>,
    pub(crate) network: Network,
    pub(crate) state: watch::Sender<NodeState>,
    pub(crate) tip: watch::Sender<Option<Arc<TipState>>>,
    pub(crate) template: watch::Sender<Option<Arc<Template>>>,
    pub(super) signal: Signal,
    sessions: AtomicU64,
    /// The last connection on which the node was found to look no transactions up; 0 for none.
    lacks_lookup: AtomicU64,
    tips: Mutex<RecentTips>,
    template_error: Mutex<Option<NodeError>>,
    pub(super) template_hold: OnceLock<TemplateHold>,
    sync_told: Mutex<SyncTold>,
}

/// What the log has heard of a download.
#[derive(Debug, Default)]
struct SyncTold {
    at: Option<Instant>,
    /// How long it takes.
    estimated: bool,
}

impl Shared {
    pub(crate) fn new(node: Arc<str>, kind: SourceKind, place: Arc<str>, network: Network) -> Self {
        Self {
            node,
            kind,
            place,
            network,
            state: watch::Sender::new(NodeState::Connecting { error: None }),
            tip: watch::Sender::new(None),
            template: watch::Sender::new(None),
            signal: Signal::default(),
            sessions: AtomicU64::new(0),
            lacks_lookup: AtomicU64::new(0),
            tips: Mutex::default(),
            template_error: Mutex::default(),
            template_hold: OnceLock::new(),
            sync_told: Mutex::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    pub(crate) fn tip_by_hash(&self, hash: &BlockHash) -> Option<ChainTip> {
        lock(&self.tips).get(hash)
    }

    pub(crate) fn template_error(&self) -> Option<NodeError> {
        lock(&self.template_error).clone()
    }

    /// Publishes the state if it differs, and logs what an operator would call a change.
    pub(crate) fn set_state(&self, new: NodeState) {
        let (node, kind) = (&*self.node, self.kind.as_str());
        self.state.send_if_modified(|state| {
            if *state == new {
                return false;
            }
            match &new {
                NodeState::Connecting { error: Some(error) } => {
                    tracing::warn!(node, kind, %error, "node is not usable; trying again until it is");
                }
                NodeState::Connecting { error: None } => {}
                NodeState::Syncing { progress, blocks, headers, left } => {
                    if self.is_sync_news(state, &new) {
                        let percent = format_args!("{:.1}", progress * 100.0);
                        let left = left.map(tracing::field::display);
                        tracing::info!(node, %percent, blocks, headers, left, "node syncs the chain");
                    }
                }
                NodeState::Ready => {
                    tracing::info!(node, kind, at = &*self.place, "node is ready");
                }
            }
            *state = new;
            true
        });
    }

    /// Whether the log is to hear of a download: at each twentieth, when there is a first estimate, and
    /// every [`SYNC_LOG_MS`].
    fn is_sync_news(&self, old: &NodeState, new: &NodeState) -> bool {
        let mut told = lock(&self.sync_told);
        if twentieths(old).is_none() {
            *told = SyncTold::default();
        }
        let estimated = matches!(new, NodeState::Syncing { left: Some(_), .. });
        let due = told.at.is_none_or(|at| at.elapsed() >= Duration::from_millis(SYNC_LOG_MS));
        let is_news = due || estimated && !told.estimated || twentieths(old) != twentieths(new);
        if is_news {
            *told = SyncTold { at: Some(Instant::now()), estimated: told.estimated || estimated };
        }
        is_news
    }

    /// The tip is published and followed from here on: templates are wanted.
    pub(crate) fn begin_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.set_state(NodeState::Ready);
        self.signal.refresh();
    }

    /// Counts connections: what the node numbers may start anew with each.
    pub(super) fn session(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// The node has no way to look transactions up. It may come back with another version.
    pub(super) fn set_lacks_lookup(&self) {
        self.lacks_lookup.store(self.session(), Ordering::Relaxed);
    }

    pub(super) fn lacks_lookup(&self) -> bool {
        let found = self.lacks_lookup.load(Ordering::Relaxed);
        found > 0 && found == self.session()
    }

    /// Publishes a new tip.
    pub(crate) fn set_tip(&self, tip: ChainTip, work: Option<Work>) {
        lock(&self.tips).push(tip);
        self.tip.send_replace(Some(Arc::new(TipState { tip, work, seen_at: Instant::now() })));
        let ChainTip { hash, height, .. } = tip;
        tracing::info!(node = &*self.node, %hash, height, "new tip");
    }

    /// Records whether templates can be had; logs changes.
    pub(crate) fn set_template_error(&self, new: Option<NodeError>) {
        let mut error = lock(&self.template_error);
        if *error == new {
            return;
        }
        match &new {
            Some(error) => tracing::warn!(%error, "no template from the node; trying again"),
            None => tracing::info!(node = &*self.node, "templates from the node again"),
        }
        *error = new;
    }

    /// The node is away: what its templates were like no longer says anything.
    pub(crate) fn forget_template_error(&self) {
        *lock(&self.template_error) = None;
    }

    /// Compares our own rule for `nBits` with the node's template, and follows the node where they
    /// differ: a block with other bits than the node demands is worth nothing.
    pub(super) fn check_bits(&self, prev_hash: &BlockHash, time: u32, bits: CompactTarget) {
        self.tip.send_if_modified(|tip| {
            let Some(current) = tip.as_deref().filter(|state| state.tip.hash == *prev_hash) else {
                return false;
            };
            let Some(next_bits) = corrected(current.tip.next_bits, time, bits) else {
                return false;
            };
            tracing::error!(
                node = &*self.node,
                ours = %format_args!("{:08x}", current.tip.next_bits.at(time)),
                nodes = %format_args!("{bits:08x}"),
                "our rule for nBits disagrees with the node's template; using the node's"
            );
            let corrected = TipState { tip: ChainTip { next_bits, ..current.tip }, ..*current };
            lock(&self.tips).push(corrected.tip);
            *tip = Some(Arc::new(corrected));
            true
        });
    }
}

/// `None` when `ours` already gives `bits` at `time`.
fn corrected(ours: NextBits, time: u32, bits: CompactTarget) -> Option<NextBits> {
    if ours.at(time) == bits {
        return None;
    }
    Some(match ours.min_difficulty {
        Some(exception) if time > exception.after => {
            NextBits { min_difficulty: Some(MinDifficulty { bits, ..exception }), ..ours }
        }
        _ => NextBits { regular: bits, ..ours },
    })
}

/// Which twentieth of the synchronisation it is in, so that the log gets one line for each.
fn twentieths(state: &NodeState) -> Option<u32> {
    match state {
        NodeState::Syncing { progress, .. } => Some((progress * 20.0) as u32),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is held under these locks can be left half changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes sleeping threads: to stop, or to fetch a template.
#[derive(Default)]
pub(super) struct Signal {
    inner: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct SignalState {
    stopped: bool,
    refreshes: u64,
}

/// Why a thread woke up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Stop,
    Refresh,
    Timeout,
}

impl Signal {
    /// All threads end as soon as they look.
    pub(super) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.changed.notify_all();
    }

    /// A template is wanted now.
    pub(super) fn refresh(&self) {
        lock(&self.inner).refreshes += 1;
        self.changed.notify_all();
    }

    pub(super) fn stopped(&self) -> bool {
        lock(&self.inner).stopped
    }

    /// Sleeps unless stopped. True when it is time to stop.
    pub(super) fn sleep(&self, duration: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(lock(&self.inner), duration, |s| !s.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    /// Sleeps until stopped, or until a refresh other than `seen` was asked for.
    pub(super) fn wait(&self, seen: &mut u64, duration: Duration) -> Wake {
        let (state, _) = self
            .changed
            .wait_timeout_while(lock(&self.inner), duration, |s| !s.stopped && s.refreshes == *seen)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            Wake::Stop
        } else if state.refreshes == *seen {
            Wake::Timeout
        } else {
            *seen = state.refreshes;
            Wake::Refresh
        }
    }
}

/// Pauses that double from [`BACKOFF_MIN_MS`] to [`BACKOFF_MAX_MS`].
pub(crate) struct Backoff(u64);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(BACKOFF_MIN_MS)
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let now_ms = self.0;
        self.0 = (now_ms * 2).min(BACKOFF_MAX_MS);
        Duration::from_millis(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TimeLeft;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause().as_millis() as u64).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.pause().as_millis() as u64, BACKOFF_MIN_MS);
    }

    #[test]
    fn refreshes_are_seen_once_and_a_stop_for_ever() {
        let signal = Signal::default();
        let mut seen = 0;
        signal.refresh();
        signal.refresh();
        assert_eq!(signal.wait(&mut seen, Duration::ZERO), Wake::Refresh);
        assert_eq!(signal.wait(&mut seen, Duration::ZERO), Wake::Timeout);
        signal.stop();
        assert_eq!(signal.wait(&mut seen, Duration::MAX), Wake::Stop);
        assert!(signal.sleep(Duration::MAX));
    }

    #[test]
    fn the_log_hears_of_a_download_now_and_then() {
        let shared =
            Shared::new("main".into(), SourceKind::BitcoinCore, "there".into(), Network::Signet);
        let syncing = |progress, seconds: Option<u64>| NodeState::Syncing {
            progress,
            blocks: 1,
            headers: 2,
            left: seconds.and_then(|s| TimeLeft::by_pace(0.0, 0.5, Duration::from_secs(s))),
        };
        let before = NodeState::Connecting { error: None };
        let (first, more) = (syncing(0.5, None), syncing(0.51, None));
        assert!(shared.is_sync_news(&before, &first), "it begins");
        assert!(!shared.is_sync_news(&first, &more));
        assert!(shared.is_sync_news(&more, &syncing(0.51, Some(60))), "a first estimate");
        assert!(!shared.is_sync_news(&more, &syncing(0.51, Some(70))), "and another");
        assert!(!shared.is_sync_news(&syncing(0.51, Some(70)), &more));
        assert!(!shared.is_sync_news(&more, &syncing(0.52, Some(80))));
        assert!(shared.is_sync_news(&more, &syncing(0.56, Some(80))), "the next twentieth");
        assert!(shared.is_sync_news(&before, &first), "it begins again");
    }

    #[test]
    fn the_nodes_bits_win_over_ours() {
        let (easy, hard) =
            (CompactTarget::from_consensus(0x1d00_ffff), CompactTarget::from_consensus(5));
        let other = CompactTarget::from_consensus(7);
        let plain = NextBits::fixed(hard);
        assert_eq!(corrected(plain, 1, hard), None);
        assert_eq!(corrected(plain, 1, other), Some(NextBits::fixed(other)));
        let exception = MinDifficulty { after: 100, bits: easy };
        let testnet = NextBits { regular: hard, min_difficulty: Some(exception) };
        assert_eq!(corrected(testnet, 100, hard), None);
        assert_eq!(corrected(testnet, 101, easy), None);
        assert_eq!(corrected(testnet, 100, other).unwrap().at(100), other);
        assert_eq!(corrected(testnet, 101, other).unwrap().at(101), other);
        assert_eq!(corrected(testnet, 101, other).unwrap().at(100), hard);
    }
}
