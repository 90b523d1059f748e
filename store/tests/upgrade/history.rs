//! A history with something of everything. Fixtures hold it: what is written here stays as it is,
//! and what a later version adds is written after it.

use serde_json::{Value, json};
use std::sync::Arc;
use store::chain::{HEAD_TAG, SignedHead, head_bytes};

use store::{
    Batch, BlockState, Change, Cursor, EventData, EventKind, Protocol, RejectedInputs, Store,
    SubmissionState, SubmissionStep, TemplateSource, Webhook,
};

use validation::receipt::{ServerId, SigningKey};
use validation::replay::{NodeWord, SecondLook, VerdictInputs, WtxidList};

use crate::common::{NOW_MS, block, commit, job, numbered, rejected, share, template, tx, txs};

/// Everybody in it.
pub const USERS: &[&str] = &["alice", "bob", "mallory"];

const HOUR_MS: u64 = 3_600_000;

/// Events that came to be after the history was written.
pub const LATER: &[EventKind] = &[EventKind::ServerStarted];

/// Writes the history into an empty store.
pub fn write(store: &dyn Store) {
    for kind in EventKind::ALL.iter().filter(|kind| !LATER.contains(kind)) {
        let data = EventData::from_value(*kind, payload(*kind)).unwrap();
        commit(store, Batch::new(NOW_MS).event_of(Protocol::StratumV1, data));
    }
    for number in 1..=3 {
        commit(store, Batch::new(NOW_MS + number).spend_token(number, NOW_MS * 2, "alice".into()));
    }
    templates(store);
    for number in 0..6 {
        let source = if number % 3 == 2 { TemplateSource::Pool } else { TemplateSource::Miner };
        let user = USERS[number as usize % 2];
        let accepted = number != 4;
        let error_code = (!accepted).then(|| "stale-share".to_owned());
        let share = store::ShareSubmitted { accepted, error_code, ..share(user, number, source) };
        commit(store, Batch::new(NOW_MS + number * HOUR_MS).share(share));
    }
    blocks(store);
    webhooks(store);
    head(store);
}

/// A signature over all before.
fn head(store: &dyn Store) {
    let key = SigningKey::from_bytes(&[7; 32]).unwrap();
    let (server, epoch) = (ServerId([1; 8]), store.epoch());
    let link = store.chain_ends().unwrap().last;
    let bytes = head_bytes(server, epoch, link, NOW_MS);
    let signature = key.sign_tagged(HEAD_TAG, &[&bytes], &[0; 32]);
    let key_id = key.public().id();
    let head = SignedHead { link, epoch, signed_at_ms: NOW_MS, server, key_id, signature };
    commit(store, Batch::new(NOW_MS).change(Change::SignHead(head)));
}

fn templates(store: &dyn Store) {
    // A whole list, changes to it, the same template twice, and one of somebody else.
    for (tag, first) in [(1, 0), (2, 1), (3, 3), (3, 3)] {
        let job = job(200 + tag, tag, txs(first..first + 12));
        commit(store, Batch::new(NOW_MS + 10).accept_template(template("alice", job)));
    }
    let mut mixed = txs(4..10);
    mixed.push(tx(101, 700));
    let other = job(300, 9, mixed);
    let template_hash = other.template_hash();
    commit(store, Batch::new(NOW_MS + 20).accept_template(template("bob", other)));
    let none = job(301, 10, Vec::new());
    commit(store, Batch::new(NOW_MS + 21).accept_template(template("bob", none)));
    let invalidated = Change::InvalidateTemplate { template_hash, reason: "bad-txns".into() };
    commit(store, Batch::new(NOW_MS + 30).change(invalidated));
    let refused = store::RejectedTemplate {
        template_hash: Some(template_hash),
        height: Some(300),
        index: Some(2),
        expected: Some("less".into()),
        ..rejected(7)
    };
    let kept = RejectedInputs::Kept(Arc::new(inputs()));
    for refused in [store::RejectedTemplate { inputs: kept, ..rejected(1) }, refused] {
        commit(store, Batch::new(NOW_MS + 40).change(Change::RejectTemplate(refused)));
    }
}

/// What a verdict was given on: a transaction that is stored, one that is not, and the rest.
fn inputs() -> VerdictInputs {
    let (stored, own) = (tx(4, 100), tx(999, 100));
    let tip = *job(300, 1, Vec::new()).tip();
    VerdictInputs {
        version: 0x2000_0000,
        coinbase_prefix: vec![1, 2, 3],
        coinbase_suffix: vec![4, 5],
        wtxids: WtxidList::Listed([stored.wtxid(), own.wtxid()].into()),
        rules: template("mallory", job(300, 1, Vec::new())).rules,
        tip: Some(tip),
        second: Some(SecondLook { tip: Some(tip), asked: vec![1], answer: vec![vec![9; 4]] }),
        txs: vec![Some(stored), Some(own)],
        unvouched: vec![0],
        node: Some(NodeWord::Invalid("bad-txns".into())),
    }
}

fn blocks(store: &dyn Store) {
    for (number, state, end) in [
        (1, SubmissionState::Accepted, Some(BlockState::Confirmed)),
        (2, SubmissionState::Rejected, Some(BlockState::Orphaned)),
        (3, SubmissionState::Unknown, None),
    ] {
        let found = block(number, 300);
        let block_hash = found.block.hash;
        let step = |node: &str, state| {
            Change::Submission(SubmissionStep {
                block_hash,
                node: node.to_owned(),
                state,
                detail: Some("its words".to_owned()),
                attempts: 2,
                latency_ms: Some(4.5),
            })
        };
        let batch = Batch::new(NOW_MS + 50).change(Change::FindBlock(found));
        commit(store, batch.change(step("one", SubmissionState::Sent)));
        let batch = Batch::new(NOW_MS + 51).change(step("one", state));
        commit(store, batch.change(step("two", SubmissionState::Found)));
        if let Some(state) = end {
            let progress = Change::BlockProgress { block_hash, state, confirmations: 6 };
            commit(store, Batch::new(NOW_MS + 60).change(progress));
        }
    }
}

fn webhooks(store: &dyn Store) {
    // Not of the store's own epoch, which is another one each time.
    let cursor = Cursor { epoch: Some("0123456789abcdef".parse().unwrap()), id: 5 };
    for (id, paused) in [("a", false), ("b", true)] {
        let webhook = Webhook {
            id: id.into(),
            url: "https://example.org/".into(),
            secret: "s".into(),
            types: "template_*".into(),
            cursor,
            paused,
            failures: u32::from(paused) * 3,
            last_error: paused.then(|| "503".into()),
            created_at: NOW_MS,
            delivered_at: paused.then_some(NOW_MS + 1),
        };
        commit(store, Batch::new(NOW_MS).change(Change::PutWebhook(webhook)));
    }
}

/// Goes on after the history: everything is written once more.
pub fn go_on(store: &dyn Store) {
    commit(store, Batch::of_event(NOW_MS + 100, numbered(1)));
    for kind in LATER {
        let data = EventData::from_value(*kind, payload(*kind)).unwrap();
        commit(store, Batch::of_event(NOW_MS + 100, data));
    }
    let known = job(210, 20, txs(2..14));
    let batch = Batch::new(NOW_MS + 101).spend_token(99, NOW_MS * 2, "bob".into());
    commit(store, batch.accept_template(template("alice", known)));
    commit(store, Batch::new(NOW_MS + 102).change(Change::RejectTemplate(rejected(3))));
    commit(store, Batch::new(NOW_MS + 103).share(share("carol", 9, TemplateSource::Miner)));
    let found = block(4, 200);
    commit(store, Batch::new(NOW_MS + 104).change(Change::FindBlock(found)));
}

/// A payload of that kind with every field.
fn payload(kind: EventKind) -> Value {
    let hash = "ab".repeat(32);
    let connection = json!({
        "user": "alice", "connection_id": 7, "remote": "192.0.2.1:5", "role": "job_declaration",
        "flags": 1, "job_negotiation": true, "reason": "it says",
    });
    match kind {
        EventKind::MinerConnected | EventKind::MinerDisconnected => connection,
        EventKind::TokenAllocated => json!({"user": "alice", "token_id": "t", "expires_at": 9}),
        EventKind::TemplateProposed => json!({
            "user": "alice", "template_hash": hash, "tx_count": 3, "wtxids_unknown": 1,
            "height": 200, "bytes": 1000,
        }),
        EventKind::TemplateAccepted => json!({
            "user": "alice", "template_hash": hash, "tx_count": 3, "total_fees_sat": 5,
            "fees_verified": true, "block_weight": 4000, "height": 200, "prev_hash": hash,
            "validation_ms": 1.5, "templates_accepted_total": 1,
        }),
        EventKind::TemplateRejected => json!({
            "user": "alice", "template_hash": hash, "error_code": "invalid-job",
            "reason": "weight", "index": 4, "expected": "less", "actual": "more",
            "validation_ms": 0.5,
        }),
        EventKind::TemplateInvalidated => json!({
            "user": "alice", "template_hash": hash, "node": "main", "reason": "bad-txns",
        }),
        EventKind::JobNegotiated => json!({
            "user": "alice", "template_hash": hash, "tx_count": 3, "total_fees_sat": 5,
            "block_weight": 4000, "validation_result": "accepted", "channel_id": 1, "job_id": 2,
        }),
        EventKind::ShareSubmitted => json!({
            "user": "alice", "worker": "rig", "channel_id": 1, "job_id": 2, "accepted": true,
            "error_code": null, "difficulty": 2.5, "share_hash": hash, "template_source": "miner",
            "miner_template_hash": hash, "miner_tx_count": 3, "miner_template_fees_sat": 5,
            "pool_payout_sat": 6, "claimable_sat": 7, "first_for_user": true,
        }),
        EventKind::BlockFound => json!({
            "user": "alice", "block_hash": hash, "height": 200, "template_source": "miner",
            "miner_template_hash": hash, "tx_count": 3, "reward_sat": 5,
        }),
        EventKind::BlockSubmitted => json!({
            "block_hash": hash, "node": "main", "result": "accepted", "detail": "ok",
            "latency_ms": 4.5,
        }),
        EventKind::BlockConfirmed | EventKind::BlockOrphaned => {
            json!({"block_hash": hash, "confirmations": 6})
        }
        EventKind::NodeStatus => {
            json!({"node": "main", "state": "ready", "height": 199, "detail": "it says"})
        }
        EventKind::StoreRecovered => json!({
            "stalled_since": 1, "stalled_ms": 2, "reason": "full", "acknowledged_volatile": 3,
            "batches_kept": 4, "batches_lost": 5, "events_lost": 6, "shares_lost": 7,
            "templates_lost": 8, "blocks_lost": 9,
        }),
        EventKind::StreamEpochStarted => json!({
            "epoch": "0123456789abcdef", "previous_epoch": "fedcba9876543210",
            "previous_last_id": 9, "kept_last_id": 8, "reason": "a copy",
        }),
        EventKind::FloodAggregate => json!({
            "peer": "192.0.2.1", "kind": "share_submitted", "count": 5, "first_at": 1,
            "last_at": 2,
        }),
        EventKind::ServerStarted => json!({
            "version": "1.2.3", "schema": 4, "network": "regtest", "server_id": "0123456789abcdef",
        }),
    }
}
