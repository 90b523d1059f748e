//! What is there already: no network, no build.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wait;

use super::{EXE_ENV, NodeExe, Origin, ProvisionError};

/// Names looked for, the one with IPC first.
pub(super) const EXE_NAMES: [&str; 2] = ["bitcoin-node", "bitcoind"];
/// Folder in the user's cache.
const CACHE_FOLDER: &str = "sovereign-jds/bitcoin-core";
/// How long a binary may be open for writing elsewhere.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Asked once for each binary.
static HAS_IPC: Mutex<Option<HashMap<PathBuf, bool>>> = Mutex::new(None);

/// Finds a binary that runs, without network and without building.
///
/// # Errors
/// There is none, or the first found does not run.
pub fn locate() -> Result<NodeExe, ProvisionError> {
    let cache = cache_dir()?;
    let Some((path, origin)) =
        find(std::env::var_os(EXE_ENV).as_deref(), std::env::var_os("PATH").as_deref(), &cache)
    else {
        return Err(ProvisionError::NotFound { cache });
    };
    examine(path, origin)
}

/// The folder of downloaded and built binaries: `$XDG_CACHE_HOME/sovereign-jds/bitcoin-core`, or
/// the same in `~/.cache`.
///
/// # Errors
/// Neither `$XDG_CACHE_HOME` nor `$HOME` is set.
pub fn cache_dir() -> Result<PathBuf, ProvisionError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join(CACHE_FOLDER))
        .ok_or(ProvisionError::NoCache)
}

/// The first hit. What the environment names is taken even when it is not there: then the error
/// is about it, instead of another binary being used silently.
fn find(exe: Option<&OsStr>, path: Option<&OsStr>, cache: &Path) -> Option<(PathBuf, Origin)> {
    if let Some(exe) = exe.filter(|exe| !exe.is_empty()) {
        return Some((PathBuf::from(exe), Origin::Environment));
    }
    let folders: Vec<PathBuf> =
        path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    for name in EXE_NAMES {
        let hit = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        if let Some(path) = hit {
            return Some((path, Origin::Path));
        }
    }
    cached(cache).map(|path| (path, Origin::Cache))
}

/// The newest binary in the cache: the version folder that sorts last.
pub(super) fn cached(cache: &Path) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir(cache)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        // Unfinished work of an installation starts with a dot.
        .filter(|path| {
            path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
        })
        .collect();
    versions.sort();
    versions.iter().rev().find_map(|version| {
        EXE_NAMES.iter().map(|name| version.join(name)).find(|path| path.is_file())
    })
}

/// Runs a binary to see that it works and what it is.
pub(super) fn examine(path: PathBuf, origin: Origin) -> Result<NodeExe, ProvisionError> {
    let output = run(&path, "-version").map_err(|error| does_not_run(&path, error.to_string()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = format!("{} ({})", stderr.trim(), output.status);
        return Err(does_not_run(&path, reason));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(version) = parse_version(&text) else {
        let reason = "it does not say a version of Bitcoin Core when run with -version".to_owned();
        return Err(does_not_run(&path, reason));
    };
    let has_ipc = has_ipc(&path);
    Ok(NodeExe { path, origin, version, has_ipc })
}

/// Runs a binary for what it prints, in an empty data directory: in the user's own even these
/// questions read the configuration and rename `settings.json`, which fails when two are asked at
/// once.
fn run(path: &Path, arg: &str) -> std::io::Result<Output> {
    let empty = tempfile::tempdir()?;
    let mut datadir = OsString::from("-datadir=");
    datadir.push(empty.path());
    let mut command = Command::new(path);
    command.arg(arg).arg(datadir).stdin(Stdio::null());
    let run = || match command.output() {
        // Another thread started a process while the binary was being written: gone in a moment.
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
        result => Some(result),
    };
    wait::until("a binary that is being written", BUSY_TIMEOUT, run)
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn does_not_run(path: &Path, reason: String) -> ProvisionError {
    let hint = if reason.contains("libcapnp") || reason.contains("libkj") {
        "; it needs the libraries of Cap'n Proto: on Debian and Ubuntu `apt-get install capnproto`"
    } else {
        ""
    };
    ProvisionError::DoesNotRun { path: path.to_owned(), reason, hint: hint.to_owned() }
}

/// `v31.99.0-unk` from "Bitcoin Core daemon version v31.99.0-unk bitcoin-node".
fn parse_version(text: &str) -> Option<String> {
    let line = text.lines().next().filter(|line| line.starts_with("Bitcoin Core"))?;
    let after = line.split_once(" version ")?.1;
    after.split_whitespace().next().map(str::to_owned)
}

/// True when the binary knows `-ipcbind`. Asked once, then remembered.
pub fn has_ipc(path: &Path) -> bool {
    let mut known = HAS_IPC.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(has_ipc) = known.get(path) {
        return *has_ipc;
    }
    let Ok(help) = run(path, "-help") else { return false };
    if !help.status.success() {
        // Not remembered: it may do better next time.
        return false;
    }
    let has_ipc = String::from_utf8_lossy(&help.stdout).contains("-ipcbind=");
    known.insert(path.to_owned(), has_ipc);
    has_ipc
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(path: &Path, script: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_first_hit_wins() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let path = std::env::join_paths([at("one"), at("two")]).unwrap();
        let find = |exe: Option<&str>| find(exe.map(OsStr::new), Some(&path), &at("cache"));
        assert_eq!(find(None), None);

        program(&at("cache/31.0/bitcoind"), "");
        program(&at("cache/.download-x/bitcoin-node"), "");
        assert_eq!(find(None), Some((at("cache/31.0/bitcoind"), Origin::Cache)));
        program(&at("cache/31.99-source/bitcoin-node"), "");
        assert_eq!(find(None), Some((at("cache/31.99-source/bitcoin-node"), Origin::Cache)));

        program(&at("one/bitcoind"), "");
        assert_eq!(find(None), Some((at("one/bitcoind"), Origin::Path)));
        program(&at("two/bitcoin-node"), "");
        assert_eq!(find(None), Some((at("two/bitcoin-node"), Origin::Path)), "it has IPC");

        let named = Some(("/no/such/file".into(), Origin::Environment));
        assert_eq!(find(Some("/no/such/file")), named, "what is named is taken");
        assert_eq!(find(Some("")).unwrap().1, Origin::Path, "empty is unset");
    }

    #[test]
    fn examines_what_it_found() {
        let root = tempfile::tempdir().unwrap();
        let exe = root.path().join("bitcoin-node");
        program(
            &exe,
            "case $1 in -version) echo 'Bitcoin Core daemon version v30.1.0 bitcoin-node';; \
             -help) echo '  -ipcbind=<address>';; esac",
        );
        let found = examine(exe.clone(), Origin::Path).unwrap();
        assert_eq!(found.version, "v30.1.0");
        assert!(found.has_ipc);

        let other = root.path().join("bitcoind");
        program(&other, "echo 'some other program'");
        let error = examine(other, Origin::Path).unwrap_err().to_string();
        assert!(error.contains("does not say a version of Bitcoin Core"), "{error}");

        let broken = root.path().join("broken");
        program(&broken, "echo 'libcapnp-0.9.2.so: cannot open shared object file' >&2; exit 127");
        let error = examine(broken, Origin::Path).unwrap_err().to_string();
        assert!(error.contains("apt-get install capnproto"), "{error}");
        let error = examine(root.path().join("absent"), Origin::Environment).unwrap_err();
        assert!(error.to_string().contains("absent does not run"), "{error}");
    }
}
