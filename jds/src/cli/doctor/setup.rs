//! What can be told from the configuration and this machine alone.

use std::path::Path;

use bitcoin::Address;
use config::{Checked, Payout, Problem};
use jds::limits::DESCRIPTORS_RESERVED;
use jds_wire::AuthorityKeys;

use super::code::Code;
use super::report::Report;

const CONFIGURATION: &str = "configuration";
const KEYS: &str = "authority keys";
const PAYOUT: &str = "payout";

/// The configuration, with all that it has to say; `None` when it can not be used.
pub(super) fn load(path: &Path, report: &mut Report) -> Option<Checked> {
    let checked = match config::load_here(path) {
        Ok(checked) => checked,
        Err(error) => {
            let (name, code, advice) = refused(&error.problem);
            report.bad(name, code, error.to_string(), advice);
            return None;
        }
    };
    report.ok(CONFIGURATION, format!("{} can be used", path.display()));
    for warning in &checked.warnings {
        let advice = format!(
            "Is it meant so? Then leave it; otherwise change it in {} and run this again.",
            path.display()
        );
        report.bad(CONFIGURATION, Code::ConfigWarning, warning, advice);
    }
    Some(checked)
}

/// Which check a refused configuration fails, and what to do.
fn refused(problem: &Problem) -> (&'static str, Code, &'static str) {
    match problem {
        Problem::KeyPair { .. } => (
            KEYS,
            Code::KeyMismatch,
            "Remove `authority.public_key` (it is derived), or name the file of the secret key that \
             belongs to it in `authority.secret_key_file`. Miners pin the public key: a new one has \
             to go to all of them.",
        ),
        Problem::Key { .. } => (
            KEYS,
            Code::KeyFile,
            "Copy the key again, whole; `jds keygen --out FILE` makes a new pair, whose public key \
             miners then need.",
        ),
        Problem::KeyFile { place, .. } if place.key.starts_with("api.") => (
            "api tokens",
            Code::TokenFile,
            "Make the file a line of its own secret text that only the server's user can read \
             (chmod 600), or correct the setting.",
        ),
        Problem::KeyFile { place, .. } if place.key.ends_with("token_file") => (
            "tokens",
            Code::TokenFile,
            "Make the file a line of its own secret text that only the server's user can read \
             (chmod 600), or correct the setting.",
        ),
        Problem::KeyFile { .. } => (
            KEYS,
            Code::KeyFile,
            "Correct `authority.secret_key_file`, or give the file to the server's user alone \
             (chown, chmod 600). `jds keygen --out FILE` makes a new pair.",
        ),
        Problem::Script { .. } => (
            PAYOUT,
            Code::PayoutScript,
            "Write `payout.script` as a descriptor for this `network`, for example addr(ADDRESS) \
             with an address of your own wallet.",
        ),
        Problem::Conflict { first, second, .. }
            if first.contains("api.listen") && second.contains("api.token_file") =>
        {
            (
                "api",
                Code::ApiWithoutToken,
                "Set `api.token_file`, or `api.listen` to an address of this machine alone \
                 (127.0.0.1).",
            )
        }
        _ => (
            CONFIGURATION,
            Code::ConfigInvalid,
            "Correct the setting that is named; `jds config-reference` explains each. Nothing else \
             is checked until then.",
        ),
    }
}

/// They were compared when the configuration was read; the signature is what miners see.
pub(super) fn keys(config: &Checked, report: &mut Report) {
    let authority = &config.authority;
    let fit = || {
        let secret = authority.secret_key.expose_text().parse().ok()?;
        let public = authority.public_key.to_string().parse().ok()?;
        AuthorityKeys::checked(secret, public).ok()
    };
    match fit() {
        Some(_) => report.ok(
            KEYS,
            format!(
                "they fit together (a key file that others can read is refused); miners pin {}",
                authority.public_key
            ),
        ),
        None => report.bad(
            KEYS,
            Code::KeyMismatch,
            "the secret key does not sign for the public key",
            "Make a new pair with `jds keygen --out FILE` and give miners its public key.",
        ),
    }
}

/// A script of another network is refused with the configuration; here a person sees who is paid.
pub(super) fn payout(config: &Checked, report: &mut Report) {
    let shown = |script: &bitcoin::ScriptBuf| match Address::from_script(script, config.network) {
        Ok(address) => address.to_string(),
        Err(_) => format!("script {}", script.to_hex_string()),
    };
    let network = config.network;
    let message = match &config.payout {
        Payout::Pool { script, .. } => format!("on {network}, blocks pay {}", shown(script)),
        Payout::Solo { operator: None } => format!("on {network}, blocks pay the miner alone"),
        Payout::Solo { operator: Some((script, fee_bp)) } => format!(
            "on {network}, blocks pay the miner, and {} % to {}",
            f64::from(*fee_bp) / 100.0,
            shown(script)
        ),
    };
    report.ok(PAYOUT, message);
}

/// Where the API has tokens: they are read as the server would.
pub(super) fn token_files(config: &Checked, report: &mut Report) {
    const NAME: &str = "api tokens";
    let Some(settings) = &config.api else { return };
    let files = [
        ("api.token_file", &settings.token_file),
        ("api.read_token_file", &settings.read_token_file),
    ];
    for (setting, file) in files {
        let Some(file) = file else { continue };
        match api::Token::from_file(file) {
            Ok(_) => report.ok(NAME, format!("{setting} {} can be used", file.display())),
            Err(error) => report.bad(
                NAME,
                Code::TokenFile,
                format!("{setting}: {error}"),
                format!(
                    "Put one line of secret text into {} that only the server's user can read \
                     (chmod 600), for example: openssl rand -hex 32",
                    file.display()
                ),
            ),
        }
    }
    let public = !settings.listen.ip().to_canonical().is_loopback();
    if public && settings.open_reads {
        report.bad(
            "api",
            Code::ApiOpen,
            format!("whoever can reach {} can read everything without a token", settings.listen),
            "If that is not meant, remove `api.open_reads` and set `api.read_token_file`.",
        );
    }
}

/// The limit of this process; the server's may be another where something else starts it.
pub(super) fn open_files(config: &Checked, report: &mut Report) {
    const NAME: &str = "open files";
    let wanted = config.job_declaration.max_connections as u64;
    let needed = wanted.saturating_add(DESCRIPTORS_RESERVED);
    // The server raises its limit up to the hard one by itself.
    let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else { return };
    if hard >= needed {
        let message = format!("the limit of {hard} is enough for {wanted} connections");
        return report.ok(NAME, message);
    }
    let possible = hard.saturating_sub(DESCRIPTORS_RESERVED);
    report.bad(
        NAME,
        Code::FilesLimit,
        format!(
            "the limit of {hard} allows {possible} connections, `job_declaration.max_connections` \
             is {wanted}"
        ),
        format!(
            "Raise the limit to {needed} (LimitNOFILE={needed} of a systemd service, `ulimit -Hn` \
             of a shell), or lower the setting."
        ),
    );
}
