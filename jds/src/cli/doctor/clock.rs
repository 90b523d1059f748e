//! Our clock against those of the nodes and their peers. A wrong clock is the usual cause of failed
//! handshakes: the certificate in each has a time, and miners forgive little.

use std::time::{SystemTime, UNIX_EPOCH};

use jds_wire::CLOCK_LEEWAY_S;
use tdp_client::{ClockFacts, NetworkFacts};

use super::code::Code;
use super::node::Answers;
use super::report::Check;

const CLOCK: &str = "clock";

/// From here on a clock deserves a look, milliseconds.
const DRIFT_MS: i64 = 5_000;

/// More than a handshake forgives, milliseconds.
const LEEWAY_MS: i64 = CLOCK_LEEWAY_S as i64 * 1_000;

/// How far a block's time may be ahead of the clocks of the network, seconds (consensus).
const BLOCK_AHEAD_MAX_S: u64 = 2 * 3_600;

const CLOCK_ADVICE: &str = "Set the clock by NTP: `timedatectl` says whether it is, `timedatectl \
                            set-ntp true` switches it on (or install chrony), on this machine and \
                            on the node's.";

/// A node's clock beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockSample {
    /// By how much the node's is ahead of ours, milliseconds.
    pub(super) ahead_ms: i64,
    /// By how much that can be wrong, milliseconds.
    pub(super) error_ms: i64,
    /// By how much its peers' clocks are ahead of the node's, milliseconds; `None` where it has too
    /// few of them.
    pub(super) peers_ahead_ms: Option<i64>,
}

pub(super) fn check(answers: &[Answers]) -> Check {
    let latest_s = answers.iter().filter_map(|answers| answers.chain.as_ref()?.time).max();
    let now_s = now_ms() / 1_000;
    if let Some(time_s) = latest_s.filter(|time_s| *time_s > now_s + BLOCK_AHEAD_MAX_S) {
        let message = format!(
            "the newest block is {} minutes ahead of this machine's clock, which must be behind",
            (time_s - now_s) / 60
        );
        return Check::bad(CLOCK, Code::ClockWrong, message, CLOCK_ADVICE);
    }
    let judged = answers.iter().filter_map(|answers| Some(judge(&answers.name, answers.clock?)));
    // The worst; of two that are equally bad the first.
    judged.rev().max_by_key(|check| check.status).unwrap_or_else(|| {
        Check::bad(
            CLOCK,
            Code::ClockUnknown,
            format!(
                "no node told its time to compare with; handshakes fail when clocks differ by more \
                 than {CLOCK_LEEWAY_S} seconds"
            ),
            CLOCK_ADVICE,
        )
    })
}

/// Our clock by what this node and its peers say.
fn judge(node: &str, clock: ClockSample) -> Check {
    // Towards zero by what the measurement may be wrong.
    let certain = |ms: i64| ms.signum() * (ms.abs() - clock.error_ms).max(0);
    let said = |ms: i64| {
        let way = if ms < 0 { "behind" } else { "ahead of" };
        format!("{:.1} seconds {way}", ms.abs() as f64 / 1_000.0)
    };
    let failing =
        format!("miners' handshakes fail when clocks differ by more than {CLOCK_LEEWAY_S} seconds");
    if let Some(peers_ahead_ms) = clock.peers_ahead_ms {
        let ours_ms = certain(-clock.ahead_ms.saturating_add(peers_ahead_ms));
        if ours_ms.abs() > LEEWAY_MS {
            let message = format!(
                "this machine's clock is {} those of the peers of node {node}; {failing}",
                said(ours_ms)
            );
            return Check::bad(CLOCK, Code::ClockWrong, message, CLOCK_ADVICE);
        }
    }
    let node_ms = certain(clock.ahead_ms);
    let message = format!("the clock of node {node} is {} this machine's", said(node_ms));
    if node_ms.abs() > LEEWAY_MS {
        let message = format!("{message}: one of the two is wrong; {failing}");
        return Check::bad(CLOCK, Code::ClockDiffers, message, CLOCK_ADVICE);
    }
    if node_ms.abs() > DRIFT_MS {
        let message = format!("{message}; {failing}");
        return Check::bad(CLOCK, Code::ClockDrifts, message, CLOCK_ADVICE);
    }
    Check::ok(CLOCK, message)
}

/// Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The node's clock was read at some time during the question, which ended `now_ms`.
pub(super) fn sample(
    clock: ClockFacts,
    network: Option<&NetworkFacts>,
    now_ms: u64,
) -> ClockSample {
    /// With fewer peers Bitcoin Core says 0.
    const PEERS_MIN: u64 = 5;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let half_ms = i64::try_from(clock.took.as_millis() / 2).unwrap_or(i64::MAX);
    let middle_ms = signed(now_ms).saturating_sub(half_ms);
    let peers = network.filter(|facts| facts.connections_out >= PEERS_MIN);
    ClockSample {
        ahead_ms: signed(clock.node_ms).saturating_sub(middle_ms),
        error_ms: half_ms,
        peers_ahead_ms: peers.map(|facts| facts.clock_offset_s.saturating_mul(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(ahead_ms: i64, peers_ahead_ms: Option<i64>) -> Option<Code> {
        judge("n", ClockSample { ahead_ms, error_ms: 100, peers_ahead_ms }).code
    }

    #[test]
    fn a_clock_is_judged_by_what_a_handshake_forgives() {
        assert_eq!(judged(0, None), None);
        assert_eq!(judged(-5_000, None), None);
        assert_eq!(judged(5_200, None), Some(Code::ClockDrifts));
        assert_eq!(judged(10_050, None), Some(Code::ClockDrifts), "it may be a slow answer");
        assert_eq!(judged(-10_200, None), Some(Code::ClockDiffers));
    }

    #[test]
    fn with_peers_it_is_known_whose_clock_is_wrong() {
        assert_eq!(judged(20_000, Some(0)), Some(Code::ClockWrong));
        assert_eq!(judged(0, Some(-15_000)), Some(Code::ClockWrong), "the node's clock is ours");
        // The node is wrong, which matters as well: its templates have its time.
        assert_eq!(judged(20_000, Some(-20_000)), Some(Code::ClockDiffers));
        assert_eq!(judged(0, Some(3_000)), None);
        let check =
            judge("n", ClockSample { ahead_ms: -20_000, error_ms: 0, peers_ahead_ms: Some(0) });
        assert!(check.message.contains("20.0 seconds ahead of"), "{}", check.message);
    }

    #[test]
    fn without_a_node_the_clock_is_not_known() {
        assert_eq!(check(&[]).code, Some(Code::ClockUnknown));
    }

    #[test]
    fn a_clock_is_read_in_the_middle_of_the_question() {
        let clock = ClockFacts { node_ms: 10_000, took: Duration::from_millis(400) };
        let sample = sample(clock, None, 9_200);
        assert_eq!(sample, ClockSample { ahead_ms: 1_000, error_ms: 200, peers_ahead_ms: None });
    }
}
