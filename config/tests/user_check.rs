//! `[user_check]`: who may mine and declare.

#![allow(clippy::panic, reason = "test code outside of test functions")]

mod setup;

use std::fs;

use config::UserCheck;
use setup::Setup;

trait Refusal {
    fn refusal(&self) -> String;
}

impl Refusal for Setup {
    fn refusal(&self) -> String {
        match self.load_with(&[]) {
            Ok(_) => panic!("accepted:\n{}", self.text),
            Err(error) => error.to_string(),
        }
    }
}

fn with(lines: &str) -> Setup {
    Setup::new().plus(&format!("[user_check]\n{lines}\n"))
}

#[test]
fn without_the_table_everybody_may() {
    assert_eq!(Setup::new().ok().user_check, UserCheck::AllowAll);
    assert!(Setup::new().ok().to_redacted_toml().contains("[user_check]\nmode = \"allow-all\""));
}

#[test]
fn a_list_is_of_the_configuration_and_of_a_file() {
    let setup = with("mode = \"list\"\nusers = [\"alice\"]\nusers_file = \"users.txt\"");
    fs::write(setup.dir.path().join("users.txt"), "# ours\nbob\n\n  carol \n").unwrap();
    let checked = setup.ok();
    let UserCheck::List(list) = &checked.user_check else { panic!("{:?}", checked.user_check) };
    let names: Vec<&str> = list.names.iter().map(String::as_str).collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    let toml: toml::Table = checked.to_redacted_toml().parse().unwrap();
    let printed = toml["user_check"]["users"].as_array().unwrap();
    assert_eq!(printed.len(), 1, "{printed:?}");
}

#[test]
fn what_is_wrong_with_a_list_is_named() {
    let error = with("mode = \"list\"").refusal();
    assert!(error.contains("user_check.users") && error.contains("users_file"), "{error}");
    let error = with("mode = \"list\"\nusers = [\"alice.rig1\"]").refusal();
    assert!(error.contains("alice.rig1") && error.contains("worker"), "{error}");
    let error = with("mode = \"list\"\nusers_file = \"absent.txt\"").refusal();
    assert!(error.contains("absent.txt"), "{error}");
    let setup = with("mode = \"list\"\nusers_file = \"users.txt\"");
    fs::write(setup.dir.path().join("users.txt"), "alice\nb.ob\n").unwrap();
    assert!(setup.refusal().contains("users.txt line 2"), "{}", setup.refusal());
}

#[test]
fn a_callback_has_an_address_and_keeps_its_secret_in_a_file() {
    let setup = with(
        "mode = \"callback\"\nurl = \"http://127.0.0.1:8080/may-mine\"\ncheck_token_file = \"api.token\"\n\
         timeout_ms = 500\ncache_seconds = 60\nwhen_down = \"allow\"",
    );
    setup.write_token("api.token");
    let checked = setup.ok();
    let UserCheck::Callback(callback) = &checked.user_check else { panic!("no callback") };
    assert_eq!(callback.url, "http://127.0.0.1:8080/may-mine");
    assert!(callback.allow_when_down && callback.token_file.is_some());
    assert_eq!((callback.timeout.as_millis(), callback.cache.as_secs()), (500, 60));
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    assert!(!checked.to_redacted_toml().contains("0123456789abcdef"));
}

#[test]
fn addresses_with_secrets_in_them_are_refused_without_being_quoted() {
    assert!(with("mode = \"callback\"").refusal().contains("user_check.url"));
    for url in [
        "http://jds:hunter2-Zq9@127.0.0.1/",
        "http://127.0.0.1/?token=hunter2-Zq9",
        "ftp://hunter2-Zq9/",
        "http:///hunter2-Zq9",
        "hunter2-Zq9",
    ] {
        let error = with(&format!("mode = \"callback\"\nurl = \"{url}\"")).refusal();
        assert!(error.contains("user_check.url") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let checked = with("users = [\"alice\"]").ok();
    assert!(checked.warnings[0].contains("user_check.users"), "{:?}", checked.warnings);
    let setup =
        with("mode = \"callback\"\nurl = \"http://pool.example/\"\ncheck_token_file = \"t\"");
    setup.write_token("t");
    assert!(setup.ok().warnings[0].contains("unencrypted"));
}
