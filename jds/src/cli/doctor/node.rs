//! Questions to one node.

use std::time::Duration;

use bitcoin::Network;
use config::{Node, Source};
use tdp_client::{
    ChainFacts, MempoolFacts, NetworkFacts, NodeError, Probe, RPC_WAIT, RPCS_NEEDED, TemplateFacts,
    TimeLeft,
};

use super::clock::{ClockSample, now_ms, sample};
use super::code::Code;
use super::fault;
use super::report::Check;
use jds::node_settings::Reach;

/// Versions that this program was used with, as a node tells them: from 28.0 on.
const VERSION_MIN: u64 = 280_000;

/// The first version with IPC that we speak.
const VERSION_IPC: u64 = 300_000;

/// Below this many connections one bad one matters.
const PEERS_FEW: u64 = 4;

/// A tip older than this happens once in 160,000 blocks by chance, seconds.
const TIP_AGE_MAX_S: u64 = 2 * 3_600;

/// Between two looks at how far a node is with its download.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// What a node leaves free for header and coinbase by default, weight units; half is little.
const RESERVED_WEIGHT_MIN: u64 = 4_000;

/// A template with less is far from full, weight units.
const FULL_WEIGHT_MIN: u64 = 3_600_000;

/// A mempool with more virtual bytes could fill two blocks.
const MEMPOOL_FULL_VBYTES: u64 = 2_000_000;

/// What one node told.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) checks: Vec<Check>,
    /// Where its chain ends; `None` where it did not tell, or on another network.
    pub(super) chain: Option<ChainFacts>,
    pub(super) clock: Option<ClockSample>,
    /// True when templates can be had from it.
    pub(super) ready: bool,
    pub(super) probe: Option<Probe>,
}

/// Asks the node everything; ends within `limit`.
pub(super) fn ask(node: &Node, network: Network, limit: Duration) -> Answers {
    let mut asker = Asker {
        node,
        network,
        answers: Answers {
            name: node.name.clone(),
            checks: Vec::new(),
            chain: None,
            clock: None,
            ready: false,
            probe: None,
        },
    };
    match probe(node, network, limit) {
        Some(Ok(probe)) => {
            // The first question without an answer ends it: what follows would fail the same way.
            let ended = asker.all(&probe);
            asker.answers.ready &= ended.is_ok();
            asker.answers.probe = Some(probe);
        }
        Some(Err(error)) => asker.failed("reachable", &error),
        // A configuration without any way to the node was refused before.
        None => {}
    }
    asker.answers
}

/// Where the node is asked.
fn place(node: &Node) -> String {
    match (node.source, &node.ipc_socket) {
        (Source::Ipc, Some(socket)) => socket.display().to_string(),
        _ => node.rpc_url.to_string(),
    }
}

/// By the way that the server will take.
fn probe(node: &Node, network: Network, limit: Duration) -> Option<Result<Probe, NodeError>> {
    Some(match Reach::of(node, network)? {
        Reach::Rpc(settings) => Probe::new(&settings, limit),
        Reach::Ipc(settings) => Probe::new_ipc(settings, limit),
    })
}

/// A question was not answered, which was reported.
struct Unanswered;

struct Asker<'a> {
    node: &'a Node,
    network: Network,
    answers: Answers,
}

impl Asker<'_> {
    fn all(&mut self, probe: &Probe) -> Result<(), Unanswered> {
        let chain = self.expect("reachable", probe.chain())?;
        self.ok("reachable", format!("{} answers", place(self.node)));
        let expected = self.network.to_core_arg();
        if chain.chain != expected {
            let message = format!("it is on \"{}\", `network` needs \"{expected}\"", chain.chain);
            self.bad("network", Code::NodeNetwork, message, fault::other_network(self.network));
            return Err(Unanswered);
        }
        self.ok("network", expected);
        self.rights(probe)?;
        let facts = self.unless_forbidden("version", probe.network())?;
        if let Some(facts) = &facts {
            self.version(facts);
            self.peers(facts);
        }
        if let Some(clock) = self.unless_forbidden("clock", probe.clock())? {
            self.answers.clock = Some(sample(clock, facts.as_ref(), now_ms()));
        }
        let synced = self.synced(probe, &chain)?;
        self.tip_age(&chain, synced);
        let mempool = self.unless_forbidden("mempool", probe.mempool())?;
        if let Some(mempool) = mempool {
            self.mempool(mempool);
        }
        self.answers.chain = Some(chain);
        if synced {
            self.template(probe, mempool)?;
        }
        Ok(())
    }

    fn name(&self, what: &str) -> String {
        format!("node {}: {what}", self.node.name)
    }

    fn ok(&mut self, what: &str, message: impl Into<String>) {
        let check = Check::ok(self.name(what), message);
        self.answers.checks.push(check);
    }

    fn bad(
        &mut self,
        what: &str,
        code: Code,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let check = Check::bad(self.name(what), code, message, advice);
        self.answers.checks.push(check);
    }

    fn failed(&mut self, what: &str, error: &NodeError) {
        let check = fault::check(self.name(what), self.node, self.network, error);
        self.answers.checks.push(check);
    }

    fn expect<T>(&mut self, what: &str, answer: Result<T, NodeError>) -> Result<T, Unanswered> {
        answer.map_err(|error| {
            self.failed(what, &error);
            Unanswered
        })
    }

    /// For what only we ask: a node that does not allow it is no worse for that.
    fn unless_forbidden<T>(
        &mut self,
        what: &str,
        answer: Result<T, NodeError>,
    ) -> Result<Option<T>, Unanswered> {
        match answer {
            Err(error) if matches!(error.fault(), tdp_client::Fault::Forbidden { .. }) => {
                self.ok(what, format!("not looked at: {}", error.fault()));
                Ok(None)
            }
            answer => self.expect(what, answer).map(Some),
        }
    }

    /// Whether the node lets us do all that the server needs.
    fn rights(&mut self, probe: &Probe) -> Result<(), Unanswered> {
        const WHAT: &str = "rights";
        let mut missing = Vec::new();
        for method in RPCS_NEEDED {
            if !self.expect(WHAT, probe.allows(method))? {
                missing.push(method);
            }
        }
        let waits = self.expect(WHAT, probe.allows(RPC_WAIT))?;
        if !missing.is_empty() {
            let message = format!("the node does not let us call {}", missing.join(", "));
            self.bad(WHAT, Code::NodeForbidden, message, fault::forbidden(&missing));
        } else if waits {
            self.ok(WHAT, "all that the server asks is allowed, submitblock included");
        } else {
            let message = format!(
                "the node does not let us call {RPC_WAIT}: new blocks are known up to half a second later"
            );
            self.bad(WHAT, Code::NodeNoWait, message, fault::forbidden(&[RPC_WAIT]));
        }
        self.answers.ready = missing.is_empty();
        Ok(())
    }

    fn version(&mut self, facts: &NetworkFacts) {
        const WHAT: &str = "version";
        let said = &facts.subversion;
        if facts.version < VERSION_IPC && self.node.source == Source::Ipc {
            let message =
                format!("{said} has no IPC that can be used, which `source` = \"ipc\" needs");
            let advice = "Upgrade the node to Bitcoin Core 30 or newer, or set `source` = \"rpc\".";
            self.bad(WHAT, Code::NodeNoIpc, message, advice);
        } else if facts.version < VERSION_MIN {
            let message = format!("{said} is older than what this server is tried with");
            let advice = "Upgrade the node: Bitcoin Core 28 or newer, 30 or newer for IPC.";
            self.bad(WHAT, Code::NodeOld, message, advice);
        } else {
            let ipc = if facts.version < VERSION_IPC { "has no IPC" } else { "can have IPC" };
            self.ok(WHAT, format!("{said}, {ipc}"));
        }
    }

    fn peers(&mut self, facts: &NetworkFacts) {
        const WHAT: &str = "peers";
        let count = facts.connections;
        if self.network == Network::Regtest {
            return self.ok(WHAT, format!("{count}; regtest needs none"));
        }
        let advice = "Let the node reach the network: addnode, connect, proxy and onlynet of its \
                      bitcoin.conf, the firewall, `bitcoin-cli setnetworkactive true`. Found blocks \
                      go out through its peers.";
        if !facts.active {
            return self.bad(WHAT, Code::NodeNoPeers, "its network is switched off", advice);
        }
        match count {
            0 => self.bad(WHAT, Code::NodeNoPeers, "it has no connection to other nodes", advice),
            few if few < PEERS_FEW => {
                let message = format!("it has {few} connections to other nodes only");
                self.bad(WHAT, Code::NodeFewPeers, message, advice);
            }
            _ => self.ok(WHAT, format!("{count}, {} of its own choice", facts.connections_out)),
        }
    }

    /// Whether the server would ask it for templates; as in operation, regtest always counts.
    fn synced(&mut self, probe: &Probe, chain: &ChainFacts) -> Result<bool, Unanswered> {
        const WHAT: &str = "initial download";
        if !chain.syncing || self.network == Network::Regtest {
            self.ok(WHAT, format!("done, height {}", chain.blocks));
            return Ok(true);
        }
        std::thread::sleep(PROGRESS_PAUSE);
        let later = self.expect(WHAT, probe.chain())?;
        let message = format!(
            "{:.2} % done, height {} of {}, {}",
            later.progress.clamp(0.0, 1.0) * 100.0,
            later.blocks,
            later.headers.max(later.blocks),
            estimate(chain.progress, later.progress, PROGRESS_PAUSE)
        );
        let advice = "Wait: there are no templates until it is done, and the server goes on by \
                      itself then. A larger dbcache of the node makes it faster.";
        self.bad(WHAT, Code::NodeSyncing, message, advice);
        self.answers.ready = false;
        Ok(false)
    }

    fn tip_age(&mut self, chain: &ChainFacts, synced: bool) {
        const WHAT: &str = "tip";
        let Some(time_s) = chain.time else { return };
        if !synced {
            // Told with the download.
            return;
        }
        let age_s = (now_ms() / 1_000).saturating_sub(time_s);
        let message =
            format!("height {}, {} minutes old by its own time", chain.blocks, age_s / 60);
        if age_s <= TIP_AGE_MAX_S || self.network == Network::Regtest {
            return self.ok(WHAT, message);
        }
        let advice = "Look at the node's peers and its debug.log: it may be cut off from the network \
                      or have refused a block. Compare the height with another node's.";
        self.bad(WHAT, Code::NodeTipOld, message, advice);
    }

    fn mempool(&mut self, facts: MempoolFacts) {
        const WHAT: &str = "mempool";
        if facts.loaded {
            return self.ok(WHAT, format!("loaded, {} transactions", facts.size));
        }
        let message = format!("still being loaded, {} transactions so far", facts.size);
        let advice =
            "Wait: until then miners have to send more transactions, and checks take longer.";
        self.bad(WHAT, Code::NodeMempool, message, advice);
    }

    fn template(&mut self, probe: &Probe, mempool: Option<MempoolFacts>) -> Result<(), Unanswered> {
        const WHAT: &str = "template";
        let facts = match probe.template() {
            Err(error) if matches!(error.fault(), tdp_client::Fault::Rpc { .. }) => {
                let advice = "The node gives no templates in its state: let it have connections and \
                              finish its download, then look into its debug.log.";
                let message = error.fault().to_string();
                self.bad(WHAT, Code::NodeTemplate, message, advice);
                return Err(Unanswered);
            }
            // Told with the rights.
            Err(error) if matches!(error.fault(), tdp_client::Fault::Forbidden { .. }) => {
                return Err(Unanswered);
            }
            answer => self.expect(WHAT, answer)?,
        };
        self.ok(
            WHAT,
            format!(
                "for height {}, {} transactions, {} weight units",
                facts.height, facts.txs, facts.txs_weight
            ),
        );
        self.weights(facts, mempool);
        Ok(())
    }

    fn weights(&mut self, facts: TemplateFacts, mempool: Option<MempoolFacts>) {
        const WHAT: &str = "block weight";
        let Some(reserved) = facts.reserved_weight else {
            return self.ok(WHAT, "the node did not tell how much it reserves for the coinbase");
        };
        let waiting = mempool.map_or(0, |mempool| mempool.vbytes);
        if reserved < RESERVED_WEIGHT_MIN {
            let message = format!("{reserved} weight units are left for header and coinbase");
            let advice = "A coinbase with many outputs would make blocks too heavy: set \
                          blockreservedweight=8000 in the node's bitcoin.conf (the default), and tell \
                          miners to do so with theirs.";
            return self.bad(WHAT, Code::NodeReserved, message, advice);
        }
        let whole = facts.txs_weight.saturating_add(reserved);
        if whole < FULL_WEIGHT_MIN && waiting > MEMPOOL_FULL_VBYTES {
            let message = format!(
                "the template has {whole} weight units while {waiting} virtual bytes wait in the mempool"
            );
            let advice = "If that is not meant, look at blockmaxweight, blockreservedweight and \
                          blockmintxfee in the node's bitcoin.conf: fees are left behind.";
            return self.bad(WHAT, Code::NodeSmallTemplate, message, advice);
        }
        self.ok(WHAT, format!("{reserved} weight units are left for header and coinbase"));
    }
}

/// How long the rest takes at this pace.
fn estimate(before: f64, after: f64, between: Duration) -> String {
    match TimeLeft::by_pace(before, after, between) {
        Some(left) => format!("{left} to go"),
        None => format!("no progress within {} seconds", between.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_from_the_pace() {
        let two = Duration::from_secs(2);
        assert_eq!(estimate(0.5, 0.5, two), "no progress within 2 seconds");
        assert_eq!(estimate(0.4999, 0.5, two), "about 3 hours to go");
    }
}
