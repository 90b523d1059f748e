//! The SV2 session, asked the way a miner asks it.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod channels;
#[cfg(test)]
mod custom;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod renewed;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod tips;
#[cfg(test)]
mod vectors;
