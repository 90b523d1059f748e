//! What a session is told.

use std::sync::Arc;
use std::time::Instant;

use jds_wire::Frame;
use validation::tip::ChainTip;

use crate::work::{CustomJob, PoolWork};

/// The time at which an input came.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For intervals.
    pub instant: Instant,
    /// For block times, Unix seconds.
    pub unix_s: u32,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A frame came (SV2).
    Frame(&'a Frame),
    /// A line came, without its end (SV1).
    Line(&'a [u8]),
    /// A frame came that [`crate::sv2::asks_for`] a user who may not mine here: it is refused
    /// (SV2).
    StrangerFrame(&'a Frame),
    /// As [`Input::StrangerFrame`], of a line that [`crate::sv1::asks_for`] such a user (SV1).
    StrangerLine(&'a [u8]),
    /// New work of the pool. The first on a new tip makes all work on another tip stale.
    Work(Arc<PoolWork>),
    /// A new tip: work on any other is stale at once, whether there is new work or not.
    Tip(ChainTip),
    /// The answer to [`crate::Action::CheckCustomJob`].
    CustomJob {
        /// As in the request.
        request_id: u32,
        /// As in the request.
        channel_id: u32,
        /// The answer.
        verdict: CustomJobVerdict,
    },
    /// A deadline of `poll_timeout` may have passed.
    Tick,
    /// The server is about to end; SV2 peers are asked to connect again (SV2 5.3.22).
    Shutdown,
    /// The connection is gone. What is to be recorded of it follows; nothing more can be sent.
    Disconnected,
}

/// What came of a check of a custom job.
#[derive(Debug)]
pub enum CustomJobVerdict {
    /// It keeps every rule.
    Accepted(Arc<CustomJob>),
    /// `SetCustomMiningJob.Error` with this code, one of the constants of the protocol crate, and
    /// what there is to tell the log about it.
    Refused {
        /// For the peer.
        error_code: &'static str,
        /// For log and operator.
        detail: String,
    },
}
