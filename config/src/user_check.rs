//! The `[user_check]` table.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::check::Context;
use crate::checked::{UserCallback, UserCheck, UserList};
use crate::error::Problem;
use crate::keys;
use crate::raw::{RawUserCheck, UserCheckMode, WhenDown};

const MODE: &str = "user_check.mode";
const USERS: &str = "user_check.users";
const USERS_FILE: &str = "user_check.users_file";
const URL: &str = "user_check.url";
const TOKEN_FILE: &str = "user_check.check_token_file";

/// Longest name, bytes (STR0_255).
const NAME_BYTES_MAX: usize = 255;

/// Largest file of names, bytes.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Longest URL, bytes.
const URL_BYTES_MAX: usize = 2_048;

pub(crate) fn check(
    context: &Context<'_>,
    raw: RawUserCheck,
    warnings: &mut Vec<String>,
) -> Result<UserCheck, Problem> {
    match raw.mode {
        UserCheckMode::AllowAll => {
            warn_of_no_effect(&raw, &[USERS, USERS_FILE, URL, TOKEN_FILE], "allow-all", warnings);
            Ok(UserCheck::AllowAll)
        }
        UserCheckMode::List => {
            warn_of_no_effect(&raw, &[URL, TOKEN_FILE], "list", warnings);
            list(context, raw).map(UserCheck::List)
        }
        UserCheckMode::Callback => {
            warn_of_no_effect(&raw, &[USERS, USERS_FILE], "callback", warnings);
            callback(context, &raw, warnings).map(UserCheck::Callback)
        }
    }
}

fn warn_of_no_effect(raw: &RawUserCheck, keys: &[&str], mode: &str, warnings: &mut Vec<String>) {
    for key in keys {
        let is_set = match *key {
            USERS => !raw.users.is_empty(),
            USERS_FILE => raw.users_file.is_some(),
            URL => raw.url.is_some(),
            _ => raw.check_token_file.is_some(),
        };
        if is_set {
            warnings.push(format!("`{key}` has no effect: `{MODE}` = {mode:?}"));
        }
    }
}

fn list(context: &Context<'_>, raw: RawUserCheck) -> Result<UserList, Problem> {
    if raw.users.is_empty() && raw.users_file.is_none() {
        return Err(Problem::Missing {
            key: USERS.to_owned(),
            expected: format!(
                "with `{MODE}` = \"list\", the users, or a file of them: {USERS_FILE}"
            ),
        });
    }
    let mut names = BTreeSet::new();
    for name in &raw.users {
        names.insert(checked_name(name).map_err(|reason| context.invalid(USERS, reason))?);
    }
    let file = context.resolve_optional(USERS_FILE, raw.users_file.as_ref())?;
    if let Some(path) = &file {
        let of_file = read(path).map_err(|reason| context.invalid(USERS_FILE, reason))?;
        names.extend(of_file);
    }
    Ok(UserList { names: Arc::new(names), users: raw.users, file })
}

/// A name as it is compared, or what is wrong with it.
fn checked_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('.') {
        return Err(format!(
            "holds {name:?}; expected names of 1 to {NAME_BYTES_MAX} bytes without a dot: what \
             follows the first dot of what a miner sends is its worker"
        ));
    }
    Ok(name.to_owned())
}

fn read(path: &Path) -> Result<BTreeSet<String>, String> {
    let failed = |error: std::io::Error| format!("can not read {}: {error}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display()));
    }
    let names = text.lines().map(str::trim).enumerate();
    let names = names.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let checked = |(number, line)| {
        let name = checked_name(line);
        name.map_err(|reason| format!("{} line {}: {reason}", path.display(), number + 1))
    };
    names.map(checked).collect()
}

fn callback(
    context: &Context<'_>,
    raw: &RawUserCheck,
    warnings: &mut Vec<String>,
) -> Result<UserCallback, Problem> {
    let Some(text) = &raw.url else {
        return Err(Problem::Missing {
            key: URL.to_owned(),
            expected: format!("with `{MODE}` = \"callback\", where the question is posted"),
        });
    };
    let url = text.expose().trim().to_owned();
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or(rest));
    let plain = |c: char| c.is_ascii_graphic() && !"@?#\"<>\\^`{|}".contains(c);
    // Not quoted: somebody may have put a secret into it.
    if host.is_none_or(str::is_empty) || !url.chars().all(plain) || url.len() > URL_BYTES_MAX {
        let reason = "is no address that can be asked; expected http://HOST[:PORT]/PATH or https, \
                      without user, password and query: a secret belongs into check_token_file";
        return Err(context.invalid(URL, reason));
    }
    let token_file = token_file(context, raw.check_token_file.as_ref())?;
    let host = host.unwrap_or_default();
    if token_file.is_some() && url.starts_with("http://") && !is_loopback(host) {
        warnings.push(format!(
            "`{URL}`: {host} is not on this machine, and the token travels unencrypted"
        ));
    }
    Ok(UserCallback {
        url,
        token_file,
        timeout: Duration::from_millis(raw.timeout_ms.into()),
        cache: Duration::from_secs(raw.cache_seconds.into()),
        allow_when_down: raw.when_down == WhenDown::Allow,
    })
}

fn token_file(context: &Context<'_>, path: Option<&PathBuf>) -> Result<Option<PathBuf>, Problem> {
    let path = context.resolve_optional(TOKEN_FILE, path)?;
    if let Some(path) = &path {
        let place = context.places.of(TOKEN_FILE);
        keys::check_not_public(path).map_err(|source| Problem::KeyFile { place, source })?;
    }
    Ok(path)
}

/// `host` may have a port.
fn is_loopback(host: &str) -> bool {
    let ip = host.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let ip = ip.ok().or_else(|| host.trim_matches(['[', ']']).parse().ok());
    let name = host.split(':').next().unwrap_or_default();
    ip.is_some_and(|ip| ip.is_loopback()) || name.eq_ignore_ascii_case("localhost")
}
