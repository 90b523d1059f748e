//! All nodes side by side: each by itself, then against each other and against our clock.

use std::thread;
use std::time::Duration;

use config::Checked;
use tdp_client::ChainFacts;

use super::clock;
use super::code::Code;
use super::node::{self, Answers};
use super::report::{Check, Report};

const NODES: &str = "nodes";
const TEMPLATES: &str = "templates";

/// A node that is this far behind is not just hearing of the newest block, blocks.
const LAG_MIN: u64 = 2;

/// `providers`: template providers that gave a template.
pub(super) fn check(config: &Checked, providers: &[String], limit: Duration, report: &mut Report) {
    let network = config.network;
    let answers: Vec<Answers> = thread::scope(|scope| {
        let threads: Vec<_> = config
            .nodes
            .iter()
            .map(|node| scope.spawn(move || node::ask(node, network, limit)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for check in answers.iter().flat_map(|answers| &answers.checks) {
        report.push(check.clone());
    }
    if answers.is_empty() {
        return report.push(without_node(providers));
    }
    report.push(clock::check(&answers));
    if answers.len() > 1 {
        report.push(together(&answers));
    }
    report.push(ready(&answers, providers));
}

/// Without a node templates alone are served.
fn without_node(providers: &[String]) -> Check {
    if providers.is_empty() {
        return Check::bad(
            TEMPLATES,
            Code::NodesNone,
            "no template provider gives templates now",
            "See what is said of each above. The server starts all the same, and serves nothing \
             until one is ready.",
        );
    }
    Check::ok(TEMPLATES, format!("from {}", providers.join(", ")))
}

/// Whether the nodes are on one chain.
fn together(answers: &[Answers]) -> Check {
    let mut chains: Vec<(&Answers, &ChainFacts)> =
        answers.iter().filter_map(|answers| Some((answers, answers.chain.as_ref()?))).collect();
    chains.sort_by_key(|(_, chain)| std::cmp::Reverse(chain.blocks));
    let Some(((best, tip), others)) = chains.split_first() else {
        return Check::ok(NODES, "none told its tip: nothing to compare");
    };
    for (other, chain) in others {
        // A block that came between the two questions is on the chain all the same.
        let known = best.probe.as_ref().map(|probe| probe.confirmations(&chain.best));
        let stale = match known {
            Some(Ok(Some(confirmations))) => confirmations < 0,
            Some(Ok(None)) => true,
            Some(Err(_)) | None => false,
        };
        if stale {
            let message = format!(
                "the tip of {} (height {}) is not in the chain of {} (height {})",
                other.name, chain.blocks, best.name, tip.blocks
            );
            let advice = "Wait for the next block and run this again: two blocks at a time happen. If \
                          it stays, one node is cut off or refuses a block; `bitcoin-cli \
                          getchaintips` and debug.log of both tell which.";
            return Check::bad(NODES, Code::NodesFork, message, advice);
        }
        let lag = tip.blocks.saturating_sub(chain.blocks);
        if lag >= LAG_MIN {
            let message = format!("{} is {lag} blocks behind {}", other.name, best.name);
            let advice = "Look at its peers and its load. The server uses the other one meanwhile.";
            return Check::bad(NODES, Code::NodesLag, message, advice);
        }
    }
    Check::ok(NODES, format!("{} nodes are on one chain, height {}", chains.len(), tip.blocks))
}

fn ready(answers: &[Answers], providers: &[String]) -> Check {
    let ready: Vec<_> = answers
        .iter()
        .filter(|answers| answers.ready)
        .map(|answers| answers.name.as_str())
        .collect();
    if ready.is_empty() {
        return Check::bad(
            TEMPLATES,
            Code::NodesNone,
            "no node can give templates and take blocks now",
            "See what is said of each node above. The server starts all the same, and miners can \
             declare nothing until one is ready.",
        );
    }
    let all = ready.into_iter().chain(providers.iter().map(String::as_str));
    Check::ok(TEMPLATES, format!("from {}", all.collect::<Vec<_>>().join(", ")))
}
