//! One line of log for each thing that an operator wants to know.

use tracing::{debug, info, warn};

use crate::session::{Declared, DeclaredResult, Record};

/// Writes the line.
pub(crate) fn log(record: Record) {
    match record {
        Record::SetUp { full_template, vendor, firmware, .. } => {
            let mode = if full_template { "full-template" } else { "coinbase-only" };
            info!(mode, vendor, firmware, "connection set up");
        }
        Record::TokenAllocated { user, .. } => debug!(user = user.name, "token allocated"),
        Record::TxsAsked { request_id, count } => {
            debug!(request_id, count, "asking for transactions");
        }
        Record::Ignored(what) => debug!(what, "ignored"),
        Record::Declared(declared) => log_declared(declared),
    }
}

fn log_declared(declared: Declared) {
    let Declared { request_id, user, received, result } = declared;
    let worker = user.as_ref().map_or("", |user| user.worker.as_str());
    let user = user.as_ref().map_or("-", |user| user.name.as_str());
    let ms = received.elapsed().as_secs_f64() * 1e3;
    match result {
        DeclaredResult::Accepted { job, missing, checked } => {
            let accepted = &job.accepted;
            info!(
                user,
                worker,
                request_id,
                template = %accepted.template_hash(),
                height = accepted.height(),
                txs = accepted.txs().len(),
                missing,
                weight_wu = accepted.weight_wu(),
                fees_sat = accepted.fees().total_sat,
                ms,
                check = checked.as_ref().map(tracing::field::debug),
                "declaration accepted"
            );
        }
        DeclaredResult::Rejected(rejection) => {
            let (code, details) = (rejection.code.as_str(), rejection.details());
            warn!(user, worker, request_id, code, details, ms, "declaration rejected");
        }
    }
}
