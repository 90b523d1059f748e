//! The receiving side of a connection, with its share of the byte budget.

use std::time::{Duration, Instant};

use jds_wire::{Admit, Event, FrameDecoder, FrameHeader};
use tokio::io::AsyncRead;
use tokio::time::timeout_at;

use super::Ended;
use crate::budget::{ByteBudget, ConnectionBudget, Permit, Taking};
use crate::limits::{FRAME_BYTES_PER_SECOND_MIN, FRAME_BYTES_UNCOUNTED_MAX, FRAME_TIMEOUT};
use crate::noise_io::FrameReader;

/// The receiving side with its share of the byte budget.
pub(crate) struct Incoming<R> {
    frames: FrameReader<R>,
    budget: ConnectionBudget,
    frame: Option<Arriving>,
}

/// A frame whose header is here.
struct Arriving {
    admit: Admit,
    permit: Permit,
    /// Set while we wait for our own budget: since when, and the place in the line.
    taking: Option<(Instant, Taking)>,
    deadline: Instant,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(stream: R, decoder: FrameDecoder, peer_bytes: ByteBudget) -> Self {
        let budget = ConnectionBudget::new(peer_bytes);
        Self { frames: FrameReader::new(stream, decoder), budget, frame: None }
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
            deadline: Instant::now() + frame_time(header.payload_bytes),
        });
        let event = loop {
            if let Some((since, taking)) = &mut arriving.taking {
                arriving.permit.add(taking.await);
                arriving.deadline += since.elapsed();
                arriving.taking = None;
            }
            let held_max = arriving.permit.bytes() + FRAME_BYTES_UNCOUNTED_MAX;
            let body = self.frames.body_within(arriving.admit, held_max);
            match timeout_at(arriving.deadline.into(), body).await {
                Err(_) => return Err(Ended::FrameTimeout),
                Ok(event) => match event? {
                    Some(event) => break event,
                    None => {
                        let held = self.frames.held_bytes();
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

/// How long a frame of that size may take.
fn frame_time(payload_bytes: usize) -> Duration {
    FRAME_TIMEOUT + Duration::from_secs(payload_bytes as u64 / FRAME_BYTES_PER_SECOND_MIN)
}
