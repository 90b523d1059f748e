//! The keys of receipts.

use bitcoin::hex::DisplayHex;
use serde::Serialize;
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
