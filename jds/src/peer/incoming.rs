//! The receiving side of a connection, with its share of the byte budget.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, ready};
use std::time::{Duration, Instant};

use jds_wire::{Admit, Event, FrameDecoder, FrameHeader};
use tokio::io::AsyncRead;
use tokio::time::timeout_at;

use super::Ended;
use crate::budget::{ByteBudget, ConnectionBudget, Permit, Taking};
use crate::limits::{
    FRAME_BYTES_PER_SECOND_MIN, FRAME_BYTES_UNCOUNTED_MAX, FRAME_ROOM_WAIT_MAX, FRAME_TIMEOUT,
    LARGE_FRAME_BYTES_MIN,
};
use crate::noise_io::FrameReader;
use crate::peer::turns::{TakingTurn, Turns};

/// The receiving side with its share of the byte budget.
pub(crate) struct Incoming<R> {
    frames: FrameReader<R>,
    budget: ConnectionBudget,
    turns: Turns,
    frame: Option<Arriving>,
}

/// A frame whose header is here.
struct Arriving {
    admit: Admit,
    permit: Permit,
    /// Set while we wait for our own budget: since when, and the place in the line.
    taking: Option<(Instant, Taking)>,
    /// Read in turns with others.
    is_large: bool,
    deadline: Instant,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(stream: R, decoder: FrameDecoder, peer_bytes: ByteBudget) -> Self {
        let turns = peer_bytes.turns().clone();
        let budget = ConnectionBudget::new(peer_bytes);
        Self { frames: FrameReader::new(stream, decoder), budget, turns, frame: None }
    }

    /// True between two frames: not a byte of the next one has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        self.frames.is_idle()
    }

    /// The next frame with its share of the budget, which is taken in step with the bytes that
    /// arrive: a header that announces megabytes takes nothing from others. Cancellation-safe.
    pub(crate) async fn next(
        &mut self,
        admit: impl FnOnce(&FrameHeader) -> Admit,
    ) -> Result<(Event, Permit), Ended> {
        let header = self.frames.header().await?;
        let arriving = self.frame.get_or_insert_with(|| Arriving {
            admit: admit(&header),
            permit: Permit::default(),
            taking: None,
            is_large: header.payload_bytes >= LARGE_FRAME_BYTES_MIN,
            deadline: Instant::now() + frame_time(header.payload_bytes),
        });
        let event = loop {
            if let Some((since, taking)) = &mut arriving.taking {
                let taken = timeout_at((*since + FRAME_ROOM_WAIT_MAX).into(), taking).await;
                arriving.permit.add(taken.map_err(|_| Ended::NoRoom)?);
                arriving.deadline += since.elapsed();
                arriving.taking = None;
            }
            let held_max = match arriving.permit.is_beyond() {
                true => usize::MAX,
                false => arriving.permit.bytes() + FRAME_BYTES_UNCOUNTED_MAX,
            };
            let body = self.frames.body_within(arriving.admit, held_max);
            let turns = arriving.is_large.then_some(&self.turns);
            match timeout_at(arriving.deadline.into(), in_turns(turns, body)).await {
                Err(_) => return Err(Ended::FrameTimeout),
                Ok(event) => match event? {
                    Some(event) => break event,
                    None => {
                        let held = self.frames.held_bytes_next();
                        let missing = held.saturating_sub(arriving.permit.bytes());
                        arriving.taking = Some((Instant::now(), self.budget.take(missing)));
                    }
                },
            }
        };
        let permit = self.frame.take().map(|arriving| arriving.permit).unwrap_or_default();
        Ok((event, permit))
    }
}

/// Goes on with `reading` whenever it is our turn, and gives the turn back as soon as it has to wait for
/// the peer. Without `turns` it is always ours. Dropped, it holds no turn and has no place in the line:
/// a turn that nobody uses would hold up all others.
async fn in_turns<T>(turns: Option<&Turns>, reading: impl Future<Output = T>) -> T {
    let (mut reading, mut turn) = (pin!(reading), None);
    let mut read = |context: &mut Context<'_>| reading.as_mut().poll(context);
    poll_fn(|context| {
        let Some(turns) = turns else { return read(context) };
        let taking: &mut TakingTurn = turn.get_or_insert_with(|| turns.take());
        let held = ready!(Pin::new(taking).poll(context));
        turn = None;
        let read = read(context);
        drop(held);
        read
    })
    .await
}

/// How long a frame of that size may take.
fn frame_time(payload_bytes: usize) -> Duration {
    FRAME_TIMEOUT + Duration::from_secs(payload_bytes as u64 / FRAME_BYTES_PER_SECOND_MIN)
}

#[cfg(test)]
mod tests;
