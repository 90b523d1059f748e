//! Signs the head of the event log, so that whoever keeps a head can tell later that nothing below
//! it was changed.

use std::sync::Arc;
use std::time::Duration;

use store::chain::{GENESIS, HEAD_TAG, Link, SignedHead, head_bytes};
use store::{Batch, Change, PageRequest, Store};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::clock;
use crate::limits::{HEAD_EVENTS, HEAD_INTERVAL, SHUTDOWN_GRACE};
use crate::receipts::Receipts;

/// Pause after a head that could not be signed or written.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Signs a head [`HEAD_INTERVAL`] after an event that no head is over, or once there are
/// [`HEAD_EVENTS`] of them. Ends with the store.
pub(crate) async fn follow(store: Arc<dyn Store>, receipts: Arc<Receipts>) {
    let mut events = store.watch();
    let mut signed_id = newest(&store).await;
    loop {
        if events.wait_for(|last| *last > signed_id).await.is_err() {
            return;
        }
        let deadline = Instant::now() + HEAD_INTERVAL;
        let enough = events.wait_for(|last| *last >= signed_id.saturating_add(HEAD_EVENTS));
        if let Ok(Err(_)) = timeout_at(deadline, enough).await {
            return;
        }
        match sign(&store, &receipts).await {
            Some(id) => signed_id = id,
            None => sleep(RETRY_PAUSE).await,
        }
    }
}

/// The last event that a head is over; 0 when there is none.
async fn newest(store: &Arc<dyn Store>) -> u64 {
    let store = Arc::clone(store);
    let page = PageRequest { after: None, limit: 1 };
    let heads = tokio::task::spawn_blocking(move || store.event_heads(page)).await;
    heads
        .ok()
        .and_then(Result::ok)
        .and_then(|page| page.items.first().map(|head| head.link.id))
        .unwrap_or_default()
}

/// Signs the head of what is durable now; the id of its event, once the head is durable too.
pub(crate) async fn sign(store: &Arc<dyn Store>, receipts: &Arc<Receipts>) -> Option<u64> {
    let work = {
        let (store, receipts) = (Arc::clone(store), Arc::clone(receipts));
        move || {
            let link = store.chain_ends()?.last;
            Ok::<_, store::ReadError>(head(&receipts, store.epoch(), link))
        }
    };
    let head = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => {
            warn!(%error, "the event log can not be read to be signed");
            return None;
        }
        // Its panic was reported.
        Err(_) => return None,
    };
    let id = head.link.id;
    if head.link.hash == GENESIS {
        return Some(id);
    }
    let batch = Batch::new(clock::unix_us() / 1_000).change(Change::SignHead(head));
    match store.commit(batch).await {
        Ok(_) => Some(id),
        Err(error) => {
            warn!(%error, "a signed head of the event log could not be written");
            None
        }
    }
}

/// At the end of a server: only what that end itself tells of comes after.
pub(crate) async fn sign_last(store: &Arc<dyn Store>, receipts: &Arc<Receipts>) {
    if timeout_at(Instant::now() + SHUTDOWN_GRACE, sign(store, receipts)).await.is_err() {
        warn!("the head of the event log could not be signed in time");
    }
}

fn head(receipts: &Receipts, epoch: store::StreamEpoch, link: Link) -> SignedHead {
    let signed_at_ms = clock::unix_us() / 1_000;
    let server = receipts.server();
    let bytes = head_bytes(server, epoch, link, signed_at_ms);
    let signature = receipts.sign_tagged(HEAD_TAG, &[&bytes]);
    SignedHead { link, epoch, signed_at_ms, server, key_id: receipts.key().id(), signature }
}
