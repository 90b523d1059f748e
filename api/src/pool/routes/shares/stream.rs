//! Shares as lines, without an end: those that have come are judged and recorded together, and their
//! results are written before more is read. A pool that does not read its answers is not read.
#![deny(clippy::indexing_slicing)]

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{NDJSON, ResultView, ShareIn};
use crate::pool::app::Pool;
use crate::pool::backend::Share;
use crate::pool::fields::Object;
use crate::pool::limits;
use crate::problem::{Kind, Problem};

/// Code of a line that is no share.
const BAD_SHARE: &str = "bad-share";

/// Room for what came and was not judged yet, bytes, beside the piece that came last.
const PENDING_BYTES_MAX: usize = limits::LINE_BYTES_MAX * 256;

/// The answer to a stream; it goes on for as long as both sides like.
pub(super) fn answer(pool: Pool, request: Request) -> Result<Response, Problem> {
    if request.headers().contains_key(crate::pool::idempotency::HEADER) {
        let detail = "Idempotency-Key: a stream has none; its shares are their own keys";
        return Err(Problem::new(Kind::BadParameter, detail));
    }
    let Ok(place) = pool.share_streams.clone().try_acquire_owned() else {
        let detail = format!("{} streams of shares are open already", limits::SHARE_STREAMS_MAX);
        return Err(Problem::new(Kind::Busy, detail));
    };
    let lines = Lines {
        pool,
        body: request.into_body().into_data_stream(),
        pending: Vec::new(),
        ended: false,
        over: false,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(lines, Lines::next));
    let kind = HeaderValue::from_static(NDJSON);
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Lines {
    pool: Pool,
    body: BodyDataStream,
    /// What came and was not judged yet.
    pending: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more is answered.
    over: bool,
    _place: OwnedSemaphorePermit,
}

/// A line: a share, or why it is none.
type Line = Result<Share, String>;

impl Lines {
    /// The results of the next shares. Polled when the connection has room for them.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        loop {
            let lines = match take(&mut self.pending, self.ended) {
                Ok(lines) => lines,
                Err(why) => {
                    self.over = true;
                    let last = ResultView::refused("line-too-long", why);
                    return Some((Ok(text([last])), self));
                }
            };
            if !lines.is_empty() {
                let results = self.judge(lines).await;
                return Some((Ok(results), self));
            }
            if self.ended {
                return None;
            }
            self.read().await;
        }
    }

    /// Waits for more, and takes what has come with it.
    async fn read(&mut self) {
        let mut stopping = self.pool.stopping.clone();
        let piece = tokio::select! {
            piece = piece(&mut self.body, limits::STREAM_IDLE_MAX) => piece,
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        match piece {
            Some(bytes) => self.pending.extend_from_slice(&bytes),
            None => return self.ended = true,
        }
        while self.pending.len() < PENDING_BYTES_MAX {
            match self.body.next().now_or_never() {
                Some(Some(Ok(bytes))) => self.pending.extend_from_slice(&bytes),
                Some(_) => return self.ended = true,
                None => return,
            }
        }
    }

    /// The results, in the order of the lines.
    async fn judge(&mut self, lines: Vec<Line>) -> Bytes {
        let (mut shares, mut faults) = (Vec::with_capacity(lines.len()), Vec::new());
        for line in lines {
            match line {
                Ok(share) => {
                    faults.push(None);
                    shares.push(share);
                }
                Err(wrong) => faults.push(Some(wrong)),
            }
        }
        let mut judged = match self.pool.backend.shares(shares).await {
            Ok(judged) => judged.into_iter(),
            Err(not_judged) => {
                self.over = true;
                let problem = Problem::from(not_judged);
                return text([ResultView::refused(problem.kind.name(), problem.detail)]);
            }
        };
        text(faults.into_iter().filter_map(|fault| match fault {
            Some(wrong) => Some(ResultView::refused(BAD_SHARE, wrong)),
            None => judged.next().map(ResultView::from),
        }))
    }
}

/// Whole lines out of what has come, at most [`limits::STREAM_BATCH_SHARES_MAX`].
fn take(pending: &mut Vec<u8>, ended: bool) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut from = 0;
    while lines.len() < limits::STREAM_BATCH_SHARES_MAX {
        let rest = pending.get(from..).unwrap_or_default();
        let length = match rest.iter().position(|byte| *byte == b'\n') {
            Some(length) => length,
            None if ended && !rest.is_empty() => rest.len(),
            None => break,
        };
        let line = rest.get(..length).unwrap_or_default();
        if line.len() <= limits::LINE_BYTES_MAX && !line.trim_ascii().is_empty() {
            lines.push(share(line));
        } else if line.len() > limits::LINE_BYTES_MAX {
            break;
        }
        from += length + 1;
    }
    pending.drain(..from.min(pending.len()));
    let first = pending.iter().position(|byte| *byte == b'\n');
    if lines.is_empty() && first.unwrap_or(pending.len()) > limits::LINE_BYTES_MAX {
        let max = limits::LINE_BYTES_MAX;
        return Err(format!("a line of more than {max} bytes ends the stream"));
    }
    Ok(lines)
}

/// The next piece of a body; none at its end, and where it broke off or brings nothing for so long.
async fn piece(body: &mut BodyDataStream, idle: Duration) -> Option<Bytes> {
    timeout(idle, body.next()).await.ok()??.ok()
}

fn share(line: &[u8]) -> Line {
    let Object(share) =
        serde_json::from_slice::<Object<ShareIn<'_>>>(line).map_err(|error| error.to_string())?;
    share.read()
}

fn text(results: impl IntoIterator<Item = ResultView>) -> Bytes {
    let mut text = Vec::new();
    for result in results {
        // Writing to memory does not fail, and numbers are finite.
        let _ = serde_json::to_writer(&mut text, &result);
        text.push(b'\n');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_judged_together_and_the_rest_after_them() {
        let most = limits::STREAM_BATCH_SHARES_MAX;
        let mut pending = b"{}\n".repeat(2 * most + 1);
        for expected in [most, most, 1, 0] {
            assert_eq!(take(&mut pending, false).unwrap().len(), expected);
        }
        assert!(pending.is_empty());
    }

    #[test]
    fn a_line_has_a_length() {
        let most = limits::LINE_BYTES_MAX;
        let line = |bytes: usize| [vec![b'x'; bytes], b"\n".to_vec()].concat();
        let mut pending = [line(most), line(1)].concat();
        assert_eq!(take(&mut pending, false).unwrap().len(), 2);
        // What comes before is answered first.
        let mut pending = [line(most), line(most + 1), line(1)].concat();
        assert_eq!(take(&mut pending, false).unwrap().len(), 1);
        assert!(take(&mut pending, false).unwrap_err().contains("4096 bytes"));
        // One that has no end (yet) is not collected.
        let mut pending = vec![b'x'; most];
        assert_eq!(take(&mut pending, false).unwrap().len(), 0);
        assert_eq!(take(&mut pending, true).unwrap().len(), 1);
        let mut pending = vec![b'x'; most + 1];
        take(&mut pending, false).unwrap_err();
    }

    #[tokio::test]
    async fn a_stream_that_brings_nothing_ends() {
        let some = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"x")) });
        let body = Body::from_stream(some.chain(stream::pending()));
        let mut body = body.into_data_stream();
        assert_eq!(piece(&mut body, limits::STREAM_IDLE_MAX).await.as_deref(), Some(&b"x"[..]));
        assert_eq!(piece(&mut body, Duration::from_millis(20)).await, None);
    }
}
