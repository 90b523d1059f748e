//! A least configuration in a directory of its own, to be changed by each test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code outside of test functions")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::fs;
use std::path::PathBuf;

use config::{Checked, keys};
use tempfile::TempDir;

pub const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
pub const POINT: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// A directory with a key file, and the least configuration that is accepted.
pub struct Setup {
    pub dir: TempDir,
    pub public_key: String,
    pub text: String,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = keys::generate().unwrap();
        keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
        let text = format!(
            r#"network = "regtest"
[authority]
secret_key_file = "authority.key"
[payout]
mode = "pool"
script = "addr({ADDRESS})"
[[node]]
name = "main"
rpc_cookie_file = ".cookie"
"#
        );
        Self { dir, public_key: public.to_string(), text }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("jds.toml")
    }

    pub fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from:?} is not in the configuration");
        self.text = self.text.replacen(from, to, 1);
        self
    }

    pub fn plus(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self
    }

    /// A file with an API token, as private as it has to be.
    pub fn write_token(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    pub fn load_with(&self, env: &[(&str, &str)]) -> Result<Checked, config::ConfigError> {
        fs::write(self.path(), &self.text).unwrap();
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        config::load(&self.path(), env)
    }

    #[track_caller]
    pub fn ok(&self) -> Checked {
        self.load_with(&[]).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        self.refused_with(&[], parts);
    }

    /// The configuration is refused with a message that has all these parts.
    #[track_caller]
    pub fn refused_with(&self, env: &[(&str, &str)], parts: &[&str]) {
        let message = match self.load_with(env) {
            Ok(_) => panic!("accepted:\n{}", self.text),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert!(message.contains("jds.toml"), "the file is not in: {message}");
    }
}
