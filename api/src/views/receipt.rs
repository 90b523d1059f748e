//! The keys of receipts.

use bitcoin::hex::DisplayHex;
use serde::Serialize;
use store::chain::{ChainEnds, Link, SignedHead};
use store::{Page, StreamEpoch};
use utoipa::ToSchema;
use validation::receipt::PublishedKey;

use crate::backend::ReceiptKeys;

/// What receipts of this server are checked with.
#[derive(Serialize, ToSchema)]
#[schema(as = ReceiptKeys)]
pub(crate) struct ReceiptKeysView {
    /// The server, as its receipts name it, 16 hex digits; null when it signs nothing.
    pub(crate) server_id: Option<String>,
    /// The key that signs first, then the authority key if that is another one, then those that
    /// signed before or sign elsewhere.
    pub(crate) keys: Vec<ReceiptKeyView>,
}

/// Heads of the event log.
#[derive(Serialize, ToSchema)]
#[schema(as = EventHeads)]
pub(crate) struct HeadsView {
    /// The current stream epoch, 16 hex digits.
    pub(crate) epoch: String,
    /// The last event that is not kept any more, or was written before there were hashes.
    pub(crate) anchor: LinkView,
    /// The newest event.
    pub(crate) last: LinkView,
    /// The heads.
    pub(crate) items: Vec<HeadView>,
    /// Cursor of the next part, to be given as `after`; null at the end.
    pub(crate) next: Option<u64>,
}

/// An event and its hash.
#[derive(Serialize, ToSchema)]
#[schema(as = EventLink)]
pub(crate) struct LinkView {
    /// The event; 0 for none.
    pub(crate) id: u64,
    /// Its hash, 64 hex digits; zeros where it has none.
    pub(crate) hash: String,
}

/// A signed head of the event log.
#[derive(Serialize, ToSchema)]
#[schema(as = EventHead)]
pub(crate) struct HeadView {
    /// The event that it is over, with all before.
    pub(crate) event_id: u64,
    /// Hash of that event, 64 hex digits.
    pub(crate) hash: String,
    /// Stream epoch, 16 hex digits.
    pub(crate) epoch: String,
    /// When it was signed, Unix milliseconds.
    pub(crate) signed_at: u64,
    /// By which server, 16 hex digits.
    pub(crate) server_id: String,
    /// With which key, 16 hex digits.
    pub(crate) key_id: String,
    /// BIP 340, 128 hex digits.
    pub(crate) signature: String,
}

impl From<Link> for LinkView {
    fn from(link: Link) -> Self {
        Self { id: link.id, hash: link.hash.to_lower_hex_string() }
    }
}

impl HeadsView {
    pub(crate) fn of(epoch: StreamEpoch, ends: ChainEnds, heads: Page<SignedHead>) -> Self {
        let view = |head: SignedHead| HeadView {
            event_id: head.link.id,
            hash: head.link.hash.to_lower_hex_string(),
            epoch: head.epoch.to_string(),
            signed_at: head.signed_at_ms,
            server_id: head.server.0.to_lower_hex_string(),
            key_id: head.key_id.to_string(),
            signature: head.signature.to_lower_hex_string(),
        };
        Self {
            epoch: epoch.to_string(),
            anchor: ends.anchor.into(),
            last: ends.last.into(),
            next: heads.next,
            items: heads.items.into_iter().map(view).collect(),
        }
    }
}

/// A key of receipts.
#[derive(Serialize, ToSchema)]
#[schema(as = ReceiptKey)]
pub(crate) struct ReceiptKeyView {
    /// What receipts call it, 16 hex digits.
    pub(crate) key_id: String,
    /// The key as SV2 writes it, base58check.
    pub(crate) public_key: String,
    /// The same as 32 bytes (BIP 340), 64 hex digits.
    pub(crate) x_only: String,
    /// `active`: it signs. `authority`: it vouches for the one that does. `retired`: it signed
    /// before, or signs elsewhere.
    pub(crate) state: &'static str,
    /// Signature of the authority key over this one, 128 hex digits; null for that key itself.
    pub(crate) endorsement: Option<String>,
}

impl From<Option<ReceiptKeys>> for ReceiptKeysView {
    fn from(keys: Option<ReceiptKeys>) -> Self {
        let server_id = keys.as_ref().map(|keys| keys.server.0.to_lower_hex_string());
        let keys = keys.into_iter().flat_map(|keys| keys.keys).map(ReceiptKeyView::from);
        Self { server_id, keys: keys.collect() }
    }
}

impl From<PublishedKey> for ReceiptKeyView {
    fn from(published: PublishedKey) -> Self {
        Self {
            key_id: published.key.id().to_string(),
            public_key: published.key.to_string(),
            x_only: published.key.to_bytes().to_lower_hex_string(),
            state: published.state.as_str(),
            endorsement: published.endorsement.map(|word| word.0.to_lower_hex_string()),
        }
    }
}
