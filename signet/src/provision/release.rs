//! Which release, and how its files are named.

use super::DownloadError;

/// The release of Bitcoin Core that is downloaded.
pub const RELEASE: &str = "31.0";

/// Folder of the release.
pub(super) const DEFAULT_URL: &str = "https://bitcoincore.org/bin/bitcoin-core-31.0/";
/// Checksums of the release's files, and signatures over them.
pub(super) const SUMS: &str = "SHA256SUMS";
pub(super) const SUMS_SIGNATURES: &str = "SHA256SUMS.asc";

/// This machine as release files name it, such as `x86_64-linux-gnu`.
///
/// # Errors
/// No release is made for it.
pub fn host_triple() -> Result<&'static str, DownloadError> {
    use std::env::consts::{ARCH, OS};
    let musl = cfg!(target_env = "musl");
    match (OS, ARCH) {
        // Release binaries need glibc; a musl build of ours may well run beside one.
        ("linux", "x86_64") if !musl || has_glibc() => Ok("x86_64-linux-gnu"),
        ("linux", "aarch64") if !musl || has_glibc() => Ok("aarch64-linux-gnu"),
        ("linux", "riscv64") if !musl || has_glibc() => Ok("riscv64-linux-gnu"),
        ("macos", "x86_64") => Ok("x86_64-apple-darwin"),
        ("macos", "aarch64") => Ok("arm64-apple-darwin"),
        (os, arch) => Err(DownloadError::NoRelease { os, arch }),
    }
}

fn has_glibc() -> bool {
    ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .iter()
        .any(|loader| std::path::Path::new(loader).exists())
}

/// Name of the archive for `triple`.
pub(super) fn archive_name(triple: &str) -> String {
    format!("bitcoin-{RELEASE}-{triple}.tar.gz")
}

/// The checksum of `archive` in the text of `SHA256SUMS`: lines of 64 hex digits, two spaces (or
/// a space and an asterisk), and the name.
pub(super) fn listed_checksum(sums: &str, archive: &str) -> Option<String> {
    sums.lines().find_map(|line| {
        let (sum, name) = line.split_once(char::is_whitespace)?;
        let name = name.trim_start().trim_start_matches('*');
        let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        (name == archive && is_sum).then(|| sum.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_exactly_that_file() {
        let sum = |digit: &str| digit.repeat(64);
        let text = format!(
            "{}  other-file.tar.gz\n{} *file.tar.gz\n{}  file.tar.gz.asc\nshort  last.zip\n",
            sum("a"),
            sum("B"),
            sum("c")
        );
        assert_eq!(listed_checksum(&text, "file.tar.gz"), Some(sum("b")));
        assert_eq!(listed_checksum(&text, "file.tar"), None);
        assert_eq!(listed_checksum(&text, "last.zip"), None, "not a checksum");
        assert_eq!(listed_checksum("", "file.tar.gz"), None);
    }
}
