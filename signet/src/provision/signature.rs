//! Signatures over the checksums, as far as the user's own gpg can judge them.

use std::path::Path;
use std::process::{Command, Stdio};

/// What is known of the signatures. Only keys that the user put into their own keyring count;
/// without them a release is as trustworthy as the connection that it came over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatures {
    /// Good signatures by keys of the user's keyring.
    Good {
        /// Names on the keys.
        signers: Vec<String>,
    },
    /// Signed by keys that the keyring does not have, or that have expired or were revoked.
    NoKnownKey {
        /// Signatures seen.
        count: usize,
    },
    /// There is no gpg.
    NoGpg,
    /// The release folder has no signatures.
    NotThere,
    /// A signature that does not fit what it signs.
    Bad {
        /// Name on the key.
        signer: String,
    },
}

impl std::fmt::Display for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good { signers } => {
                write!(f, "signed by {} (in your gpg keyring)", signers.join(", "))
            }
            Self::NoKnownKey { count } => write!(
                f,
                "signatures NOT verified: {count} found, none by a key in your gpg keyring; the \
                 builders' keys are at https://github.com/bitcoin-core/guix.sigs"
            ),
            Self::NoGpg => f.write_str("signatures NOT verified: gpg is not installed"),
            Self::NotThere => {
                f.write_str("signatures NOT verified: the server has no SHA256SUMS.asc")
            }
            Self::Bad { signer } => write!(f, "BAD signature by {signer}"),
        }
    }
}

/// Has gpg compare `signatures` with `signed`. `home` is another keyring than the user's.
pub(super) fn verify(signed: &Path, signatures: &Path, home: Option<&Path>) -> Signatures {
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--no-tty", "--no-auto-key-retrieve", "--status-fd", "1", "--verify"])
        .arg(signatures)
        .arg(signed)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    if let Some(home) = home {
        gpg.env("GNUPGHOME", home);
    }
    match gpg.output() {
        // The exit code says failure for one unknown key among ten: the status lines say more.
        Ok(output) => judge(&String::from_utf8_lossy(&output.stdout)),
        Err(_) => Signatures::NoGpg,
    }
}

/// Reads the lines of `--status-fd` (GnuPG, doc/DETAILS).
fn judge(status: &str) -> Signatures {
    let mut signers = Vec::new();
    let mut count = 0;
    for line in status.lines() {
        let Some(line) = line.strip_prefix("[GNUPG:] ") else { continue };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let name = || rest.split_once(' ').map_or(rest, |(_, name)| name).to_owned();
        match word {
            "BADSIG" => return Signatures::Bad { signer: name() },
            "GOODSIG" => signers.push(name()),
            "NEWSIG" => count += 1,
            _ => {}
        }
    }
    if signers.is_empty() { Signatures::NoKnownKey { count } } else { Signatures::Good { signers } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpg(home: &Path, args: &[&str]) -> bool {
        Command::new("gpg")
            .env("GNUPGHOME", home)
            .args([
                "--batch",
                "--quiet",
                "--yes",
                "--passphrase",
                "",
                "--pinentry-mode",
                "loopback",
            ])
            .args(args)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    #[test]
    fn tells_good_unknown_and_bad_apart() {
        let home = tempfile::tempdir().unwrap();
        let stranger = tempfile::tempdir().unwrap();
        let (sums, asc) = (home.path().join("SUMS"), home.path().join("SUMS.asc"));
        std::fs::write(&sums, "the checksums\n").unwrap();
        std::fs::write(&asc, "").unwrap();
        if Command::new("gpg").arg("--version").output().is_err() {
            assert_eq!(verify(&sums, &asc, None), Signatures::NoGpg);
            return;
        }
        let keygen = ["--quick-generate-key", "Tester <t@example.org>", "ed25519", "sign", "1y"];
        assert!(gpg(home.path(), &keygen), "a key for the test");
        let (out, file) = (asc.to_str().unwrap(), sums.to_str().unwrap());
        assert!(gpg(home.path(), &["--armor", "--detach-sign", "--output", out, file]));

        let good = verify(&sums, &asc, Some(home.path()));
        assert_eq!(good, Signatures::Good { signers: vec!["Tester <t@example.org>".to_owned()] });
        let unknown = verify(&sums, &asc, Some(stranger.path()));
        assert_eq!(unknown, Signatures::NoKnownKey { count: 1 });
        std::fs::write(&sums, "other checksums\n").unwrap();
        let bad = verify(&sums, &asc, Some(home.path()));
        assert_eq!(bad, Signatures::Bad { signer: "Tester <t@example.org>".to_owned() });
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", home.path())
            .args(["--kill", "gpg-agent"])
            .status();
    }

    #[test]
    fn one_bad_signature_outweighs_good_ones() {
        let status = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 0123 Alice\n[GNUPG:] NEWSIG\n\
                      [GNUPG:] BADSIG 4567 Mallory <m@x>\n";
        assert_eq!(judge(status), Signatures::Bad { signer: "Mallory <m@x>".to_owned() });
        let expired = "[GNUPG:] NEWSIG\n[GNUPG:] EXPKEYSIG 0123 Alice\n";
        assert_eq!(judge(expired), Signatures::NoKnownKey { count: 1 });
    }
}
