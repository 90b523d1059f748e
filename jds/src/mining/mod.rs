//! Where miners connect.

pub mod custom;
