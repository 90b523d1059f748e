//! [`Raw`] to [`Checked`]: conversions and the checks that look at more than one key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::{Network, ScriptBuf};

use crate::checked::{
    Authority, Checked, ConsensusCheck, JobDeclaration, Log, Node, Payout, Receipts,
    TemplateDistribution,
};
use crate::document::Places;
use crate::error::Problem;
use crate::keys::{self, PublicKey, SecretKey};
use crate::raw::{
    Mode, NetworkName, PayoutMode, Raw, RawAuthority, RawJobDeclaration, RawPayout, RawReceipts,
    RawTemplateDistribution,
};
use crate::{api, known, mining, node, payout, pool, provider, store, user_check};

/// 100 percent in basis points.
pub(crate) const WHOLE_BP: u16 = 10_000;

pub(crate) const BYTES_PER_MB: u64 = 1_000_000;

/// What the checks need to know besides the settings.
pub(crate) struct Context<'a> {
    /// Directory that relative paths start at; absolute.
    pub(crate) base: &'a Path,
    pub(crate) places: &'a Places,
    pub(crate) network: Network,
}

impl Context<'_> {
    pub(crate) fn invalid(&self, key: &str, reason: impl Into<String>) -> Problem {
        Problem::Invalid { place: self.places.of(key), reason: reason.into() }
    }

    /// The path as the program uses it.
    pub(crate) fn resolve(&self, key: &str, path: &Path) -> Result<PathBuf, Problem> {
        if path.starts_with("~") {
            return Err(self.invalid(key, "`~` is not expanded; write the whole path"));
        }
        Ok(self.base.join(path))
    }

    /// `example_port` goes into the message.
    pub(crate) fn socket_address(
        &self,
        key: &str,
        text: &str,
        example_port: u16,
    ) -> Result<SocketAddr, Problem> {
        text.trim().parse().map_err(|_| {
            let reason = format!(
                "is {text:?}; expected IP:PORT, for example \"127.0.0.1:{example_port}\" or \
                 \"[::1]:{example_port}\""
            );
            self.invalid(key, reason)
        })
    }

    /// Refuses an address that another endpoint has.
    pub(crate) fn check_free(
        &self,
        key: &str,
        listen: SocketAddr,
        taken: &[Option<(&str, SocketAddr)>],
    ) -> Result<(), Problem> {
        let same = |(_, other): &(&str, SocketAddr)| *other == listen && listen.port() != 0;
        let Some((other, _)) = taken.iter().flatten().copied().find(same) else { return Ok(()) };
        Err(Problem::Conflict {
            first: format!("{} = \"{listen}\"", self.places.of(key)),
            second: self.places.of(other).to_string(),
            reason: "both are the same address; choose another port for one of them".to_owned(),
        })
    }

    pub(crate) fn resolve_optional(
        &self,
        key: &str,
        path: Option<&PathBuf>,
    ) -> Result<Option<PathBuf>, Problem> {
        path.map(|path| self.resolve(key, path)).transpose()
    }
}

pub(crate) fn check(raw: Raw, places: &Places, base: &Path) -> Result<Checked, Problem> {
    let network = match raw.network {
        NetworkName::Mainnet => Network::Bitcoin,
        NetworkName::Testnet4 => Network::Testnet4,
        NetworkName::Signet => Network::Signet,
        NetworkName::Regtest => Network::Regtest,
    };
    let context = Context { base, places, network };
    let mut warnings = Vec::new();
    let payout = check_payout(&context, &raw.payout, &mut warnings)?;
    let nodes = node::check_all(&context, raw.node, &mut warnings)?;
    let template_providers =
        provider::check_all(&context, raw.template_provider, &nodes, &mut warnings)?;
    if nodes.is_empty() {
        provider::check_without_node(&context, &raw.job_declaration, &mut warnings)?;
    }
    let job_declaration =
        check_job_declaration(&context, raw.job_declaration, &nodes, &mut warnings)?;
    let api = match raw.api {
        Some(raw) => Some(api::check(&context, raw, job_declaration.listen, &mut warnings)?),
        None => None,
    };
    let api_listen = api.as_ref().map(|api| ("api.listen", api.listen));
    let declaration_listen = Some(("job_declaration.listen", job_declaration.listen));
    let template_distribution = match raw.template_distribution {
        Some(raw) => {
            let taken = [declaration_listen, api_listen];
            Some(check_template_distribution(&context, &raw, &taken)?)
        }
        None => None,
    };
    if let Some(own) = &template_distribution {
        provider::check_not_ourselves(&template_providers, own.listen)?;
    }
    let mining = match raw.mining {
        Some(raw) => {
            let templates = template_distribution
                .map(|settings| ("template_distribution.listen", settings.listen));
            Some(mining::check(&context, &raw, &[declaration_listen, api_listen, templates])?)
        }
        None => None,
    };
    let pool_interface = match raw.pool_interface {
        Some(raw) => {
            let templates = template_distribution
                .map(|settings| ("template_distribution.listen", settings.listen));
            let miners = mining.as_ref().map(mining::addresses).unwrap_or_default();
            let [v2, v1] = miners;
            let taken = [declaration_listen, api_listen, templates, v2, v1];
            Some(pool::check(&context, &raw, api.as_ref(), &taken)?)
        }
        None => None,
    };
    Ok(Checked {
        network,
        data_dir: context.resolve("data_dir", &raw.data_dir)?,
        authority: check_authority(&context, &raw.authority)?,
        payout,
        nodes,
        template_providers,
        job_declaration,
        template_distribution,
        mining,
        pool_interface,
        receipts: check_receipts(&context, &raw.receipts)?,
        store: store::check(&context, &raw.store, &mut warnings),
        events: store::check_events(&context, raw.events)?,
        api,
        log: Log { level: raw.log.level, format: raw.log.format },
        user_check: user_check::check(&context, raw.user_check, &mut warnings)?,
        warnings,
    })
}

fn check_authority(context: &Context<'_>, raw: &RawAuthority) -> Result<Authority, Problem> {
    const SECRET: &str = "authority.secret_key";
    const FILE: &str = "authority.secret_key_file";
    const PUBLIC: &str = "authority.public_key";
    let (secret_key, secret_from) = match (&raw.secret_key, &raw.secret_key_file) {
        (Some(text), None) => {
            let place = context.places.of(SECRET);
            let key = SecretKey::parse(text.expose().trim())
                .map_err(|source| Problem::Key { place, source })?;
            (key, SECRET)
        }
        (None, Some(file)) => {
            let path = context.resolve(FILE, file)?;
            let place = context.places.of(FILE);
            let key = keys::read(&path).map_err(|source| Problem::KeyFile { place, source })?;
            (key, FILE)
        }
        (Some(_), Some(file)) => {
            return Err(Problem::Conflict {
                first: context.places.of(SECRET).to_string(),
                second: format!("{} = {file:?}", context.places.of(FILE)),
                reason: "both are set; keep one".to_owned(),
            });
        }
        (None, None) => {
            return Err(Problem::Missing {
                key: FILE.to_owned(),
                expected: format!(
                    "the file of the secret key (make one with `jds keygen`), or `{SECRET}`"
                ),
            });
        }
    };
    let derived = secret_key.public_key();
    if let Some(text) = &raw.public_key {
        let place = context.places.of(PUBLIC);
        let configured = match PublicKey::parse(text.trim()) {
            Ok(key) => key,
            Err(source) => return Err(Problem::Key { place, source }),
        };
        if configured != derived {
            return Err(Problem::KeyPair {
                place,
                configured: configured.to_string(),
                secret_from: context.places.of(secret_from).to_string(),
                derived: derived.to_string(),
            });
        }
    }
    let cert_validity = Duration::from_secs(raw.cert_validity_secs.into());
    Ok(Authority { public_key: derived, secret_key, cert_validity })
}

fn check_receipts(context: &Context<'_>, raw: &RawReceipts) -> Result<Receipts, Problem> {
    const FILE: &str = "receipts.key_file";
    const RETIRED: &str = "receipts.retired_keys";
    let key = match &raw.key_file {
        Some(file) => {
            let path = context.resolve(FILE, file)?;
            let place = context.places.of(FILE);
            let key = keys::read(&path).map_err(|source| Problem::KeyFile { place, source })?;
            Some((path, key))
        }
        None => None,
    };
    let parse = |text: &String| {
        let place = context.places.of(RETIRED);
        PublicKey::parse(text.trim()).map_err(|source| Problem::Key { place, source })
    };
    let retired_keys = raw.retired_keys.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Receipts { key, retired_keys })
}

const SCRIPT: &str = "payout.script";
const SHARE: &str = "payout.min_pool_share_percent";
const FEE: &str = "payout.fee_percent";

fn check_payout(
    context: &Context<'_>,
    raw: &RawPayout,
    warnings: &mut Vec<String>,
) -> Result<Payout, Problem> {
    let script = match &raw.script {
        Some(text) => {
            let place = context.places.of(SCRIPT);
            let script = payout::script(text.expose(), context.network)
                .map_err(|source| Problem::Script { place, source })?;
            if context.network == Network::Bitcoin && payout::anyone_can_spend(&script) {
                warnings.push(format!("`{SCRIPT}`: anyone can spend what it is paid"));
            }
            Some(script)
        }
        None => None,
    };
    let conflict = |key: &str, percent: f64, mode: &str, other: &str| Problem::Conflict {
        first: format!("`payout.mode` = {mode:?}"),
        second: format!("{} = {percent}", context.places.of(key)),
        reason: format!("the second one only has a meaning in {other} mode; remove it"),
    };
    match (raw.mode, raw.min_pool_share_percent, raw.fee_percent) {
        (PayoutMode::Pool, _, Some(fee)) => Err(conflict(FEE, fee, "pool", "solo")),
        (PayoutMode::Solo, Some(share), _) => Err(conflict(SHARE, share, "solo", "pool")),
        (PayoutMode::Pool, share, None) => {
            let script = script.ok_or_else(|| Problem::Missing {
                key: SCRIPT.to_owned(),
                expected: "in pool mode, the output descriptor of the pool's script".to_owned(),
            })?;
            let min_share_bp = basis_points(context, SHARE, share.unwrap_or_default())?;
            Ok(Payout::Pool { script, min_share_bp })
        }
        (PayoutMode::Solo, None, fee) => {
            let fee_percent = fee.unwrap_or_default();
            let fee_bp = basis_points(context, FEE, fee_percent)?;
            Ok(Payout::Solo { operator: operator(context, script, fee_bp, warnings)? })
        }
    }
}

fn operator(
    context: &Context<'_>,
    script: Option<ScriptBuf>,
    fee_bp: u16,
    warnings: &mut Vec<String>,
) -> Result<Option<(ScriptBuf, u16)>, Problem> {
    match (script, fee_bp) {
        (Some(_), 0) => {
            warnings.push(format!("`{SCRIPT}` is set but `{FEE}` is 0: it is never paid"));
            Ok(None)
        }
        (None, 0) => Ok(None),
        (Some(script), fee_bp) => {
            warnings.push(format!(
                "`payout.mode` = \"solo\" with `{FEE}` = {}: the reference client \
                 (jd_client_sv2 0.6) pays everything to the first output, the miner's, and is \
                 refused as operator-underpaid; make sure that your miners' client pays the fee",
                percent(fee_bp)
            ));
            Ok(Some((script, fee_bp)))
        }
        (None, fee_bp) => Err(Problem::Missing {
            key: SCRIPT.to_owned(),
            expected: format!(
                "{} = {} needs the output descriptor of the operator's script",
                context.places.of(FEE),
                percent(fee_bp)
            ),
        }),
    }
}

/// Percent with at most two decimals to basis points. The range was checked before.
fn basis_points(context: &Context<'_>, key: &str, percent: f64) -> Result<u16, Problem> {
    const TOLERANCE: f64 = 1e-6;
    let exact = percent * 100.0;
    let rounded = exact.round();
    if (exact - rounded).abs() > TOLERANCE || !(0.0..=f64::from(WHOLE_BP)).contains(&rounded) {
        let reason = format!("is {percent}; expected at most two decimals, 0 to 100");
        return Err(context.invalid(key, reason));
    }
    // Whole and within 0 to 10,000, as checked above.
    Ok(rounded as u16)
}

/// Basis points as percent, `9950` as `99.5`.
pub(crate) fn percent(bp: u16) -> f64 {
    f64::from(bp) / 100.0
}

fn check_job_declaration(
    context: &Context<'_>,
    raw: RawJobDeclaration,
    nodes: &[Node],
    warnings: &mut Vec<String>,
) -> Result<JobDeclaration, Problem> {
    const LISTEN: &str = "job_declaration.listen";
    const CHECK_NODE: &str = "job_declaration.check_node";
    let listen = context.socket_address(LISTEN, &raw.listen, 34264)?;
    if let Some(name) = &raw.check_node {
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        if !names.contains(&name.as_str()) {
            let nearest = known::nearest(name, names.iter().map(|n| (*n).to_owned()), "/");
            let reason = format!(
                "is {name:?}, but no [[node]] has that name; expected one of {} (nearest: \
                 {nearest:?})",
                known::quoted(&names)
            );
            return Err(context.invalid(CHECK_NODE, reason));
        }
        if raw.consensus_check == ConsensusCheck::Off {
            warnings.push(format!(
                "`{CHECK_NODE}` = {name:?} has no effect: `job_declaration.consensus_check` = \
                 \"off\""
            ));
        }
    }
    Ok(JobDeclaration {
        listen,
        full_template: raw.modes.contains(&Mode::FullTemplate),
        coinbase_only: raw.modes.contains(&Mode::CoinbaseOnly),
        consensus_check: raw.consensus_check,
        tip_grace: Duration::from_millis(raw.tip_grace_ms.into()),
        tx_cache_bytes: u64::from(raw.tx_cache_mb) * BYTES_PER_MB,
        max_connections: raw.max_connections as usize,
        check_node: raw.check_node,
    })
}

fn check_template_distribution(
    context: &Context<'_>,
    raw: &RawTemplateDistribution,
    taken: &[Option<(&str, SocketAddr)>],
) -> Result<TemplateDistribution, Problem> {
    const LISTEN: &str = "template_distribution.listen";
    let listen = context.socket_address(LISTEN, &raw.listen, 8442)?;
    context.check_free(LISTEN, listen, taken)?;
    Ok(TemplateDistribution {
        listen,
        fee_threshold_sat: raw.fee_threshold_sat.into(),
        min_interval: Duration::from_millis(raw.min_interval_ms.into()),
        max_connections: raw.max_connections as usize,
    })
}
