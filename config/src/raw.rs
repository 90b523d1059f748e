//! The file as it is, once names and types were checked against [`crate::known`].

use std::path::PathBuf;

use serde::Deserialize;

use crate::checked::{ConsensusCheck, LogFormat, LogLevel, Source};
use crate::secret::Secret;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) network: NetworkName,
    pub(crate) data_dir: PathBuf,
    pub(crate) authority: RawAuthority,
    pub(crate) payout: RawPayout,
    pub(crate) node: Vec<RawNode>,
    #[serde(default)]
    pub(crate) template_provider: Vec<RawTemplateProvider>,
    pub(crate) job_declaration: RawJobDeclaration,
    pub(crate) template_distribution: Option<RawTemplateDistribution>,
    pub(crate) receipts: RawReceipts,
    pub(crate) pool_interface: Option<RawPoolInterface>,
    pub(crate) store: RawStore,
    pub(crate) mining: Option<RawMining>,
    pub(crate) events: RawEvents,
    pub(crate) api: Option<RawApi>,
    pub(crate) log: RawLog,
    pub(crate) user_check: RawUserCheck,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NetworkName {
    Mainnet,
    Testnet4,
    Signet,
    Regtest,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAuthority {
    pub(crate) public_key: Option<String>,
    pub(crate) secret_key_file: Option<PathBuf>,
    pub(crate) secret_key: Option<Secret>,
    pub(crate) cert_validity_secs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PayoutMode {
    Pool,
    Solo,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPayout {
    pub(crate) mode: PayoutMode,
    /// A private key could be in it by mistake.
    pub(crate) script: Option<Secret>,
    pub(crate) min_pool_share_percent: Option<f64>,
    pub(crate) fee_percent: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNode {
    pub(crate) name: String,
    /// Credentials could be in it by mistake.
    pub(crate) rpc_url: Secret,
    pub(crate) rpc_cookie_file: Option<PathBuf>,
    pub(crate) rpc_user: Option<String>,
    pub(crate) rpc_password: Option<Secret>,
    pub(crate) rpc_password_file: Option<PathBuf>,
    pub(crate) ipc_socket: Option<PathBuf>,
    pub(crate) source: Source,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTemplateProvider {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    /// A secret key could be in it by mistake.
    pub(crate) public_key: Option<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    FullTemplate,
    CoinbaseOnly,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJobDeclaration {
    pub(crate) listen: String,
    pub(crate) modes: Vec<Mode>,
    pub(crate) consensus_check: ConsensusCheck,
    pub(crate) check_node: Option<String>,
    pub(crate) tip_grace_ms: u32,
    pub(crate) tx_cache_mb: u32,
    pub(crate) max_connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTemplateDistribution {
    pub(crate) listen: String,
    pub(crate) fee_threshold_sat: u32,
    pub(crate) min_interval_ms: u32,
    pub(crate) max_connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMining {
    pub(crate) listen: String,
    pub(crate) sv1_listen: String,
    pub(crate) shares_per_minute: f64,
    pub(crate) share_batch_size: u32,
    pub(crate) min_hashrate_ths: f64,
    pub(crate) sv1_start_hashrate_ths: f64,
    pub(crate) pool_tag: String,
    pub(crate) fee_threshold_sat: u32,
    pub(crate) min_interval_ms: u32,
    pub(crate) max_connections: u32,
    pub(crate) max_channels_per_connection: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStore {
    pub(crate) stall_ms: u32,
    pub(crate) database_mb_max: u32,
    pub(crate) events_days: u32,
    pub(crate) events_mb: u32,
    pub(crate) templates_days: u32,
    pub(crate) templates_mb: u32,
    pub(crate) transactions_days: u32,
    pub(crate) transactions_mb: u32,
    pub(crate) shares_days: u32,
    pub(crate) shares_mb: u32,
    pub(crate) accounting_interval_seconds: u32,
    pub(crate) accounting_days: u32,
    pub(crate) accounting_mb: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReceipts {
    pub(crate) key_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) retired_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPoolInterface {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvents {
    pub(crate) source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApi {
    pub(crate) listen: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) read_token_file: Option<PathBuf>,
    pub(crate) open_reads: bool,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) webhook_allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLog {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UserCheckMode {
    AllowAll,
    List,
    Callback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WhenDown {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUserCheck {
    pub(crate) mode: UserCheckMode,
    #[serde(default)]
    pub(crate) users: Vec<String>,
    pub(crate) users_file: Option<PathBuf>,
    /// Credentials could be in it by mistake.
    pub(crate) url: Option<Secret>,
    pub(crate) check_token_file: Option<PathBuf>,
    pub(crate) timeout_ms: u32,
    pub(crate) cache_seconds: u32,
    pub(crate) when_down: WhenDown,
}
