//! The workers of a connection: names that were authorized on it.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use validation::rules::Rules;

use super::refusal::Refusal;
use crate::identity::Identity;
use crate::limits::{SV1_WORKERS_MAX, USER_IDENTITY_BYTES_MAX};
use crate::{Deps, identity};

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    /// Counts from 1 on the connection.
    pub(super) channel_id: u32,
    pub(super) identity: Identity,
}

/// All of them, and who is paid.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_name: HashMap<Box<str>, Worker>,
    first: Option<(Identity, Arc<Rules>)>,
}

/// What came of `mining.authorize`.
#[derive(Debug)]
pub(super) enum Authorized {
    /// It is one now.
    New(Worker),
    /// It was one before.
    Known,
}

impl Workers {
    /// The first of them, and who is paid.
    pub(super) fn first(&self) -> Option<&(Identity, Arc<Rules>)> {
        self.first.as_ref()
    }

    /// Takes all of them out, in the order in which they came.
    pub(super) fn take(&mut self) -> Vec<Worker> {
        let mut workers: Vec<_> = std::mem::take(&mut self.by_name).into_values().collect();
        workers.sort_by_key(|worker| worker.channel_id);
        workers
    }

    pub(super) fn get(&self, name: &str) -> Option<&Worker> {
        self.by_name.get(name)
    }

    /// Takes a name on. All workers of a connection mine one coinbase: a name that is paid otherwise
    /// than the first needs a connection of its own.
    ///
    /// # Errors
    /// A refusal that says why.
    pub(super) fn authorize(&mut self, name: &str, deps: &Deps) -> Result<Authorized, Refusal> {
        if self.by_name.contains_key(name) {
            return Ok(Authorized::Known);
        }
        if name.len() > USER_IDENTITY_BYTES_MAX {
            let problem = format!("the user name has more than {USER_IDENTITY_BYTES_MAX} bytes");
            return Err(Refusal::unauthorized(problem));
        }
        if self.by_name.len() >= SV1_WORKERS_MAX {
            let problem = format!("a connection has at most {SV1_WORKERS_MAX} workers");
            return Err(Refusal::unauthorized(problem));
        }
        let rules = (deps.terms)(name).map_err(|problem| {
            Refusal::unauthorized(format!(
                "{}: {}",
                identity::printable(name),
                identity::printable(&problem)
            ))
        })?;
        let identity = Identity::of(name);
        let (_, first) = self.first.get_or_insert_with(|| (identity.clone(), Arc::clone(&rules)));
        if first.payout != rules.payout {
            return Err(Refusal::unauthorized(
                "another worker of this connection is paid otherwise: use a second connection",
            ));
        }
        let channel_id = u32::try_from(self.by_name.len() + 1).unwrap_or(u32::MAX);
        let worker = Worker { channel_id, identity };
        self.by_name.insert(name.into(), worker.clone());
        Ok(Authorized::New(worker))
    }
}
