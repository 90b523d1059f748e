//! Noise, frames and typed messages: bytes in, bytes out.
