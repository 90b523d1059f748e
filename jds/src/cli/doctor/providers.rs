//! Questions to the template providers: each is connected to as the server would, and has to give a
//! template.

use std::thread;
use std::time::Duration;

use bitcoin::Network;
use config::{Checked, TemplateProvider};
use jds::node_settings::provider_settings;
use tdp_client::{Fault, ProviderFacts, probe_provider};

use super::code::Code;
use super::report::{Check, Report};

/// What one provider told.
struct Answers {
    name: String,
    checks: Vec<Check>,
    /// It gave a template.
    ready: bool,
}

/// Asks all of them side by side; the names of those that gave a template.
pub(super) fn check(config: &Checked, limit: Duration, report: &mut Report) -> Vec<String> {
    let network = config.network;
    let answers: Vec<Answers> = thread::scope(|scope| {
        let ask = |provider| scope.spawn(move || ask(provider, network, limit));
        let threads: Vec<_> = config.template_providers.iter().map(ask).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for check in answers.iter().flat_map(|answers| &answers.checks) {
        report.push(check.clone());
    }
    answers.into_iter().filter(|answers| answers.ready).map(|answers| answers.name).collect()
}

fn ask(provider: &TemplateProvider, network: Network, limit: Duration) -> Answers {
    let name = |what: &str| format!("template provider {}: {what}", provider.name);
    let settings = match provider_settings(provider, network) {
        Ok(settings) => settings,
        Err(error) => {
            let advice = "Set `public_key` as the provider's operator tells it.";
            let check = Check::bad(name("key"), Code::ProviderKey, error, advice);
            return Answers { name: provider.name.clone(), checks: vec![check], ready: false };
        }
    };
    let (checks, ready) = match probe_provider(&settings, limit) {
        Ok(facts) => (told(provider, &facts, name), true),
        Err(error) => (failed(provider, error.fault(), name), false),
    };
    Answers { name: provider.name.clone(), checks, ready }
}

fn told(
    provider: &TemplateProvider,
    facts: &ProviderFacts,
    name: impl Fn(&str) -> String,
) -> Vec<Check> {
    let key = match &provider.public_key {
        Some(key) => format!("it is the holder of {key}"),
        None => "no `public_key` is set: whoever answers is believed".to_owned(),
    };
    let template = format!(
        "height {} on {}, {} transactions",
        facts.template.height,
        facts.tip.hash,
        facts.template.txs.len()
    );
    vec![
        Check::ok(name("reachable"), format!("{} answers", provider.address)),
        Check::ok(name("key"), key),
        Check::ok(name("template"), template),
    ]
}

fn failed(provider: &TemplateProvider, fault: &Fault, name: impl Fn(&str) -> String) -> Vec<Check> {
    let answers = || Check::ok(name("reachable"), format!("{} answers", provider.address));
    let bad =
        |what: &str, code, advice: &str| Check::bad(name(what), code, fault.to_string(), advice);
    match fault {
        Fault::ProviderUntrusted { .. } => vec![
            answers(),
            bad(
                "key",
                Code::ProviderKey,
                "Compare `public_key` with the authority public key that the provider's operator \
                 tells, and the clocks of both machines. If they are right, somebody else answers \
                 at `address`.",
            ),
        ],
        Fault::ProviderRefused { .. } => vec![
            answers(),
            bad(
                "setup",
                Code::ProviderRefused,
                "Whoever answers at `address` offers no template distribution: correct the port.",
            ),
        ],
        Fault::ProviderWithoutTemplate => vec![
            answers(),
            bad(
                "template",
                Code::ProviderTemplate,
                "Look at the node under the provider: it may be starting, downloading the chain, or \
                 without peers.",
            ),
        ],
        Fault::ProviderUnreachable { .. } => vec![bad(
            "reachable",
            Code::ProviderUnreachable,
            "Start the template provider, or correct `address`; on another machine it has to listen \
             there, and no firewall may be in between.",
        )],
        _ => vec![bad(
            "reachable",
            Code::ProviderProtocol,
            "Something answers at `address` that is no template provider of Stratum V2, or that \
             breaks off or contradicts itself: correct `address`, or look into its log.",
        )],
    }
}
