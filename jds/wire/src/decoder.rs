//! Encrypted bytes to frames, in whatever pieces the bytes arrive.
#![deny(clippy::indexing_slicing)]

use noise_sv2::NoiseDecryptor;

use crate::{
    frame::{Frame, FrameHeader, SEALED_CHUNK_BYTES_MAX, SEALED_HEADER_BYTES},
    limits::{Admit, DISCARD_KEEP_BYTES_MAX},
    tail::Tail,
};

/// The smallest step in which memory for a payload is taken, bytes. Larger ones follow what has
/// already arrived, so that a header alone is never worth more than this.
const FIRST_STEP_BYTES: usize = 4096;

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A header has arrived, and [`FrameDecoder::admit`] has to say what follows. Comes again until
    /// it does.
    Header(FrameHeader),
    /// A frame is complete.
    Frame(Frame),
    /// A frame has been read past, as [`Admit::DiscardKeeping`] asked.
    Oversized {
        /// What it said of itself.
        header: FrameHeader,
        /// The first bytes of its payload, as many as were asked for and there are.
        head: Vec<u8>,
    },
}

/// Why a connection's bytes are worth no more. Nothing follows: every later call gives `Dead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The MAC is wrong.
    #[error("a frame {part} does not decrypt: its bytes were changed on the way, or the peer's cipher is out of step", part = if *.in_header { "header" } else { "payload" })]
    Cipher {
        /// True for the header, false for a chunk of the payload.
        in_header: bool,
    },
    /// The frame was not admitted.
    #[error(
        "a frame of type {:#04x} (extension {:#06x}) with {} bytes, where at most {limit_bytes} are admitted",
        header.msg_type, header.extension_type, header.payload_bytes
    )]
    Refused {
        /// What it said of itself.
        header: FrameHeader,
        /// What would have been admitted, bytes.
        limit_bytes: usize,
    },
    /// An earlier error ended this direction of the connection.
    #[error("the connection's input ended with an earlier error")]
    Dead,
}

#[derive(Debug)]
enum State {
    Header,
    Admission(FrameHeader),
    Payload(Payload),
    Dead,
}

#[derive(Debug)]
struct Payload {
    header: FrameHeader,
    /// Where in the buffer the chunk starts that is arriving.
    chunk_start: usize,
    /// Encrypted bytes of the payload from that chunk on, whether here or still to come.
    sealed_left: usize,
    /// For a payload that is read past: how many bytes to keep, and those kept.
    discard: Option<(usize, Vec<u8>)>,
}

impl Payload {
    fn chunk_end(&self) -> usize {
        self.chunk_start + self.sealed_left.min(SEALED_CHUNK_BYTES_MAX)
    }
}

/// Decrypts frames of one direction of one connection, without doing any reading itself:
///
/// ```text
/// loop {
///     match decoder.poll()? {
///         Some(Event::Header(header)) => decoder.admit(decide(&header))?,
///         Some(event) => return event,
///         None => { let n = read(decoder.space()); decoder.filled(n); }
///     }
/// }
/// ```
///
/// Every step is complete in itself, so a reader may be cancelled between any two.
#[derive(Debug)]
pub struct FrameDecoder {
    decryptor: NoiseDecryptor,
    /// A header that is arriving; or the plain payload so far and behind it the chunk that is
    /// arriving, which is decrypted where it lies. Longer than `filled` by what `space` handed out.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are real.
    filled: usize,
    state: State,
}

impl FrameDecoder {
    /// Over the receiving half of a finished handshake.
    pub fn new(decryptor: NoiseDecryptor) -> Self {
        Self { decryptor, buffer: Vec::new(), filled: 0, state: State::Header }
    }

    /// How many bytes the current step still needs; 0 when [`Self::poll`] has something to say.
    pub fn want(&self) -> usize {
        self.step_end().saturating_sub(self.filled)
    }

    /// The header of the frame that is arriving, once it is here.
    pub fn current(&self) -> Option<FrameHeader> {
        match &self.state {
            State::Admission(header) => Some(*header),
            State::Payload(payload) => Some(payload.header),
            State::Header | State::Dead => None,
        }
    }

    /// True between two frames: not a byte of the next one has arrived.
    pub fn is_idle(&self) -> bool {
        self.filled == 0 && self.current().is_none()
    }

    /// Memory that this holds, bytes. After [`Self::admit`] it stays below twice what has arrived of
    /// the payload plus 4 kB, and never exceeds the payload as it is on the wire.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Memory that this will hold once [`Self::space`] was asked for, bytes.
    pub fn held_bytes_next(&self) -> usize {
        let (want, held) = (self.want(), self.buffer.capacity());
        let spare = held - self.filled;
        if spare >= want.min(FIRST_STEP_BYTES) {
            return held;
        }
        let step = self.filled.max(FIRST_STEP_BYTES);
        held.max((self.filled + step).min(self.whole()))
    }

    /// Room for the next bytes: empty only when [`Self::want`] is 0, else possibly shorter than that.
    /// To be followed by [`Self::filled`] with the number of bytes written to it.
    pub fn space(&mut self) -> &mut [u8] {
        let target = self.held_bytes_next();
        if target > self.buffer.capacity() {
            self.buffer.truncate(self.filled);
            self.buffer.reserve_exact(target.saturating_sub(self.filled));
        }
        let step = self.want().min(self.buffer.capacity() - self.filled);
        self.buffer.resize(self.filled + step, 0);
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that the first `bytes` of [`Self::space`] have been written. More than it had are not
    /// counted.
    pub fn filled(&mut self, bytes: usize) {
        self.filled = self.filled.saturating_add(bytes).min(self.buffer.len());
    }

    /// Copies as much from `bytes` as the current step takes, and returns how much that was: 0 when
    /// [`Self::poll`] has something to say first.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let taken = space.len().min(bytes.len());
        if let (Some(to), Some(from)) = (space.get_mut(..taken), bytes.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.filled(taken);
        taken
    }

    /// What the bytes so far amount to; none while more are needed.
    ///
    /// # Errors
    /// [`FrameError::Cipher`] for bytes that do not decrypt, and `Dead` ever after.
    pub fn poll(&mut self) -> Result<Option<Event>, FrameError> {
        loop {
            if self.want() > 0 {
                return Ok(None);
            }
            match &mut self.state {
                State::Dead => return Err(FrameError::Dead),
                State::Admission(header) => return Ok(Some(Event::Header(*header))),
                State::Header => self.open_header()?,
                State::Payload(payload) if payload.sealed_left == 0 => return Ok(self.finish()),
                State::Payload(_) => self.open_chunk()?,
            }
        }
    }

    /// Decides on the payload of the header that [`Self::poll`] has shown; without one it does
    /// nothing.
    ///
    /// # Errors
    /// [`FrameError::Refused`] for [`Admit::Refuse`]; the decoder is dead then.
    pub fn admit(&mut self, admit: Admit) -> Result<(), FrameError> {
        let State::Admission(header) = self.state else {
            return Ok(());
        };
        let discard = match admit {
            Admit::Buffer => None,
            Admit::DiscardKeeping(keep) => Some((keep.min(DISCARD_KEEP_BYTES_MAX), Vec::new())),
            Admit::Refuse { limit_bytes } => {
                self.state = State::Dead;
                return Err(FrameError::Refused { header, limit_bytes });
            }
        };
        let sealed_left = header.sealed_payload_bytes();
        self.state = State::Payload(Payload { header, chunk_start: 0, sealed_left, discard });
        Ok(())
    }

    /// Where in the buffer the current step ends.
    fn step_end(&self) -> usize {
        match &self.state {
            State::Header => SEALED_HEADER_BYTES,
            State::Payload(payload) => payload.chunk_end(),
            State::Admission(_) | State::Dead => 0,
        }
    }

    /// The most that the buffer will have to hold before it is handed out.
    fn whole(&self) -> usize {
        match &self.state {
            State::Payload(payload) if payload.discard.is_none() => {
                payload.chunk_start + payload.sealed_left
            }
            _ => self.step_end(),
        }
    }

    fn open_header(&mut self) -> Result<(), FrameError> {
        self.open(0, true)?;
        let header = FrameHeader::parse(&self.buffer);
        self.buffer.clear();
        self.filled = 0;
        // Six bytes decrypted are six bytes of header: there is no other way to fail.
        let header = header.ok_or(FrameError::Cipher { in_header: true })?;
        self.state = State::Admission(header);
        Ok(())
    }

    fn open_chunk(&mut self) -> Result<(), FrameError> {
        let State::Payload(payload) = &self.state else {
            return Ok(());
        };
        let (start, end) = (payload.chunk_start, payload.chunk_end());
        self.open(start, false)?;
        if let State::Payload(payload) = &mut self.state {
            payload.sealed_left -= end - start;
            if let Some((keep, head)) = &mut payload.discard {
                let missing = keep.saturating_sub(head.len());
                head.extend(self.buffer.iter().take(missing));
                self.buffer.clear();
            }
            payload.chunk_start = self.buffer.len();
        }
        self.filled = self.buffer.len();
        Ok(())
    }

    /// Decrypts the buffer from `start` on in place, which then ends with the plain bytes.
    fn open(&mut self, start: usize, in_header: bool) -> Result<(), FrameError> {
        self.buffer.truncate(self.filled);
        self.decryptor.decrypt(&mut Tail::new(&mut self.buffer, start)).map_err(|_| {
            self.state = State::Dead;
            self.buffer = Vec::new();
            self.filled = 0;
            FrameError::Cipher { in_header }
        })
    }

    fn finish(&mut self) -> Option<Event> {
        let State::Payload(payload) = std::mem::replace(&mut self.state, State::Header) else {
            return None;
        };
        let buffer = std::mem::take(&mut self.buffer);
        self.filled = 0;
        let header = payload.header;
        Some(match payload.discard {
            None => Event::Frame(Frame { header, payload: buffer }),
            Some((_, head)) => Event::Oversized { header, head },
        })
    }
}
