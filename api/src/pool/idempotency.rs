//! `Idempotency-Key`: who sends the same request again, because the answer was lost, gets the same
//! answer and nothing happens twice.
//!
//! Answers are kept in memory, within bounds of count, bytes and time. After a restart of the server
//! a share that counted is a duplicate and a block is known, so nothing happens twice either.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bitcoin::hashes::{Hash, HashEngine, sha256};

use super::app::Pool;
use super::guard::Turn;
use super::limits;
use super::routes::shares::{NDJSON, media_type};
use crate::problem::{Kind, Problem};

/// The header.
pub(crate) const HEADER: &str = "idempotency-key";

/// Says that the answer is that of an earlier request.
const REPLAYED: &str = "idempotent-replayed";

/// Answers by their keys.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<String, Entry>,
    /// Finished ones, oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    request: sha256::Hash,
    /// None while the request is under way.
    answer: Option<Answer>,
}

#[derive(Debug, Clone)]
struct Answer {
    at: Instant,
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

/// What a key stands for.
enum Known {
    New,
    UnderWay,
    Other,
    Done(Answer),
}

impl Answers {
    fn begin(&self, key: &str, request: sha256::Hash, now: Instant) -> Known {
        let mut kept = self.lock();
        kept.expire(now);
        match kept.by_key.get(key) {
            Some(entry) if entry.request != request => Known::Other,
            Some(Entry { answer: None, .. }) => Known::UnderWay,
            Some(Entry { answer: Some(answer), .. }) => Known::Done(answer.clone()),
            None => {
                kept.by_key.insert(key.to_owned(), Entry { request, answer: None });
                Known::New
            }
        }
    }

    /// The answer to a key that [`Self::begin`] called new; none to forget it.
    fn end(&self, key: &str, answer: Option<Answer>) {
        let mut kept = self.lock();
        let Some(answer) = answer else {
            kept.by_key.remove(key);
            return;
        };
        if let Some(entry) = kept.by_key.get_mut(key) {
            let bytes = answer.body.len();
            entry.answer = Some(answer);
            kept.bytes += bytes;
            kept.order.push_back(key.to_owned());
        }
        while kept.order.len() > limits::IDEMPOTENCY_KEYS_MAX
            || kept.bytes > limits::IDEMPOTENCY_BYTES_MAX
        {
            kept.drop_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every statement under it leaves a valid state behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn expire(&mut self, now: Instant) {
        let old = |kept: &Self| {
            let answer = kept.by_key.get(kept.order.front()?)?.answer.as_ref()?;
            Some(now.saturating_duration_since(answer.at) >= limits::IDEMPOTENCY_KEPT)
        };
        while old(self) == Some(true) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(key) = self.order.pop_front() else { return };
        if let Some(Entry { answer: Some(answer), .. }) = self.by_key.remove(&key) {
            self.bytes -= answer.body.len();
        }
    }
}

/// Forgets a key whose request ended without an answer.
struct UnderWay {
    pool: Pool,
    key: String,
    answer: Option<Answer>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.pool.answers.end(&self.key, self.answer.take());
    }
}

/// Answers a request that has a key once.
pub(crate) async fn once(State(pool): State<Pool>, request: Request, next: Next) -> Response {
    let is_stream = media_type(request.headers()) == Some(NDJSON);
    if request.method() != Method::POST || is_stream || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    match keyed(pool, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn keyed(pool: Pool, request: Request, next: Next) -> Result<Response, Problem> {
    let key = key(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, limits::BODY_BYTES_MAX).await.map_err(|_| {
        let max = limits::BODY_BYTES_MAX;
        Problem::new(Kind::TooLarge, format!("more than {max} bytes, or the body broke off"))
    })?;
    let mut engine = sha256::Hash::engine();
    engine.input(parts.uri.path().as_bytes());
    engine.input(&[0]);
    engine.input(&body);
    let hash = sha256::Hash::from_engine(engine);
    match pool.answers.begin(&key, hash, Instant::now()) {
        Known::New => {}
        Known::UnderWay => {
            let detail = "a request with this Idempotency-Key is under way";
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Known::Other => {
            let detail = "this Idempotency-Key was used for another request";
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Known::Done(answer) => return Ok(replayed(answer)),
    }
    let mut under_way = UnderWay { pool, key, answer: None };
    // Goes on when the client does not: it may come back for the answer. It is one of those that are
    // under way for as long.
    let turn = parts.extensions.get::<Turn>().cloned();
    let answered = tokio::spawn(async move {
        let _turn = turn;
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, limits::IDEMPOTENCY_BYTES_MAX).await.unwrap_or_default();
        let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
        // What may go better the next time is not kept.
        if !parts.status.is_server_error() {
            let answer =
                Answer { at: Instant::now(), status: parts.status, kind, body: body.clone() };
            under_way.answer = Some(answer);
        }
        drop(under_way);
        Response::from_parts(parts, Body::from(body))
    });
    answered.await.map_err(|_| Problem::new(Kind::Internal, "the request ended badly"))
}

fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let max = limits::IDEMPOTENCY_KEY_CHARS_MAX;
    let key = headers.get(HEADER).and_then(|key| key.to_str().ok()).unwrap_or_default();
    if key.is_empty() || key.len() > max || headers.get_all(HEADER).iter().count() > 1 {
        let detail = format!("Idempotency-Key: expected one of 1 to {max} printable characters");
        return Err(Problem::new(Kind::BadParameter, detail));
    }
    Ok(key.to_owned())
}

fn replayed(answer: Answer) -> Response {
    let mut response = (answer.status, Body::from(answer.body)).into_response();
    let headers = response.headers_mut();
    if let Some(kind) = answer.kind {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(bytes: usize, at: Instant) -> Option<Answer> {
        let body = vec![0; bytes].into();
        Some(Answer { at, status: StatusCode::OK, kind: None, body })
    }

    #[test]
    fn keys_are_kept_within_count_bytes_and_time() {
        let (answers, now) = (Answers::default(), Instant::now());
        let hash = sha256::Hash::hash(b"a");
        assert!(matches!(answers.begin("a", hash, now), Known::New));
        assert!(matches!(answers.begin("a", hash, now), Known::UnderWay));
        answers.end("a", answer(1, now));
        assert!(matches!(answers.begin("a", hash, now), Known::Done(_)));
        let other = sha256::Hash::hash(b"b");
        assert!(matches!(answers.begin("a", other, now), Known::Other));
        let later = now + limits::IDEMPOTENCY_KEPT;
        assert!(matches!(answers.begin("a", hash, later), Known::New));
        answers.end("a", None);
        assert!(matches!(answers.begin("a", hash, later), Known::New));
        for number in 0..limits::IDEMPOTENCY_KEYS_MAX + 5 {
            let key = number.to_string();
            answers.begin(&key, hash, later);
            answers.end(&key, answer(10, later));
        }
        assert_eq!(answers.lock().order.len(), limits::IDEMPOTENCY_KEYS_MAX);
        assert!(matches!(answers.begin("4", hash, later), Known::New));
        assert!(matches!(answers.begin("5", hash, later), Known::Done(_)));
        answers.begin("large", hash, later);
        answers.end("large", answer(limits::IDEMPOTENCY_BYTES_MAX, later));
        let kept = answers.lock();
        assert_eq!((kept.order.len(), kept.bytes), (1, limits::IDEMPOTENCY_BYTES_MAX));
        drop(kept);
        assert_eq!(limits::IDEMPOTENCY_KEPT, Duration::from_secs(600));
    }

    #[test]
    fn a_key_has_so_many_characters_and_no_more() {
        let of = |length: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, "k".repeat(length).parse().unwrap());
            key(&headers).map_err(drop)
        };
        let max = limits::IDEMPOTENCY_KEY_CHARS_MAX;
        assert_eq!(of(max), Ok("k".repeat(max)));
        assert_eq!((of(max + 1), of(0)), (Err(()), Err(())));
    }
}
