//! What the command is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::ensure;
use bitcoin::Network;
use clap::{Parser, ValueEnum};
use jds_wire::Secp256k1PublicKey;

use crate::shares::Kind;

/// Between two blocks of a soak, seconds.
const SOAK_TIP_EVERY_S: f64 = 10.0;
/// Shares a second that one channel may send: the server lets channels have ten at most, and makes
/// them harder beyond that, until each is a block.
const CHANNEL_SHARES_PER_SECOND_MAX: f64 = 8.0;

const EXAMPLES: &str = "\
Examples (build both first: cargo build --release -p jds -p jds-tests --bin jds --bin load)

  A hundred declarations a second for 30 s, to a server of its own:
    load --self-contained --declaring 100 --rate 100 --for 30

  The same with one transaction in twenty unknown to the server:
    load --self-contained --declaring 100 --rate 100 --for 30 --unknown 5

  The second after a block: a thousand miners declare at once, three times:
    load --self-contained --declaring 1000 --storms 3

  A thousand template clients, a new block every two seconds:
    load --self-contained --declaring 0 --templates 1000 --tip-every 2 --for 60

  Found blocks under load:
    load --self-contained --declaring 50 --rate 50 --solutions 20

  Miners of Stratum V2 and Stratum V1 beside each other: round trip and bytes of a share:
    load --self-contained --declaring 0 --mining 30 --share-rate 30 --tip-every 3 --for 60

  A start on a store of a million shares, and another after SIGKILL in the middle of more:
    load --self-contained --store-shares 1000000 --declaring 0 --mining 600 --share-rate 3000 --for 15

  Ten minutes of everything, and the server must not grow:
    load --self-contained --soak --declaring 50 --templates 100 --rate 20 --unknown 1 --for 600

  Ours and the reference in turns, five pairs:
    load --self-contained --reference PATH/TO/pool_sv2 --pairs 5 --rate 8

  Any server that runs already, on the node that it follows:
    load --address 10.0.0.2:34264 --key KEY --rpc-url http://127.0.0.1:18443 --cookie FILE --rate 20

Latency counts from the moment at which a request was due, not from when it was sent: a server that
falls behind can not make the load wait for it and look better (no coordinated omission).";

/// Plays miners and template clients against a Job Declaration Server, and measures it.
#[derive(Debug, Clone, Parser)]
#[command(name = "load", after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Starts a node on a private chain with a full mempool, and our server (`jds run`) as a process
    /// of its own, whose processor time and memory are measured.
    #[arg(
        long,
        help_heading = "Server",
        required_unless_present_any = ["address", "template_address", "mining_address"],
        conflicts_with_all = ["address", "template_address", "mining_address"]
    )]
    pub(crate) self_contained: bool,
    /// The `jds` binary to start; without it, the one beside this program.
    #[arg(long, value_name = "PATH", help_heading = "Server", requires = "self_contained")]
    pub(crate) jds: Option<PathBuf>,
    /// How our server talks with the node.
    #[arg(long, value_enum, default_value_t = Source::Rpc, help_heading = "Server")]
    pub(crate) source: Source,
    /// Starts our server on a store that is filled before with so many shares of the last three days,
    /// their events, and the templates, tokens and blocks that go with them; measures how long it takes
    /// until it listens, and until `/readyz` says that it is ready. Afterwards it is killed (SIGKILL) and
    /// started once more.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "Server",
        requires = "self_contained"
    )]
    pub(crate) store_shares: u64,
    /// A `pool_sv2` binary (0.7.0, with its job declaration server) that is measured on the same node,
    /// after ours; never both at the same time.
    #[arg(long, value_name = "PATH", help_heading = "Server", requires = "self_contained")]
    pub(crate) reference: Option<PathBuf>,
    /// How often everything is done anew.
    #[arg(long, default_value_t = 1, help_heading = "Server")]
    pub(crate) pairs: u32,
    /// A job declaration server that runs already.
    #[arg(long, value_name = "IP:PORT", help_heading = "Server", requires_all = ["rpc_url", "cookie"])]
    pub(crate) address: Option<SocketAddr>,
    /// A template distribution server that runs already.
    #[arg(long, value_name = "IP:PORT", help_heading = "Server", requires_all = ["rpc_url", "cookie"])]
    pub(crate) template_address: Option<SocketAddr>,
    /// A mining server that runs already, its port for Stratum V2; for who mines without hardware, a
    /// hash has to be a share (`min_hashrate_ths = 1e-15`).
    #[arg(
        long,
        value_name = "IP:PORT",
        help_heading = "Server",
        requires_all = ["rpc_url", "cookie", "sv1_address"]
    )]
    pub(crate) mining_address: Option<SocketAddr>,
    /// Its port for Stratum V1.
    #[arg(long, value_name = "IP:PORT", help_heading = "Server", requires = "mining_address")]
    pub(crate) sv1_address: Option<SocketAddr>,
    /// Authority key of those; without it, any is believed.
    #[arg(long, help_heading = "Server")]
    pub(crate) key: Option<Secp256k1PublicKey>,
    /// Number of their process, where it runs on this machine: its memory is measured then.
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub(crate) server_pid: Option<u32>,
    /// JSON-RPC of the node whose template is declared; the server should know its transactions.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) rpc_url: Option<String>,
    /// Cookie file of that node.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) cookie: Option<PathBuf>,
    /// Network of that node.
    #[arg(long, default_value = "regtest", help_heading = "Server")]
    pub(crate) network: Network,

    /// Miners that declare, each on its own connection and with a template of its own.
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Clients")]
    pub(crate) declaring: usize,
    /// Clients that are given templates.
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Clients")]
    pub(crate) templates: usize,
    /// How many different constraints those have; each needs a template of its own.
    #[arg(long, value_name = "C", default_value_t = 1, help_heading = "Clients")]
    pub(crate) constraints: usize,
    /// Tokens asked for each second meanwhile, on connections that do nothing else.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0, help_heading = "Clients")]
    pub(crate) token_rate: f64,

    /// Miners that send shares, each on its own connection with one channel.
    #[arg(long, value_name = "M", default_value_t = 0, help_heading = "Clients")]
    pub(crate) mining: usize,
    /// What those are, in turns.
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        value_delimiter = ',',
        default_values_t = Kind::ALL,
        help_heading = "Clients"
    )]
    pub(crate) mining_kinds: Vec<Kind>,
    /// Shares a second of all those together; up to 8 of each.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 30.0, help_heading = "Clients")]
    pub(crate) share_rate: f64,
    /// Accepted shares that one answer of Stratum V2 is for (`share_batch_size` of the server); latency is
    /// that of the last of them.
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Clients")]
    pub(crate) share_batch: u32,

    /// Transactions of a declared template.
    #[arg(long, value_name = "N", default_value_t = 4_000, help_heading = "Templates declared")]
    pub(crate) transactions: usize,
    /// Share of them that the server does not know, percent; other ones in every declaration. On
    /// other people's transactions their signatures would be wrong: only with a node of our own.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 0.0,
        help_heading = "Templates declared",
        requires = "self_contained"
    )]
    pub(crate) unknown: f64,

    /// Declarations a second of all miners together.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0, help_heading = "Course")]
    pub(crate) rate: f64,
    /// Whether declarations come evenly, or at random as those of many strangers do (Poisson).
    #[arg(long, value_enum, default_value_t = Arrivals::Even, help_heading = "Course")]
    pub(crate) arrivals: Arrivals,
    /// How long, seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 20, help_heading = "Course")]
    pub(crate) seconds: u64,
    /// The beginning that does not count, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, help_heading = "Course")]
    pub(crate) warm_up: u64,
    /// A block (without transactions) every so many seconds; 0 for none.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, help_heading = "Course")]
    pub(crate) tip_every: f64,
    /// Instead of a rate: so many times a new block comes, and every miner declares at that moment.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Course")]
    pub(crate) storms: u32,
    /// Mixed load for as long as `--for` says: blocks (every ten seconds, if `--tip-every` does not say
    /// otherwise), miners that leave and come back, ten restarts of the node. Fails when memory,
    /// descriptors or latency of the server are not flat.
    #[arg(
        long,
        help_heading = "Course",
        requires = "self_contained",
        conflicts_with_all = ["storms", "solutions", "reference"]
    )]
    pub(crate) soak: bool,
    /// Blocks found afterwards, of full templates, while the others go on to declare; each is taken
    /// back so that the next finds the same transactions.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "Course",
        requires = "self_contained"
    )]
    pub(crate) solutions: u32,

    /// File for the figures as JSON; `-` for the standard output.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
}

/// How our server talks with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// JSON-RPC.
    Rpc,
    /// Cap'n Proto over a Unix socket.
    Ipc,
}

/// When declarations are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// The same time between any two.
    Even,
    /// Independent of each other, with that rate.
    Random,
}

impl Args {
    /// What the parser can not see.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.declaring + self.templates + self.mining > 0,
            "--declaring, --templates or --mining: nobody is played"
        );
        ensure!((0.0..=100.0).contains(&self.unknown), "--unknown is a percentage");
        ensure!(self.rate > 0.0 && self.rate.is_finite(), "--rate is above 0");
        let most = self.mining as f64 * CHANNEL_SHARES_PER_SECOND_MAX;
        ensure!(
            self.mining == 0 || self.share_rate > 0.0 && self.share_rate <= most,
            "--share-rate is above 0, and at most {CHANNEL_SHARES_PER_SECOND_MAX} for each of --mining"
        );
        ensure!(self.share_batch > 0, "--share-batch is 1 or more");
        ensure!(self.token_rate >= 0.0 && self.token_rate.is_finite(), "--token-rate is 0 or more");
        ensure!(self.tip_every >= 0.0, "--tip-every is 0 or more");
        ensure!(self.constraints > 0, "--constraints is 1 or more");
        ensure!(self.seconds > self.warm_up || self.storms > 0, "--for is longer than --warm-up");
        ensure!(
            self.storms == 0 && self.tip_every == 0.0 || self.self_contained,
            "--storms and --tip-every need a node of our own (--self-contained)"
        );
        ensure!(self.storms == 0 || self.declaring > 0, "--storms needs --declaring");
        ensure!(self.solutions == 0 || self.declaring > 0, "--solutions needs --declaring");
        Ok(())
    }

    /// Between two blocks, seconds; 0 for none.
    pub(crate) fn block_every(&self) -> f64 {
        match self.soak && self.tip_every == 0.0 {
            true => SOAK_TIP_EVERY_S,
            false => self.tip_every,
        }
    }

    /// Transactions of each declaration that the server does not know.
    pub(crate) fn unknown_txs(&self) -> usize {
        (self.transactions as f64 * self.unknown / 100.0).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split_whitespace());
        assert!(parse("load").is_err(), "a server is needed");
        assert!(parse("load --self-contained --address 127.0.0.1:1").is_err());
        assert!(parse("load --address 127.0.0.1:1").is_err(), "a node is needed");
        let args = parse("load --self-contained --unknown 5").unwrap();
        assert_eq!(args.unknown_txs(), 200);
        assert!(args.check().is_ok());
        assert!(parse("load --self-contained --declaring 0").unwrap().check().is_err());
        let mining = "load --self-contained --declaring 0 --mining 4 --share-rate";
        assert!(parse(&format!("{mining} 32")).unwrap().check().is_ok());
        assert!(parse(&format!("{mining} 33")).unwrap().check().is_err(), "too many for a channel");
        let kinds =
            parse("load --self-contained --mining-kinds sv1,standard").unwrap().mining_kinds;
        assert_eq!(kinds, [Kind::Sv1, Kind::Standard]);
    }
}
