//! Lines of text over a plain socket (Stratum V1), bounded in length and time.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::link::{Leave, Outgoing, Receive, Received};
use crate::limits::{
    LINE_BYTES_MAX, LINE_TIMEOUT, LINES_UNREAD_BYTES_MAX, READ_LINES_BYTES, WRITE_TIMEOUT,
};
use crate::noise_io::IoError;
use crate::peer::{Ended, Unread, in_write_timeout};

/// The receiving side.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Of that, bytes that were looked at and have no end of a line.
    looked_at: usize,
    /// When the line that was begun has to be complete.
    deadline: Option<Instant>,
    /// From the first byte of a line to its end.
    limit: Duration,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), looked_at: 0, deadline: None, limit: LINE_TIMEOUT }
    }

    /// The next line that is here already, without its end.
    fn take(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.get(self.looked_at..).unwrap_or_default();
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
            self.looked_at = self.buffer.len();
            return None;
        };
        let mut line: Vec<u8> = self.buffer.drain(..=self.looked_at + at).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        (self.looked_at, self.deadline) = (0, None);
        Some(line)
    }

    async fn line(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(line) = self.take() {
                return Ok(line);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Ended::LineTooLong);
            }
            if !self.buffer.is_empty() {
                self.deadline.get_or_insert_with(|| Instant::now() + self.limit);
            }
            self.buffer.reserve(READ_LINES_BYTES);
            // Whatever is read is in the buffer when this is cancelled.
            let read = self.stream.read_buf(&mut self.buffer);
            let read = match self.deadline {
                Some(deadline) => {
                    timeout_at(deadline, read).await.map_err(|_| Ended::FrameTimeout)?
                }
                None => read.await,
            };
            if read.map_err(IoError::Read)? == 0 {
                return Err(IoError::Closed.into());
            }
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Receive for LineReader<R> {
    async fn next(&mut self, _is_set_up: bool) -> Result<Received, Ended> {
        self.line().await.map(Received::Line)
    }

    fn is_idle(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The sending side.
#[derive(Debug)]
pub(super) struct LineWriter<W> {
    stream: W,
    /// From `written` on, to be written.
    pending: Vec<u8>,
    written: usize,
    /// When the oldest of it must have left.
    deadline: Option<Instant>,
}

impl<W: AsyncWrite + Unpin> LineWriter<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, pending: Vec::new(), written: 0, deadline: None }
    }

    async fn write_all(&mut self) -> Result<(), IoError> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            let bytes = self.stream.write(rest).await.map_err(IoError::Write)?;
            if bytes == 0 {
                return Err(IoError::Write(io::ErrorKind::WriteZero.into()));
            }
            self.written += bytes;
        }
        self.pending.clear();
        self.written = 0;
        self.stream.flush().await.map_err(IoError::Write)
    }
}

impl<W: AsyncWrite + Unpin + Send> Leave for LineWriter<W> {
    fn queue(&mut self, message: &Outgoing) -> Result<(), Ended> {
        // A session of the other protocol has no frame of this one.
        let Outgoing::Line(line) = message else { return Err(Ended::Encode) };
        if self.pending.len() - self.written >= LINES_UNREAD_BYTES_MAX {
            return Err(Ended::Unread(Unread::Bytes(LINES_UNREAD_BYTES_MAX)));
        }
        self.pending.extend_from_slice(line.as_bytes());
        self.deadline.get_or_insert_with(in_write_timeout);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.pending.len() == self.written
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let deadline = *self.deadline.get_or_insert_with(in_write_timeout);
        timeout_at(deadline, self.write_all()).await.map_err(|_| Ended::WriteTimeout)??;
        self.deadline = None;
        Ok(())
    }

    async fn finish(&mut self, ended: &Ended) {
        self.deadline = None;
        if ended.peer_may_read() && self.flush().await.is_ok() {
            let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next<R: AsyncRead + Unpin + Send>(
        reader: &mut LineReader<R>,
    ) -> Result<String, Ended> {
        reader.line().await.map(|line| String::from_utf8(line).unwrap())
    }

    #[tokio::test]
    async fn lines_come_one_by_one_however_they_arrive() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut reader = LineReader::new(ours);
        peer.write_all(b"one\r\ntwo\nthr").await.unwrap();
        assert_eq!(next(&mut reader).await.unwrap(), "one");
        assert_eq!(next(&mut reader).await.unwrap(), "two");
        {
            // Given up in the middle of a line, nothing of it is lost.
            let waiting = reader.line();
            assert!(timeout(Duration::from_millis(1), waiting).await.is_err());
        }
        peer.write_all(b"ee\n\nend").await.unwrap();
        drop(peer);
        assert_eq!(next(&mut reader).await.unwrap(), "three");
        assert_eq!(next(&mut reader).await.unwrap(), "");
        assert!(matches!(next(&mut reader).await, Err(Ended::Io(IoError::Closed))));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_collected() {
        let (mut peer, ours) = tokio::io::duplex(2 * LINE_BYTES_MAX);
        let mut reader = LineReader::new(ours);
        peer.write_all(&vec![b'x'; LINE_BYTES_MAX + 1]).await.unwrap();
        assert!(matches!(next(&mut reader).await, Err(Ended::LineTooLong)));
    }

    #[tokio::test]
    async fn a_line_that_is_begun_is_ended_in_time() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut reader = LineReader { limit: Duration::from_millis(1), ..LineReader::new(ours) };
        peer.write_all(b"{").await.unwrap();
        assert!(matches!(next(&mut reader).await, Err(Ended::FrameTimeout)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_written_for() {
        let mut writer = LineWriter::new(tokio::io::sink());
        let line = Outgoing::Line("x".repeat(LINES_UNREAD_BYTES_MAX));
        writer.queue(&line).unwrap();
        assert!(matches!(writer.queue(&line), Err(Ended::Unread(_))));
    }
}
