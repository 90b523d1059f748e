//! What is there already: no network, no build.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::{EXE_ENV, NodeExe, Origin, ProvisionError};

/// Names looked for, the one with IPC first.
pub(super) const EXE_NAMES: [&str; 2] = ["bitcoin-node", "bitcoind"];
/// Folder in the user's cache.
const CACHE_FOLDER: &str = "sovereign-jds/bitcoin-core";

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

/// The folder of downloaded and built binaries.
pub(super) fn cache_dir() -> Result<PathBuf, ProvisionError> {
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
    let output = Command::new(&path)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| does_not_run(&path, error.to_string()))?;
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
    let help = Command::new(path).arg("-help").stdin(Stdio::null()).output();
    let has_ipc =
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("-ipcbind="));
    known.insert(path.to_owned(), has_ipc);
    has_ipc
}
