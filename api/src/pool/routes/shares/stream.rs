//! Shares as lines, without an end: those that have come are judged and recorded together, and their
//! results are written before more is read. A pool that does not read its answers is not read.
#![deny(clippy::indexing_slicing)]

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::{NDJSON, ResultView, ShareIn};
use crate::pool::app::Pool;
use crate::pool::backend::Share;
use crate::pool::fields::Object;
use crate::pool::limits;
use crate::problem::{Kind, Problem};

/// Code of a line that is no share.
const BAD_SHARE: &str = "bad-share";

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
        let stopping = self.pool.stopping.clone();
        match piece(&mut self.body, stopping, limits::STREAM_IDLE_MAX).await {
            Some(bytes) => self.pending.extend_from_slice(&bytes),
            None => return self.ended = true,
        }
        while self.pending.len() < limits::STREAM_PENDING_BYTES_MAX {
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

/// What comes next; none at the end, from a connection that broke off, and from one that brings nothing
/// for so long.
async fn piece<E>(
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    mut stopping: watch::Receiver<bool>,
    idle_max: Duration,
) -> Option<Bytes> {
    let piece = tokio::select! {
        piece = timeout(idle_max, body.next()) => piece.ok().flatten(),
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    piece.and_then(Result::ok)
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

    type Piece = Result<Bytes, ()>;

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
        // What comes before one that is too long is answered first.
        let mut pending = [line(most), line(most + 1), line(1)].concat();
        assert_eq!(take(&mut pending, false).unwrap().len(), 1);
        take(&mut pending, false).unwrap_err();
        // Nor is one without an end collected.
        let mut pending = vec![b'x'; most];
        assert_eq!(take(&mut pending, false).unwrap().len(), 0);
        assert_eq!(take(&mut pending, true).unwrap().len(), 1);
        take(&mut vec![b'x'; most + 1], false).unwrap_err();
    }

    #[tokio::test]
    async fn a_stream_that_brings_nothing_ends() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (_stop, stopping) = watch::channel(false);
        let mut silent = stream::pending::<Piece>();
        let ended = piece(&mut silent, stopping.clone(), Duration::from_millis(1));
        let ended = timeout(PATIENCE, ended).await.expect("waited for the end of a silent stream");
        assert_eq!(ended, None);
        let mut brings = stream::iter([Ok(Bytes::from_static(b"share")), Err(())]);
        let next = piece(&mut brings, stopping.clone(), PATIENCE).await;
        assert_eq!(next.as_deref(), Some(&b"share"[..]));
        assert_eq!(piece(&mut brings, stopping, PATIENCE).await, None, "it broke off");
    }
}
