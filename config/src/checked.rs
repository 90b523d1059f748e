//! The settings as the rest of the program sees them: typed, complete, and consistent.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Network, ScriptBuf};
use serde::Deserialize;

use crate::keys::{PublicKey, SecretKey};
use crate::secret::Secret;

/// All settings after every check. Paths are absolute.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The chain that everything here is about.
    pub network: Network,
    /// Directory for everything that the server keeps.
    pub data_dir: PathBuf,
    /// The server's identity.
    pub authority: Authority,
    /// Who is paid by a block.
    pub payout: Payout,
    /// The nodes, in the order of the file; names are unique among nodes and template providers,
    /// and there is at least one of either. Without a node `job_declaration` offers no full
    /// templates.
    pub nodes: Vec<Node>,
    /// The template providers, in the order of the file.
    pub template_providers: Vec<TemplateProvider>,
    /// The job declaration endpoint.
    pub job_declaration: JobDeclaration,
    /// The template distribution endpoint; `None` without one.
    pub template_distribution: Option<TemplateDistribution>,
    /// Where miners connect; `None` without them.
    pub mining: Option<Mining>,
    /// For a pool with a server of its own; `None` without it.
    pub pool_interface: Option<PoolInterface>,
    /// How verdicts are signed.
    pub receipts: Receipts,
    /// What is kept in `data_dir`, and for how long.
    pub store: StoreSettings,
    /// What events say of this server.
    pub events: Events,
    /// The HTTP API; `None` without one.
    pub api: Option<Api>,
    /// What is logged and how.
    pub log: Log,
    /// Who may mine and declare.
    pub user_check: UserCheck,
    /// Legal settings that an operator should know about, one sentence each.
    pub warnings: Vec<String>,
}

/// The key pair that signs the Noise certificates (SV2 4.5).
#[derive(Debug, Clone)]
pub struct Authority {
    /// What miners pin; belongs to `secret_key`.
    pub public_key: PublicKey,
    /// Redacted in every output.
    pub secret_key: SecretKey,
    /// How long the certificate of one handshake is valid.
    pub cert_validity: Duration,
}

/// Who is paid by a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payout {
    /// The pool's script gets (most of) the claimable value.
    Pool {
        /// The pool's output script.
        script: ScriptBuf,
        /// Least share of the claimable value that `script` must get, basis points (10,000 =
        /// 100 %), 1 to 10,000.
        min_share_bp: u16,
    },
    /// The miner's own script gets it, minus the operator's fee.
    Solo {
        /// The operator's script and fee in basis points (1 to 10,000); `None` without a fee.
        operator: Option<(ScriptBuf, u16)>,
    },
}

/// One Bitcoin Core.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique among the nodes; appears in logs and metrics.
    pub name: String,
    /// Where its JSON-RPC answers.
    pub rpc_url: RpcUrl,
    /// How to log in there; `None`, possible with [`Source::Ipc`] only: its RPC is not used.
    pub rpc_auth: Option<RpcAuth>,
    /// Its IPC socket; always there when `source` is [`Source::Ipc`].
    pub ipc_socket: Option<PathBuf>,
    /// Where templates and the tip come from.
    pub source: Source,
}

/// One template provider (SV2 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProvider {
    /// Unique among nodes and template providers; appears in logs and metrics.
    pub name: String,
    /// Where it listens.
    pub address: ProviderAddress,
    /// Its authority key; `None`: whoever answers at the address is believed.
    pub public_key: Option<PublicKey>,
}

/// `HOST:PORT`, always with a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProviderAddress {
    text: String,
    loopback: bool,
}

impl ProviderAddress {
    pub(crate) fn new(text: String, loopback: bool) -> Self {
        Self { text, loopback }
    }

    /// As it is connected to.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when it is on this machine, as far as the host's name tells.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Display for ProviderAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `http://host:port`, always with a port, never with credentials or a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RpcUrl {
    text: String,
    loopback: bool,
}

impl RpcUrl {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Self { text: format!("http://{host}:{port}"), loopback }
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the node is on this machine, as far as the host's name tells.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Display for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How to log in to a node's RPC.
#[derive(Debug, Clone)]
pub enum RpcAuth {
    /// The cookie that Core writes at each start: read it at each (re)connect, it changes, and it
    /// is absent while the node is down.
    CookieFile(PathBuf),
    /// A fixed user (`rpcauth=` of Core).
    UserPass {
        /// User name.
        user: String,
        /// Redacted in every output.
        password: Secret,
    },
}

/// Where templates and the tip come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// JSON-RPC: `getblocktemplate` with long polling.
    Rpc,
    /// Bitcoin Core IPC (Cap'n Proto) over a unix socket.
    Ipc,
}

/// The job declaration endpoint (SV2 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDeclaration {
    /// TCP address to listen on.
    pub listen: SocketAddr,
    /// Full-template mode is offered. At least one of the two modes is.
    pub full_template: bool,
    /// Coinbase-only mode is offered.
    pub coinbase_only: bool,
    /// When a node checks consensus rules of a declared job.
    pub consensus_check: ConsensusCheck,
    /// How long a job one block ahead waits for our node.
    pub tip_grace: Duration,
    /// Bound of the shared transaction cache, bytes.
    pub tx_cache_bytes: u64,
    /// Connections at once; a further one is refused.
    pub max_connections: usize,
    /// Name of the node that runs consensus checks (one of `nodes`); `None`: the active one.
    pub check_node: Option<String>,
}

/// The template distribution endpoint (SV2 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateDistribution {
    /// TCP address to listen on; not that of another endpoint.
    pub listen: SocketAddr,
    /// On an unchanged tip a template with at least this much more fees is sent.
    pub fee_threshold_sat: u64,
    /// Least time between two templates on an unchanged tip.
    pub min_interval: Duration,
    /// Connections at once; a further one is refused.
    pub max_connections: usize,
}

/// Where miners connect (SV2 5, and Stratum V1).
#[derive(Debug, Clone, PartialEq)]
pub struct Mining {
    /// TCP address for Stratum V2. At least one of the two addresses is there; neither is that of
    /// another endpoint.
    pub listen: Option<SocketAddr>,
    /// TCP address for Stratum V1.
    pub sv1_listen: Option<SocketAddr>,
    /// Shares that a channel is to send each minute.
    pub shares_per_minute: f64,
    /// Accepted shares that one answer acknowledges at most.
    pub share_batch_size: usize,
    /// Least hashrate that a channel's difficulty is made for, hashes per second.
    pub min_hashrate: f64,
    /// What a Stratum V1 miner is taken for at first, hashes per second.
    pub sv1_start_hashrate: f64,
    /// In the coinbase of the pool's jobs: at most 16 printable ASCII characters without `/`.
    pub pool_tag: String,
    /// On an unchanged tip a job with at least this much more fees is given out.
    pub fee_threshold_sat: u64,
    /// Least time between two jobs on an unchanged tip.
    pub min_interval: Duration,
    /// Connections at once on each port; a further one is refused.
    pub max_connections: usize,
    /// Channels of one Stratum V2 connection.
    pub max_channels_per_connection: usize,
}

/// When a node checks the consensus rules of a declared job (BIP 23 proposal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsensusCheck {
    /// Never.
    Off,
    /// The job is accepted first, and withdrawn if it fails.
    AfterAccept,
    /// The answer waits for the node.
    BeforeAccept,
}

/// What is kept, and for how long: what is older *or* more goes, the oldest first. Bytes are those
/// of the rows, without what the database adds (about a fifth).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long commits wait for a failing disk before they are acknowledged as volatile.
    pub stall_after: Duration,
    /// Bound of the database file, bytes; 0 for none.
    pub database_bytes_max: u64,
    /// Age from which events go.
    pub events_age: Duration,
    /// Events that are kept, bytes.
    pub events_bytes: u64,
    /// Age from which declared templates go.
    pub templates_age: Duration,
    /// Accepted templates that are kept, bytes without their transactions.
    pub templates_bytes: u64,
    /// Age of a template from which its transactions go.
    pub transactions_age: Duration,
    /// Transactions of accepted templates that are kept, bytes.
    pub transactions_bytes: u64,
    /// Age from which shares go.
    pub shares_age: Duration,
    /// Shares that are kept, bytes.
    pub shares_bytes: u64,
    /// Longest interval of the accounting feed.
    pub accounting_interval: Duration,
    /// Age from which entries of the accounting feed go.
    pub accounting_age: Duration,
    /// Entries of the accounting feed that are kept, bytes.
    pub accounting_bytes: u64,
}

/// How verdicts are signed.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    /// The file and the key in it; `None`: the authority key signs.
    pub key: Option<(PathBuf, SecretKey)>,
    /// Keys that sign no more, or elsewhere: what they signed is honoured.
    pub retired_keys: Vec<PublicKey>,
}

/// The interface for a pool with a stratum server of its own. At least one of the two ways in is
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolInterface {
    /// Unix socket, for owner and group.
    pub socket: Option<PathBuf>,
    /// TCP address of this machine, not that of another endpoint, and the file with the bearer
    /// token, which not everybody can read. It could be opened, its content was not read.
    pub tcp: Option<(SocketAddr, PathBuf)>,
}

/// What events say of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// `source` of every event, 1 to 64 printable characters.
    pub source: String,
}

/// The HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// TCP address to listen on; of this machine alone where `token_file` is `None`.
    pub listen: SocketAddr,
    /// File with the bearer token, which not everybody can read. It could be opened, its content was
    /// not read.
    pub token_file: Option<PathBuf>,
    /// The same for the token that may read and not write; another file.
    pub read_token_file: Option<PathBuf>,
    /// Reads need no token, whoever can connect.
    pub open_reads: bool,
    /// Names, besides those of this machine, under which an API on loopback may be asked: host names
    /// and addresses in lower case, IPv6 in brackets, without a port.
    pub hosts: Vec<String>,
    /// What webhooks may reach although it is private, as `10.8.0.0/16` or `192.168.1.10`: each
    /// parses, and no range has bits after its prefix.
    pub webhook_allow: Vec<String>,
}

/// Who may mine and declare: a question about users, never about what they mine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserCheck {
    /// Everybody.
    AllowAll,
    /// Those on a list.
    List(UserList),
    /// Those of whom another program says so.
    Callback(UserCallback),
}

/// The users who may mine and declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserList {
    /// All of them; none has a dot.
    pub names: Arc<BTreeSet<String>>,
    /// Those that the configuration names itself.
    pub users: Vec<String>,
    /// Where the others were read from.
    pub file: Option<PathBuf>,
}

/// Who is asked about users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCallback {
    /// `http` or `https`, without user, password, query and fragment.
    pub url: String,
    /// File with the bearer token, which not everybody can read. It could be opened, its content was
    /// not read.
    pub token_file: Option<PathBuf>,
    /// How long a user waits for the answer at most.
    pub timeout: Duration,
    /// How old an answer may be before it is asked for again.
    pub cache: Duration,
    /// What counts for a user without any known answer while none comes.
    pub allow_when_down: bool,
}

/// What is logged and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is logged.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// One line per declaration.
    Info,
    /// Every message.
    Debug,
    /// Everything.
    Trace,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

macro_rules! names {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// The value as it is written in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names!(Source { Rpc => "rpc", Ipc => "ipc" });
names!(ConsensusCheck { Off => "off", AfterAccept => "after-accept", BeforeAccept => "before-accept" });
names!(LogLevel { Error => "error", Warn => "warn", Info => "info", Debug => "debug", Trace => "trace" });
names!(LogFormat { Text => "text", Json => "json" });
