//! Values of JSON: as long as they may be, and one more.

use api::pool::limits::{
    BATCH_SHARES_MAX, BODY_BYTES_MAX, COINBASE_OUTPUTS_BYTES_MAX, COINBASE_PREFIX_BYTES_MAX,
    EXTRANONCE_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX, JOB_NAME_BYTES_MAX, LINE_BYTES_MAX,
    MERKLE_PATH_MAX, NAME_BYTES_MAX, TOKEN_BYTES_MAX,
};
use serde_json::{Value, json};

use crate::client;
use crate::world::{TOKEN, World, share};

const VERIFY: &str = "/v1/pool/custom-jobs/verify";
const SHARES: &str = "/v1/pool/shares";
const BLOCKS: &str = "/v1/pool/blocks";

fn hex(bytes: usize) -> Value {
    json!("ab".repeat(bytes))
}

fn name(bytes: usize) -> Value {
    json!("n".repeat(bytes))
}

fn number(number: usize) -> Value {
    json!(number)
}

fn hashes(count: usize) -> Value {
    json!(vec!["cd".repeat(32); count])
}

/// A custom job with all its fields.
fn job() -> Value {
    json!({"token": "ab", "user": "u", "connection": "c", "job": {
        "version": 1, "prev_hash": "ab".repeat(32), "min_ntime": 1, "nbits": "207fffff",
        "coinbase_tx_version": 2, "coinbase_prefix": "", "coinbase_tx_input_n_sequence": 0,
        "coinbase_tx_outputs": "", "coinbase_tx_locktime": 0, "merkle_path": [],
        "extranonce_bytes": 8,
    }})
}

/// A share by its receipt.
fn by_receipt() -> Value {
    let mut share = share();
    share.as_object_mut().unwrap().remove("job");
    share["receipt"] = json!("ab");
    share
}

fn solution(mut share: Value) -> Value {
    share.as_object_mut().unwrap().remove("target");
    share
}

/// How a value of some size is written.
type Written = fn(usize) -> Value;

#[tokio::test]
async fn each_value_has_a_largest_size() {
    let world = World::start().await;
    let rows: [(&str, Value, &str, Written, usize); 17] = [
        (VERIFY, job(), "/token", hex, TOKEN_BYTES_MAX),
        (VERIFY, job(), "/user", name, NAME_BYTES_MAX),
        (VERIFY, job(), "/connection", name, NAME_BYTES_MAX),
        (VERIFY, job(), "/job/coinbase_prefix", hex, COINBASE_PREFIX_BYTES_MAX),
        (VERIFY, job(), "/job/coinbase_tx_outputs", hex, COINBASE_OUTPUTS_BYTES_MAX),
        (VERIFY, job(), "/job/merkle_path", hashes, MERKLE_PATH_MAX),
        (VERIFY, job(), "/job/extranonce_bytes", number, EXTRANONCE_BYTES_MAX),
        (SHARES, share(), "/job", hex, JOB_NAME_BYTES_MAX),
        (SHARES, by_receipt(), "/receipt", hex, TOKEN_BYTES_MAX),
        (SHARES, by_receipt(), "/connection", name, NAME_BYTES_MAX),
        (SHARES, share(), "/worker", name, NAME_BYTES_MAX),
        (SHARES, share(), "/extranonce", hex, EXTRANONCE_BYTES_MAX),
        (BLOCKS, solution(share()), "/job", hex, JOB_NAME_BYTES_MAX),
        (BLOCKS, solution(by_receipt()), "/receipt", hex, TOKEN_BYTES_MAX),
        (BLOCKS, solution(by_receipt()), "/connection", name, NAME_BYTES_MAX),
        (BLOCKS, solution(share()), "/extranonce", hex, EXTRANONCE_BYTES_MAX),
        // In a list as by itself.
        (SHARES, json!([share(), share()]), "/1/job", hex, JOB_NAME_BYTES_MAX),
    ];
    for (path, good, at, sized, most) in rows {
        for (size, status) in [(most, 200), (most + 1, 422)] {
            let mut body = good.clone();
            let (parent, field) = at.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[field] = sized(size);
            let answer = world.post(path, &body.to_string()).await;
            let text = answer.text();
            assert_eq!(answer.status, status, "{path} {at} of {size}: {text}");
            if status == 422 {
                assert_eq!(answer.problem(), "bad-content", "{path} {at}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_list_has_so_many_shares() {
    let world = World::start().await;
    let answer = world.post(SHARES, &json!(vec![share(); BATCH_SHARES_MAX]).to_string()).await;
    assert_eq!(answer.json().as_array().unwrap().len(), BATCH_SHARES_MAX);
    let answer = world.post(SHARES, &json!(vec![share(); BATCH_SHARES_MAX + 1]).to_string()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (422, "bad-content"));
}

#[tokio::test]
async fn a_body_has_a_size() {
    let world = World::start().await;
    let share = share().to_string();
    let padded = |bytes: usize| share.clone() + &" ".repeat(bytes - share.len());
    for (key, bytes, status) in [
        (None, BODY_BYTES_MAX, 200),
        (None, BODY_BYTES_MAX + 1, 413),
        (Some("one"), BODY_BYTES_MAX, 200),
        (Some("other"), BODY_BYTES_MAX + 1, 413),
    ] {
        let headers: Vec<_> = key.map(|key| ("Idempotency-Key", key)).into_iter().collect();
        let answer = world.post_with(SHARES, &headers, &padded(bytes)).await;
        assert_eq!(answer.status, status, "{key:?} {bytes}: {}", answer.text());
    }
    for path in [SHARES, VERIFY, BLOCKS] {
        let answer = world.post(path, &padded(BODY_BYTES_MAX + 1)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"), "{path}");
    }
}

#[tokio::test]
async fn a_line_of_a_stream_has_a_length() {
    let world = World::start().await;
    let share = share().to_string();
    let line = |bytes: usize| share.clone() + &" ".repeat(bytes - share.len()) + "\n";
    let body = line(LINE_BYTES_MAX) + &line(LINE_BYTES_MAX + 1) + &line(share.len());
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
    let answer = client::request(world.address, "POST", SHARES, &headers, &body).await;
    let results: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 2, "it ends the stream: {results:?}");
    assert_eq!(results[0]["valid"], true, "{results:?}");
    assert_eq!(results[1]["code"], "line-too-long", "{results:?}");
}

#[tokio::test]
async fn a_key_has_a_length() {
    let world = World::start().await;
    let body = share().to_string();
    for (length, status) in
        [(1, 200), (IDEMPOTENCY_KEY_CHARS_MAX, 200), (IDEMPOTENCY_KEY_CHARS_MAX + 1, 400), (0, 400)]
    {
        let key = "k".repeat(length);
        let answer = world.post_with(SHARES, &[("Idempotency-Key", &key)], &body).await;
        assert_eq!(answer.status, status, "{length}: {}", answer.text());
    }
}
