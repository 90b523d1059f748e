//! Job Declaration Server for sovereign Bitcoin miners.
