//! The sending side of a connection: what is queued leaves together, and in time.

use std::fmt;

use jds_wire::{EncodedMessage, FrameEncoder};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Ended, in_write_timeout};
use crate::limits::WRITE_TIMEOUT;
use crate::noise_io::{FrameWriter, IoError};

/// What a peer may leave unread; more ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// So many messages.
    Messages(usize),
    /// So many bytes.
    Bytes(usize),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(messages) => write!(f, "{messages} answers"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// Messages encrypted and not yet written.
#[derive(Debug)]
pub(crate) struct Outbox<W> {
    writer: FrameWriter<W>,
    messages: usize,
    /// When the oldest of them must have left.
    deadline: Option<Instant>,
    unread_max: Unread,
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    /// Over the sending half of a finished handshake.
    pub(crate) fn new(stream: W, encoder: FrameEncoder, unread_max: Unread) -> Self {
        let writer = FrameWriter::new(stream, encoder);
        Self { writer, messages: 0, deadline: None, unread_max }
    }

    /// Takes a message for the next [`Self::flush`].
    ///
    /// # Errors
    /// [`Ended::Unread`] when the peer has left too much unread; [`Ended::Io`].
    pub(crate) fn queue(&mut self, message: &EncodedMessage) -> Result<(), Ended> {
        let too_much = match self.unread_max {
            Unread::Messages(max) => self.messages >= max,
            Unread::Bytes(max) => self.writer.pending_bytes() >= max,
        };
        if too_much {
            return Err(Ended::Unread(self.unread_max));
        }
        self.writer.queue(message).map_err(IoError::from)?;
        self.messages += 1;
        self.deadline.get_or_insert_with(in_write_timeout);
        Ok(())
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.writer.pending_bytes() == 0
    }

    /// Writes what is queued, by a moment that does not move when this is cancelled and called
    /// again.
    ///
    /// # Errors
    /// [`Ended::WriteTimeout`], [`Ended::Io`].
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        let deadline = *self.deadline.get_or_insert_with(in_write_timeout);
        timeout_at(deadline, self.writer.flush()).await.map_err(|_| Ended::WriteTimeout)??;
        self.messages = 0;
        self.deadline = None;
        Ok(())
    }

    /// Lets what was answered reach the peer before the socket closes. A peer that has shown that
    /// it does not read keeps its place no longer for it.
    pub(crate) async fn finish(&mut self, ended: &Ended) {
        self.deadline = None;
        if ended.peer_may_read() && self.flush().await.is_ok() {
            let _ = timeout(WRITE_TIMEOUT, self.writer.shutdown()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REPLIES_QUEUED_PER_CONNECTION_MAX;
    use crate::peer::tests::line;

    #[tokio::test]
    async fn who_leaves_too_many_answers_unread_is_left_and_who_reads_is_not() {
        let ((_stream, us), _) = line().await;
        let unread_max = Unread::Messages(REPLIES_QUEUED_PER_CONNECTION_MAX);
        let mut outbox = Outbox::new(tokio::io::sink(), us.encoder, unread_max);
        let answer = EncodedMessage {
            extension_type: 0,
            channel_msg: false,
            msg_type: 0x51,
            payload: vec![1; 100],
        };
        for _ in 0..3 {
            for _ in 0..REPLIES_QUEUED_PER_CONNECTION_MAX {
                outbox.queue(&answer).unwrap();
            }
            let pending_bytes = outbox.writer.pending_bytes();
            let one_more = outbox.queue(&answer);
            assert!(matches!(&one_more, Err(Ended::Unread(max)) if *max == unread_max));
            assert_eq!(outbox.writer.pending_bytes(), pending_bytes, "nothing of it is held");
            outbox.flush().await.unwrap();
            assert!(outbox.is_idle());
        }
    }
}
