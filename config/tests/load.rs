//! Behaviour of `load` from the outside: what is accepted, what is refused, and what is said.

mod setup;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bitcoin::{Address, Network};
use config::{ConsensusCheck, LogFormat, LogLevel, Payout, Problem, RpcAuth, Source, keys};

use setup::{ADDRESS, Setup};

#[test]
fn the_least_configuration_gets_all_defaults() {
    let setup = Setup::new();
    let checked = setup.ok();
    assert_eq!(checked.network, Network::Regtest);
    assert_eq!(checked.data_dir, setup.dir.path().join("data"));
    assert_eq!(checked.authority.public_key.to_string(), setup.public_key);
    assert_eq!(checked.authority.cert_validity, Duration::from_secs(3600));
    let script = Address::from_script(
        match &checked.payout {
            Payout::Pool { script, min_share_bp: 10_000 } => script,
            other => panic!("{other:?}"),
        },
        Network::Regtest,
    );
    assert_eq!(script.unwrap().to_string(), ADDRESS);
    let [node] = checked.nodes.as_slice() else { panic!("{:?}", checked.nodes) };
    assert_eq!((node.name.as_str(), node.source), ("main", Source::Rpc));
    assert_eq!(node.rpc_url.as_str(), "http://127.0.0.1:18443");
    assert!(
        matches!(&node.rpc_auth, Some(RpcAuth::CookieFile(path)) if *path == setup.dir.path().join(".cookie"))
    );
    assert_eq!(node.ipc_socket, None);
    let settings = &checked.job_declaration;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:34264");
    assert!(settings.full_template && settings.coinbase_only);
    assert_eq!(settings.consensus_check, ConsensusCheck::AfterAccept);
    assert_eq!(settings.tip_grace, Duration::from_secs(2));
    assert_eq!(settings.tx_cache_bytes, 300_000_000);
    assert_eq!(settings.max_connections, 2000);
    assert_eq!(settings.check_node, None);
    assert_eq!((checked.log.level, checked.log.format), (LogLevel::Info, LogFormat::Text));
    assert_eq!(checked.warnings, Vec::<String>::new());
}

#[test]
fn unknown_keys_name_themselves_and_the_nearest() {
    let cases = [
        (
            "[job_declaration]\ntip_grace = 5\n",
            "job_declaration.tip_grace`",
            "`job_declaration.tip_grace_ms`",
        ),
        ("[job_declarations]\n", "`job_declarations`", "`job_declaration`"),
        ("rpc_urll = \"x\"\n", "`node.0.rpc_urll`", "`node.0.rpc_url`"),
        ("[log]\ntip_grace_ms = 5\n", "`log.tip_grace_ms`", "`job_declaration.tip_grace_ms`"),
        ("[log]\nlevle = \"info\"\n", "`log.levle`", "`log.level`"),
        ("[[nodes]]\nname = \"b\"\n", "`nodes`", "`node`"),
    ];
    for (lines, key, nearest) in cases {
        Setup::new().plus(lines).refused(&[key, nearest]);
    }
    Setup::new().with("network", "netwrok").refused(&["`netwrok`", "`network`"]);
}

#[test]
fn wrong_types_ranges_and_words_say_what_was_expected() {
    let cases: [(&str, &[&str]); 12] = [
        (
            "[job_declaration]\ntip_grace_ms = \"5\"\n",
            &["tip_grace_ms", "a whole number from 0 to 60000", "string"],
        ),
        (
            "[job_declaration]\ntip_grace_ms = -1\n",
            &["tip_grace_ms", "-1", "0 to 60000", "milliseconds"],
        ),
        ("[job_declaration]\ntx_cache_mb = 0\n", &["tx_cache_mb", "1 to 1000000"]),
        ("[job_declaration]\nmodes = []\n", &["modes", "at least one", "full-template"]),
        ("[job_declaration]\nmodes = [1]\n", &["modes", "a list of"]),
        (
            "[job_declaration]\nmodes = [\"full\"]\n",
            &["modes", "\"full\"", "nearest: \"full-template\""],
        ),
        (
            "[job_declaration]\nmodes = [\"coinbase-only\", \"coinbase-only\"]\n",
            &["modes", "twice"],
        ),
        ("[job_declaration]\nlisten = \"localhost:1\"\n", &["listen", "localhost:1", "IP:PORT"]),
        ("[job_declaration]\nconsensus_check = \"after\"\n", &["consensus_check", "after-accept"]),
        ("[log]\nlevel = \"\"\n", &["log.level", "\"info\""]),
        ("log = 3\n", &["node.0.log"]),
        ("[[log]]\n", &["`log`", "one [log] table"]),
    ];
    for (lines, parts) in cases {
        Setup::new().plus(lines).refused(parts);
    }
    Setup::new().with("[[node]]", "[node]").refused(&["`node`", "[[node]]"]);
    Setup::new().with("\"main\"", "\" \"").refused(&["node.0.name", "empty"]);
}

#[test]
fn missing_keys_are_named() {
    Setup::new().with("network = \"regtest\"", "").refused(&["`network` is missing", "mainnet"]);
    Setup::new().with("mode = \"pool\"", "").refused(&["`payout.mode` is missing"]);
    Setup::new().with("name = \"main\"", "").refused(&["`node.0.name` is missing"]);
    Setup::new()
        .with("[[node]]\nname = \"main\"\nrpc_cookie_file = \".cookie\"\n", "")
        .refused(&["`node` is missing", "[[node]]"]);
    Setup::new()
        .with("secret_key_file = \"authority.key\"", "")
        .refused(&["`authority.secret_key_file` is missing", "`authority.secret_key`"]);
    Setup::new()
        .with(&format!("script = \"addr({ADDRESS})\""), "")
        .refused(&["`payout.script` is missing", "pool mode"]);
}

#[test]
fn syntax_errors_give_the_position() {
    Setup::new().with("\"main\"", "\"main").refused(&["line 8, column "]);
    Setup::new().with("mode =", "mode").refused(&["line 5, column "]);
    let setup = Setup::new();
    let error = config::load(&setup.path(), std::iter::empty()).unwrap_err();
    assert!(matches!(*error.problem, Problem::Read(_)), "{error}");
}

#[test]
fn paths_start_at_the_directory_of_the_file() {
    let setup = Setup::new().with("\".cookie\"", "\"/var/bitcoin/.cookie\"");
    let setup = setup.with("[authority]", "data_dir = \"sub/dir\"\n[authority]");
    let checked = setup.ok();
    assert_eq!(checked.data_dir, setup.dir.path().join("sub/dir"));
    assert!(
        matches!(&checked.nodes[0].rpc_auth, Some(RpcAuth::CookieFile(path)) if path == Path::new("/var/bitcoin/.cookie"))
    );
    Setup::new().with("\".cookie\"", "\"~/.cookie\"").refused(&["rpc_cookie_file", "`~`"]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let checked = Setup::new()
        .plus("[job_declaration]\ntip_grace_ms = 1\n")
        .load_with(&[
            ("JDS_DATA_DIR", "/srv/jds"),
            ("JDS_JOB_DECLARATION__TIP_GRACE_MS", "70"),
            ("JDS_JOB_DECLARATION__LISTEN", "[::]:1"),
            ("JDS_JOB_DECLARATION__MODES", "full-template"),
            ("JDS_PAYOUT__MIN_POOL_SHARE_PERCENT", "99.5"),
            ("JDS_NODE__0__RPC_URL", "http://127.0.0.1:5"),
            ("JDS_NODE__1__NAME", "second"),
            ("JDS_NODE__1__RPC_USER", "jds"),
            ("JDS_NODE__1__RPC_PASSWORD", " spaces stay "),
            ("JDS_NODE__1__RPC_URL", "http://127.0.0.1:6"),
            ("PATH", "/bin"),
            (config::NODE_DOWNLOAD_URL_VARIABLE, "http://mirror"),
        ])
        .unwrap();
    assert_eq!(checked.data_dir, Path::new("/srv/jds"));
    assert_eq!(checked.job_declaration.tip_grace, Duration::from_millis(70));
    assert_eq!(checked.job_declaration.listen.to_string(), "[::]:1");
    assert!(!checked.job_declaration.coinbase_only);
    assert!(matches!(checked.payout, Payout::Pool { min_share_bp: 9950, .. }));
    assert_eq!(checked.nodes[0].rpc_url.as_str(), "http://127.0.0.1:5");
    assert_eq!(checked.nodes[1].name, "second");
    match &checked.nodes[1].rpc_auth {
        Some(RpcAuth::UserPass { user, password }) => {
            assert_eq!((user.as_str(), password.expose()), ("jds", " spaces stay "));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_variables_are_errors() {
    let cases: [(&str, &str, &[&str]); 9] = [
        (
            "JDS_JOB_DECLARATION__TIP_GRACE",
            "1",
            &[
                "JDS_JOB_DECLARATION__TIP_GRACE;",
                "nearest known one is JDS_JOB_DECLARATION__TIP_GRACE_MS",
            ],
        ),
        ("JDS_JOB_DECLARATION_LISTEN", "1", &["nearest known one is JDS_JOB_DECLARATION__LISTEN"]),
        ("JDS_NODE__RPC_URL", "x", &["JDS_NODE__RPC_URL", "JDS_NODE__0__RPC_URL"]),
        ("JDS_NODE__01__RPC_URL", "x", &["JDS_NODE__01__RPC_URL", "unknown"]),
        ("JDS_data_dir", "x", &["JDS_data_dir"]),
        (
            "JDS_NODE__7__NAME",
            "x",
            &["JDS_NODE__7__NAME", "there are 1 [[node]] entries", "index 1"],
        ),
        ("JDS_DATA_DIR", "", &["`data_dir` (set by JDS_DATA_DIR)", "an empty variable"]),
        (
            "JDS_JOB_DECLARATION__TIP_GRACE_MS",
            "x",
            &["(set by JDS_JOB_DECLARATION__TIP_GRACE_MS)", "whole number"],
        ),
        ("JDS_PAYOUT__MIN_POOL_SHARE_PERCENT", "NaN", &["min_pool_share_percent", "0.01 to 100"]),
    ];
    for (name, text, parts) in cases {
        Setup::new().refused_with(&[(name, text)], parts);
    }
    // A conflict between file and environment says where the second one came from.
    Setup::new().refused_with(
        &[("JDS_NODE__0__RPC_USER", "jds")],
        &["`node.0.rpc_cookie_file`", "`node.0.rpc_user` (set by JDS_NODE__0__RPC_USER)"],
    );
}

#[test]
fn the_public_key_must_belong_to_the_secret_key() {
    let setup = Setup::new();
    let line = format!("[authority]\npublic_key = \"{}\"", setup.public_key);
    setup.with("[authority]", &line).ok();

    let (_, other) = keys::generate().unwrap();
    let setup = Setup::new();
    let own = setup.public_key.clone();
    let line = format!("[authority]\npublic_key = \"{other}\"");
    setup.with("[authority]", &line).refused(&[
        &other.to_string(),
        &own,
        "authority.public_key",
        "authority.secret_key_file",
    ]);
    Setup::new()
        .with("[authority]", "[authority]\npublic_key = \"9auq\"")
        .refused(&["authority.public_key", "base58check"]);
    Setup::new().with("[authority]", "[authority]\nsecret_key = \"x\"").refused(&[
        "`authority.secret_key`",
        "`authority.secret_key_file`",
        "both",
    ]);
}

#[cfg(unix)]
#[test]
fn files_with_secrets_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o640, 0o604, 0o644] {
        let setup = Setup::new();
        set_mode(&setup.dir.path().join("authority.key"), mode);
        setup.refused(&["authority.secret_key_file", "authority.key", "chmod 600"]);
    }
    // A password in a configuration that others can read is worth a warning.
    let setup = Setup::new()
        .with("rpc_cookie_file = \".cookie\"", "rpc_user = \"a\"\nrpc_password = \"b\"");
    fs::write(setup.path(), &setup.text).unwrap();
    set_mode(&setup.path(), 0o644);
    let warnings = setup.ok().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("node.0.rpc_password") && w.contains("chmod 600")),
        "{warnings:?}"
    );
    set_mode(&setup.path(), 0o600);
    assert_eq!(setup.ok().warnings, Vec::<String>::new());
}

#[test]
fn the_redacted_settings_are_a_configuration_but_for_the_secrets() {
    let (secret, _) = keys::generate().unwrap();
    let text = Setup::new()
        .with("secret_key_file = \"authority.key\"", &format!("secret_key = \"{}\"", *secret.expose_text()))
        .with("[[node]]", "min_pool_share_percent = 99.5\n[[node]]")
        .plus("source = \"ipc\"\nipc_socket = \"s\"\n[[node]]\nname = \"b\"\nrpc_user = \"u\"\nrpc_password = \"pw-7\"\n")
        .plus("[job_declaration]\nmodes = [\"coinbase-only\"]\ncheck_node = \"b\"\nlisten = \"[::1]:5\"\n")
        .plus("[store]\nstall_ms = 101\ndatabase_mb_max = 9000\nevents_days = 3\ntemplates_days = 4\n")
        .plus("events_mb = 11\ntemplates_mb = 12\ntransactions_days = 13\nshares_mb = 14\n")
        .plus("transactions_mb = 5\nshares_days = 6\n[events]\nsource = \"a \\\" b\"\n")
        .plus("[api]\nlisten = \"127.0.0.1:6\"\nwebhook_allow = [\"10.0.0.0/8\", \"::1\"]\n")
        .plus("open_reads = true\nhosts = [\"a.example\"]\n");
    let printed = text.ok().to_redacted_toml();
    assert!(
        !printed.contains("pw-7") && !printed.contains(secret.expose_text().as_str()),
        "{printed}"
    );
    assert_eq!(printed.matches("\"[redacted]\"").count(), 2, "{printed}");
    let filled = printed.replacen("[redacted]", &secret.expose_text(), 1).replacen(
        "[redacted]",
        "another",
        1,
    );
    let again = config::parse(&filled, Path::new("/elsewhere/jds.toml"), std::iter::empty());
    assert_eq!(again.unwrap_or_else(|e| panic!("{e}\n{filled}")).to_redacted_toml(), printed);
    for line in
        ["stall_ms = 101", "database_mb_max = 9000", "events_days = 3", "templates_days = 4"]
            .into_iter()
            .chain(["transactions_mb = 5", "shares_days = 6", "[api]", "listen = \"127.0.0.1:6\""])
            .chain(["events_mb = 11", "templates_mb = 12", "transactions_days = 13"])
            .chain(["shares_mb = 14", "open_reads = true", "hosts = [\"a.example\"]"])
            .chain(["webhook_allow = [\"10.0.0.0/8\", \"::1\"]"])
    {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }

    let solo =
        Setup::new().with("\"pool\"", "\"solo\"").with("[[node]]", "fee_percent = 2\n[[node]]");
    let printed = solo.ok().to_redacted_toml();
    assert!(printed.contains("fee_percent = 2\n") && printed.contains(ADDRESS), "{printed}");
}
