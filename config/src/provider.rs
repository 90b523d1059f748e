//! The `[[template_provider]]` tables.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::check::Context;
use crate::checked::{ConsensusCheck, Node, ProviderAddress, TemplateProvider};
use crate::error::Problem;
use crate::keys::PublicKey;
use crate::node;
use crate::raw::{Mode, RawJobDeclaration, RawTemplateProvider};

/// Where the template provider of Bitcoin Core listens by default; goes into messages.
const EXAMPLE: &str = "127.0.0.1:8442";

pub(crate) fn check_all(
    context: &Context<'_>,
    raw: Vec<RawTemplateProvider>,
    nodes: &[Node],
    warnings: &mut Vec<String>,
) -> Result<Vec<TemplateProvider>, Problem> {
    let mut providers: Vec<TemplateProvider> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let provider = ProviderCheck { context, index }.check(raw, warnings)?;
        let name = &provider.name;
        let same_node = nodes.iter().position(|node| node.name == *name);
        let same_provider = providers.iter().position(|earlier| earlier.name == *name);
        let earlier = same_node
            .map(|at| format!("`node.{at}.name`"))
            .or_else(|| same_provider.map(|at| format!("`template_provider.{at}.name`")));
        if let Some(earlier) = earlier {
            return Err(Problem::Conflict {
                first: format!("{earlier} = {name:?}"),
                second: format!("`template_provider.{index}.name` = {name:?}"),
                reason: "names of nodes and template providers are unique; rename one".to_owned(),
            });
        }
        if let Some(earlier) = providers.iter().find(|other| other.address == provider.address) {
            warnings.push(format!(
                "the template providers {:?} and {name:?} have the same address {}: they are one",
                earlier.name, provider.address
            ));
        }
        providers.push(provider);
    }
    Ok(providers)
}

/// What can not be served by template providers alone: they take no block but those of their own
/// templates, and check none.
pub(crate) fn check_without_node(
    context: &Context<'_>,
    job_declaration: &RawJobDeclaration,
    warnings: &mut Vec<String>,
) -> Result<(), Problem> {
    const MODES: &str = "job_declaration.modes";
    if job_declaration.modes.contains(&Mode::FullTemplate) {
        return Err(Problem::Conflict {
            first: format!("{} with \"full-template\"", context.places.of(MODES)),
            second: "[[template_provider]] without a [[node]]".to_owned(),
            reason: "a block that a miner finds on a template of their own can only be submitted \
                     to a node: a template provider takes none but those of its own templates. \
                     Add a [[node]], or set modes = [\"coinbase-only\"], where the miner's own \
                     node submits"
                .to_owned(),
        });
    }
    if job_declaration.check_node.is_none()
        && job_declaration.consensus_check == ConsensusCheck::BeforeAccept
    {
        warnings.push(
            "`job_declaration.consensus_check` = \"before-accept\" has no effect without a [[node]]"
                .to_owned(),
        );
    }
    warnings.push(
        "there is no [[node]]: blocks found on templates given out here go to the template \
         provider that gave the template and nowhere else, and what becomes of them is not followed"
            .to_owned(),
    );
    Ok(())
}

/// Templates from our own endpoint would be ours again.
pub(crate) fn check_not_ourselves(
    providers: &[TemplateProvider],
    listen: SocketAddr,
) -> Result<(), Problem> {
    let here = |provider: &&TemplateProvider| {
        let address = provider.address.as_str();
        let here = listen.ip().is_unspecified() || listen.ip().is_loopback();
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        address.parse() == Ok(listen)
            || (provider.address.is_loopback() && here && port == Some(listen.port()))
    };
    match providers.iter().find(here) {
        None => Ok(()),
        Some(provider) => Err(Problem::Conflict {
            first: format!("template provider {:?} at {}", provider.name, provider.address),
            second: format!("`template_distribution.listen` = \"{listen}\""),
            reason: "the server would follow itself; choose another port for one of them"
                .to_owned(),
        }),
    }
}

struct ProviderCheck<'a> {
    context: &'a Context<'a>,
    index: usize,
}

impl ProviderCheck<'_> {
    fn path(&self, key: &str) -> String {
        format!("template_provider.{}.{key}", self.index)
    }

    fn missing(&self, key: &str, expected: &str) -> Problem {
        Problem::Missing { key: self.path(key), expected: expected.to_owned() }
    }

    fn check(
        &self,
        raw: RawTemplateProvider,
        warnings: &mut Vec<String>,
    ) -> Result<TemplateProvider, Problem> {
        let name = raw.name.ok_or_else(|| self.missing("name", "a unique name"))?;
        node::check_name(&name)
            .map_err(|reason| self.context.invalid(&self.path("name"), reason))?;
        let address = raw.address.ok_or_else(|| {
            self.missing("address", &format!("HOST:PORT, for example \"{EXAMPLE}\""))
        })?;
        let address = self.address(address.trim())?;
        let public_key = match &raw.public_key {
            Some(text) => {
                let place = self.context.places.of(&self.path("public_key"));
                let key = PublicKey::parse(text.expose().trim());
                Some(key.map_err(|source| Problem::Key { place, source })?)
            }
            None => None,
        };
        if public_key.is_none() && !address.is_loopback() {
            warnings.push(format!(
                "template provider {name:?}: {address} is not on this machine and no public_key is \
                 set: whoever is on the way can tell tips and templates"
            ));
        }
        Ok(TemplateProvider { name, address, public_key })
    }

    fn address(&self, text: &str) -> Result<ProviderAddress, Problem> {
        let invalid = || {
            let reason = format!(
                "is {text:?}; expected HOST:PORT, for example \"{EXAMPLE}\" or \"[::1]:8442\""
            );
            self.context.invalid(&self.path("address"), reason)
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok().then_some(v6),
            None => {
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                (!host.is_empty() && host.chars().all(good)).then_some(host)
            }
        };
        let port = port.parse::<u16>().ok().filter(|port| *port != 0);
        let (Some(bare), Some(port)) = (bare, port) else { return Err(invalid()) };
        let loopback = bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Ok(ProviderAddress::new(format!("{host}:{port}"), loopback))
    }
}
