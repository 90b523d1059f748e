//! Answers that no handler gives: what came could not be read as a request, or there is no room.
//!
//! The HTTP library refuses bytes that are no request by itself, with a status and nothing else.
//! Here that becomes a problem like every other error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;
use crate::problem::{Kind, PROBLEM_JSON, Problem};

/// A whole answer in bytes; the connection ends after it.
pub(crate) fn answer(problem: &Problem) -> Vec<u8> {
    let view = problem.view();
    let status = problem.kind.status();
    let body = serde_json::to_string(&view).unwrap_or_default();
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{}Connection: close\r\n\r\n\
         {body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        problem.retry_after().map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default(),
    )
    .into_bytes()
}

/// What the library's own answer stands for; `None` for every other piece of an answer. Ours all
/// carry `X-Content-Type-Options`, and no line of a body of ours begins like this.
fn refused(bytes: &[u8]) -> Option<Problem> {
    let head = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let status = StatusCode::from_bytes(head.get(..3)?.as_bytes()).ok()?;
    let bare = head.contains("\r\ncontent-length: 0\r\n")
        && head.ends_with("\r\n\r\n")
        && !head.contains("\r\nx-content-type-options:");
    if !bare {
        return None;
    }
    let most = limits::CONNECTION_BUFFER_BYTES;
    match status {
        StatusCode::BAD_REQUEST => {
            Some(Problem::new(Kind::BadRequest, "a request line or a header can not be read"))
        }
        StatusCode::URI_TOO_LONG => {
            Some(Problem::new(Kind::AddressTooLong, "the address is longer than 65534 bytes"))
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Problem::new(
            Kind::HeadTooLarge,
            format!("request line and headers are more than {most} bytes, or too many headers"),
        )),
        _ => None,
    }
}

/// Wraps a stream that the HTTP library writes to.
pub(crate) struct RefusingIo<S> {
    stream: S,
    /// What is written in place of the library's answer, and how much of it has left.
    instead: Vec<u8>,
    left: usize,
}

impl<S> RefusingIo<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, instead: Vec::new(), left: 0 }
    }
}

impl<S: AsyncWrite + Unpin> RefusingIo<S> {
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.instead.get(self.left..) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left += written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RefusingIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RefusingIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if let Some(problem) = refused(bytes) {
            self.instead = answer(&problem);
            self.left = 0;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match buffers {
            // The library's own answer is one piece.
            [one] => self.poll_write(context, one),
            _ => {
                ready!(self.poll_instead(context))?;
                Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BARE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\
        date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    #[tokio::test]
    async fn a_bare_answer_becomes_a_problem_however_little_the_peer_takes() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let sending = tokio::spawn(async move {
            let mut io = RefusingIo::new(ours);
            io.write_all(BARE).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        sending.await.unwrap();
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\r\nContent-Type: application/problem+json\r\n"), "{text}");
        assert!(text.contains("/docs#problem-head-too-large"), "{text}");
    }

    #[test]
    fn our_own_answers_stay_as_they_are() {
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\nx-content-type-options: nosniff\r\n\
              content-length: 0\r\n\r\n"
                .as_slice(),
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\n",
            b"{\"events\":[]}",
            b"",
        ] {
            assert_eq!(refused(bytes), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(refused(BARE).unwrap().kind, Kind::HeadTooLarge);
    }
}
