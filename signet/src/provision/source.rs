//! The source of Bitcoin Core, which a crate carries: cargo gets it, checks it and keeps it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::ProvisionError;

/// The crate, and its version. Its source is Bitcoin Core 31.99: RPC and IPC.
const CRATE: &str = "libbitcoinkernel-sys";
const CRATE_VERSION: &str = "0.4.1";
/// Name of the folder in the cache for a node built from it.
pub(super) const BUILT_VERSION: &str = "31.99-source";
/// Characters of cargo's complaint that are shown, from its end.
const COMPLAINT_CHARS_MAX: usize = 1_000;

fn failed(reason: impl ToString) -> ProvisionError {
    ProvisionError::Source { version: CRATE_VERSION, reason: reason.to_string() }
}

/// The folder of the source, in cargo's own cache. `work` is an empty folder for a package that
/// depends on the crate and does nothing.
pub(super) fn locate_source(work: &Path) -> Result<PathBuf, ProvisionError> {
    let manifest = work.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"core-source\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
         [lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{CRATE} = \"={CRATE_VERSION}\"\n\
         [workspace]\n"
    );
    for (path, text) in [(&manifest, text.as_str()), (&work.join("lib.rs"), "")] {
        std::fs::write(path, text).map_err(|source| ProvisionError::Io {
            what: "writing",
            path: path.clone(),
            source,
        })?;
    }
    // Without a network, what cargo has already may do.
    let online = metadata(&manifest, &[]);
    let metadata =
        online.or_else(|first| metadata(&manifest, &["--offline"]).map_err(|_| first))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = packages.iter().find(|package| package["name"] == CRATE);
    let source = found
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|manifest| Path::new(manifest).parent())
        .map(|folder| folder.join("bitcoin"))
        .ok_or_else(|| failed("cargo metadata does not list it"))?;
    if source.join("CMakeLists.txt").is_file() {
        Ok(source)
    } else {
        Err(failed(format!("{} has no CMakeLists.txt", source.display())))
    }
}

fn metadata(manifest: &Path, more: &[&str]) -> Result<Value, ProvisionError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .args(more)
        // Away from our own workspace, whose settings may not fit.
        .current_dir(manifest.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("cargo: {error}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(failed(last_chars(stderr.trim(), COMPLAINT_CHARS_MAX)));
    }
    serde_json::from_slice(&output.stdout).map_err(failed)
}

/// The last `max` characters of a text.
pub(super) fn last_chars(text: &str, max: usize) -> &str {
    let skip = text.chars().count().saturating_sub(max);
    text.char_indices().nth(skip).map_or("", |(at, _)| text.get(at..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_cut_between_characters() {
        assert_eq!(last_chars("größe", 3), "öße");
        assert_eq!(last_chars("ab", 3), "ab");
        assert_eq!(last_chars("ab", 0), "");
    }
}
