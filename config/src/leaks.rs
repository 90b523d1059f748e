//! No output may hold a secret: every error and every `Debug` text is searched for them.

use std::path::Path;

use proptest::prelude::*;

use crate::document::Document;
use crate::{Checked, ConfigError, keys, parse};

/// A password that is no part of any message by chance.
const PASSWORD: &str = "hunter2-Zq9";

struct Secrets {
    key: String,
    key_hex: String,
}

impl Secrets {
    fn new() -> Self {
        let (secret, _) = keys::generate().unwrap();
        let key_hex = secret.expose_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key: secret.expose_text().to_string(), key_hex }
    }

    fn file(&self) -> String {
        format!(
            r#"network = "regtest"
[authority]
secret_key = "{}"
[payout]
mode = "pool"
script = "raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)"
[[node]]
name = "main"
rpc_user = "jds"
rpc_password = "{PASSWORD}"
"#,
            self.key
        )
    }

    #[track_caller]
    fn assert_absent(&self, text: &str, what: &str) {
        for secret in [self.key.as_str(), self.key_hex.as_str(), PASSWORD] {
            assert!(!text.contains(secret), "{what} shows a secret: {text}");
        }
    }

    #[track_caller]
    fn assert_absent_in_error(&self, error: &ConfigError, what: &str) {
        self.assert_absent(&error.to_string(), what);
        self.assert_absent(&format!("{error:?} {error:#?}"), what);
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            self.assert_absent(&format!("{error} {error:?}"), what);
            cause = error.source();
        }
    }
}

fn load(text: &str) -> Result<Checked, ConfigError> {
    parse(text, Path::new("jds.toml"), std::iter::empty())
}

#[test]
fn good_settings_print_without_secrets() {
    let secrets = Secrets::new();
    let checked = load(&secrets.file()).unwrap();
    secrets.assert_absent(&format!("{checked:?} {checked:#?}"), "Debug of Checked");
    secrets.assert_absent(&checked.to_redacted_toml(), "the redacted TOML");
    let secret_key = &checked.authority.secret_key;
    secrets.assert_absent(&format!("{secret_key} {secret_key:?}"), "the key");
    let (raw, _) = Document::parse(&secrets.file()).unwrap().finish().unwrap();
    secrets.assert_absent(&format!("{raw:?} {raw:#?}"), "Debug of Raw");
}

#[test]
fn secrets_in_wrong_places_are_not_quoted() {
    let secrets = Secrets::new();
    let file = secrets.file();
    let key = &secrets.key;
    let wif = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
    let changes = [
        ("[payout]", format!("public_key = \"{key}\"\n[payout]")),
        ("raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)", format!("wpkh({key})")),
        ("raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)", key.clone()),
        ("raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)", format!("raw({key})")),
        ("raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)", format!("addr({key})")),
        ("raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)", format!("raw(51)#{key}")),
        ("rpc_user", format!("rpc_url = \"http://jds:{PASSWORD}@127.0.0.1:18443\"\nrpc_user")),
        ("rpc_user", format!("rpc_url = \"{PASSWORD}\"\nrpc_user")),
        ("rpc_user = \"jds\"", String::new()),
        ("rpc_user", "rpc_cookie_file = \"x\"\nrpc_user".to_owned()),
        ("secret_key =", "secret_key_file = \"x\"\nsecret_key =".to_owned()),
        ("secret_key =", "secret_kye =".to_owned()),
        ("rpc_password =", "rpc_pasword =".to_owned()),
        ("\"regtest\"", "\"regtets\"".to_owned()),
        (PASSWORD, format!("{PASSWORD}\n")),
        (key, format!("{key}1")),
    ];
    for (from, to) in &changes {
        let text = file.replacen(from, to, 1);
        assert_ne!(text, file, "the change from {from:?} does nothing");
        let error = load(&text).expect_err(to);
        secrets.assert_absent_in_error(&error, to);
    }
    let text = file.replacen(
        "raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)",
        &format!("wpkh({wif})"),
        1,
    );
    let error = load(&text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(wif), "{error}");
    assert!(error.to_string().contains("private key"), "{error}");
}

#[test]
fn wrong_types_in_secret_keys_are_not_quoted() {
    let file = Secrets::new().file();
    let text = file.replacen(&format!("\"{PASSWORD}\""), "8271828459045", 1);
    let error = load(&text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("8271828459045"), "{error}");
    assert!(error.to_string().contains("node.0.rpc_password"), "{error}");
}

proptest! {
    /// Deleting, doubling or replacing any character of the file gives many syntax errors, unknown
    /// keys and wrong values.
    #[test]
    fn no_broken_file_makes_an_error_show_a_secret(
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(vec!["", "\"", "'", "\n", "=", "[", "]", "#", "\"\"\"", "\\", "\u{0}", "é"]),
    ) {
        let secrets = Secrets::new();
        let mut text = secrets.file();
        let at = at.index(text.len());
        // Characters of a secret itself stay: the search is for whole secrets.
        let in_secret = [secrets.key.as_str(), PASSWORD].iter().any(|secret| {
            text.find(secret).is_some_and(|start| (start..start + secret.len()).contains(&at))
        });
        if in_secret {
            text.insert_str(at, with);
        } else {
            text.replace_range(at..=at, with);
        }
        match load(&text) {
            Ok(checked) => secrets.assert_absent(&format!("{checked:?}"), "Debug"),
            Err(error) => {
                secrets.assert_absent_in_error(&error, &text);
                // A part of the secret that is long enough to matter does not show either.
                let shown = format!("{error} {error:?}");
                for part in [&secrets.key[..20], &secrets.key[30..], &PASSWORD[..7]] {
                    prop_assert!(!shown.contains(part), "{shown}");
                }
            }
        }
    }

    /// No text at all makes the parser panic.
    #[test]
    fn any_text_is_accepted_or_refused(text in "\\PC{0,200}") {
        let _ = load(&text);
    }
}
