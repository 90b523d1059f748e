//! What every encrypted connection of ours has in common: the handshake, frames that arrive within
//! the byte budget and in time, messages that leave in time, and the reasons for its end.

pub(crate) mod draining;
mod incoming;
mod outbox;
pub(crate) mod turns;

use jds_wire::Transport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::debug;

pub(crate) use draining::Draining;
pub(crate) use incoming::Incoming;
pub(crate) use outbox::{Outbox, Unread};

use crate::clock;
use crate::limits::{FRAME_ROOM_WAIT_MAX, HANDSHAKE_TIMEOUT, LINE_BYTES_MAX, WRITE_TIMEOUT};
use crate::noise_io::{IoError, accept_handshake};
use crate::server::Shared;
use crate::session::CloseReason;

/// Why a connection ended. Any of these ends this connection only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The socket or its frames.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The peer took too long for the handshake.
    #[error("no Noise handshake within {} ms", HANDSHAKE_TIMEOUT.as_millis())]
    HandshakeTimeout,
    /// A frame was begun and not finished.
    #[error("a frame was not complete in time")]
    FrameTimeout,
    /// All that peers may make us hold is held by others.
    #[error(
        "no room for more of a frame within {} ms: other peers make us hold too much",
        FRAME_ROOM_WAIT_MAX.as_millis()
    )]
    NoRoom,
    /// No end of a line.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// The peer does not read our answers.
    #[error("the peer did not read its answers for {} ms", WRITE_TIMEOUT.as_millis())]
    WriteTimeout,
    /// The peer asks without reading.
    #[error("the peer left {0} unread")]
    Unread(Unread),
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] CloseReason),
    /// A mining session ended it.
    #[error("{0}")]
    Mining(String),
    /// What the peer was to be told is not durable: the store is closed.
    #[error("a share could not be recorded: {0}")]
    NotRecorded(#[from] store::CommitError),
    /// An answer of ours could not be encoded: a defect of ours.
    #[error("an answer could not be encoded")]
    Encode,
    /// The server shuts down.
    #[error("the server shuts down")]
    Shutdown,
}

impl Ended {
    /// The peer may still read what it was answered: it has not shown that it does not.
    pub(crate) fn peer_may_read(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::WriteTimeout | Self::Unread(_))
    }
}

/// The server's side of the handshake, counted and within its time; none if there was none.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    shared: &Shared,
) -> Option<Transport> {
    let _counted = shared.counts.handshakes.part(1);
    let handshake =
        accept_handshake(stream, &shared.authority, shared.cert_validity, clock::unix_s);
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(transport)) => return Some(transport),
        Ok(Err(error)) => debug!(reason = %error, "no handshake"),
        Err(_) => debug!(reason = %Ended::HandshakeTimeout, "no handshake"),
    }
    None
}

/// When what begins to leave now must have left.
pub(crate) fn in_write_timeout() -> tokio::time::Instant {
    tokio::time::Instant::now() + WRITE_TIMEOUT
}

#[cfg(test)]
pub(crate) mod tests {
    //! A line without a network.

    use std::time::Duration;

    use jds_wire::AuthorityKeys;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::noise_io::connect_handshake;

    /// Bytes that are under way at most.
    pub(crate) const LINE_BYTES: usize = 1_024;

    /// Our end of an encrypted line and that of the peer.
    pub(crate) async fn line() -> ((DuplexStream, Transport), (DuplexStream, Transport)) {
        let (mut ours, mut theirs) = tokio::io::duplex(LINE_BYTES);
        let keys = AuthorityKeys::generate(&mut rand::thread_rng());
        let validity = Duration::from_secs(3_600);
        let (server, client) = tokio::join!(
            accept_handshake(&mut ours, &keys, validity, clock::unix_s),
            connect_handshake(&mut theirs, Some(keys.public()), clock::unix_s)
        );
        ((ours, server.unwrap()), (theirs, client.unwrap()))
    }
}
