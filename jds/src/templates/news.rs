//! What a client is sent, counted: which messages, and how soon it heard of a new tip.

use std::time::Instant;

use bitcoin::BlockHash;
use jds_wire::message::constants as c;

use crate::server::Shared;

/// Of one client, since it last said what room it leaves.
#[derive(Debug, Default)]
pub(super) struct News {
    /// It works on a tip, so that the next one is news.
    on_tip: bool,
    /// When our node knew the tip that is on its way to the client.
    since: Option<Instant>,
}

impl News {
    /// A message takes its place on the line. `tip`: what the client works on with it.
    pub(super) fn count(&mut self, msg_type: u8, tip: Option<BlockHash>, shared: &Shared) {
        let kind = match msg_type {
            c::MESSAGE_TYPE_NEW_TEMPLATE => "new_template",
            c::MESSAGE_TYPE_SET_NEW_PREV_HASH => "set_new_prev_hash",
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS => "transaction_data",
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR => "transaction_data_error",
            _ => "other",
        };
        shared.counts.metrics.template_message(kind);
        if msg_type == c::MESSAGE_TYPE_SET_NEW_PREV_HASH {
            let is_news = std::mem::replace(&mut self.on_tip, true);
            let seen_at = || tip.and_then(|tip| shared.nodes.tip_seen_at(&tip));
            self.since = is_news.then(seen_at).flatten();
        }
    }

    /// All that was on the line has left.
    pub(super) fn left(&mut self, metrics: &api::Metrics) {
        if let Some(since) = self.since.take() {
            metrics.template_tip(since.elapsed());
        }
    }
}
