//! What a client is sent, counted: which messages, and how soon it heard of a new tip.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::BlockHash;
use jds_wire::message::constants as c;

use super::told::{Listener, Told};
use crate::server::Shared;

/// Of one client, since it last said what room it leaves.
#[derive(Debug, Default)]
pub(super) struct News {
    /// It works on a tip, so that the next one is news.
    listens: Option<Listener>,
    /// The tip that is on its way to the client, and when our node knew it.
    under_way: Option<(BlockHash, Option<Instant>)>,
}

impl News {
    /// A message takes its place on the line. `tip`: what the client works on with it.
    pub(super) fn count(
        &mut self,
        msg_type: u8,
        tip: Option<BlockHash>,
        told: &Arc<Told>,
        shared: &Shared,
    ) {
        let kind = match msg_type {
            c::MESSAGE_TYPE_NEW_TEMPLATE => "new_template",
            c::MESSAGE_TYPE_SET_NEW_PREV_HASH => "set_new_prev_hash",
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS => "transaction_data",
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR => "transaction_data_error",
            _ => "other",
        };
        shared.counts.metrics.template_message(kind);
        if let (c::MESSAGE_TYPE_SET_NEW_PREV_HASH, Some(tip)) = (msg_type, tip) {
            match self.listens {
                Some(_) => self.under_way = Some((tip, shared.nodes.tip_seen_at(&tip))),
                None => self.listens = Some(Listener::new(told, tip)),
            }
        }
    }

    /// All that was on the line has left.
    pub(super) fn left(&mut self, metrics: &api::Metrics) {
        let Some((tip, since)) = self.under_way.take() else { return };
        if let Some(since) = since {
            metrics.template_tip(since.elapsed());
        }
        if let Some(listens) = &mut self.listens {
            listens.hear(tip);
        }
    }
}
