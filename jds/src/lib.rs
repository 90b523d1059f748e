//! Job Declaration Server for sovereign Bitcoin miners.

pub mod noise_io;
