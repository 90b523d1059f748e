//! The `[store]`, `[events]` and `[api]` tables.

mod setup;

use std::fs;
use std::time::Duration;

use config::StoreSettings;

use setup::Setup;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn what_is_kept_has_defaults_and_bounds() {
    let expected = StoreSettings {
        stall_after: Duration::from_secs(2),
        database_bytes_max: 0,
        events_age: 30 * DAY,
        events_bytes: 256_000_000,
        templates_age: 30 * DAY,
        templates_bytes: 64_000_000,
        transactions_age: 2 * DAY,
        transactions_bytes: 512_000_000,
        shares_age: 7 * DAY,
        shares_bytes: 256_000_000,
        accounting_interval: Duration::from_secs(60),
        accounting_age: 90 * DAY,
        accounting_bytes: 128_000_000,
    };
    let checked = Setup::new().ok();
    assert_eq!(checked.store, expected);
    assert_eq!(checked.events.source, "hosted");
    let lines = "[store]\nstall_ms = 100\ndatabase_mb_max = 1000000\nevents_days = 1\n\
                 events_mb = 4\ntemplates_days = 2\ntemplates_mb = 5\ntransactions_days = 6\n\
                 transactions_mb = 3\nshares_days = 3650\nshares_mb = 1000000\n\
                 accounting_interval_seconds = 3600\naccounting_days = 7\naccounting_mb = 8\n";
    let expected = StoreSettings {
        stall_after: Duration::from_millis(100),
        database_bytes_max: 1_000_000_000_000,
        events_age: DAY,
        events_bytes: 4_000_000,
        templates_age: 2 * DAY,
        templates_bytes: 5_000_000,
        transactions_age: 6 * DAY,
        transactions_bytes: 3_000_000,
        shares_age: 3650 * DAY,
        shares_bytes: 1_000_000_000_000,
        accounting_interval: Duration::from_secs(3_600),
        accounting_age: 7 * DAY,
        accounting_bytes: 8_000_000,
    };
    let checked = Setup::new().plus(lines).ok();
    assert_eq!(checked.store, expected);
    for (line, range) in [
        ("stall_ms = 99", "100 to 60000"),
        ("stall_ms = 60001", "100 to 60000"),
        ("database_mb_max = -1", "0 to 1000000"),
        ("events_days = 0", "1 to 3650"),
        ("templates_days = 3651", "1 to 3650"),
        ("events_mb = 0", "1 to 1000000"),
        ("templates_mb = 1000001", "1 to 1000000"),
        ("transactions_days = 0", "1 to 3650"),
        ("transactions_mb = 0", "1 to 1000000"),
        ("shares_mb = 0", "1 to 1000000"),
        ("shares_days = 0", "1 to 3650"),
    ] {
        let (key, _) = line.split_once(' ').unwrap();
        Setup::new()
            .plus(&format!("[store]\n{line}\n"))
            .refused(&[&format!("`store.{key}`"), range]);
    }
}

#[test]
fn a_fuse_that_blows_before_anything_is_cleared_is_worth_a_warning() {
    let with = |mb: u32| {
        let lines = format!(
            "[store]\nevents_mb = 10\ntemplates_mb = 20\ntransactions_mb = 30\nshares_mb = 40\n\
             accounting_mb = 50\ndatabase_mb_max = {mb}\n"
        );
        Setup::new().plus(&lines).ok().warnings
    };
    let warnings = with(150);
    assert!(
        warnings.iter().any(|w| w.contains("database_mb_max` = 150 ")
            && w.contains("transactions_mb")
            && w.contains(" 150, the sum")),
        "{warnings:?}"
    );
    assert_eq!(with(151), Vec::<String>::new());
    assert_eq!(with(0), Vec::<String>::new());
}

#[test]
fn the_source_of_events_is_short_and_printable() {
    let with = |source: &str| Setup::new().plus(&format!("[events]\nsource = \"{source}\"\n"));
    for source in ["pool-eu 1", "Güterzug", &"x".repeat(64), &"ü".repeat(64)] {
        assert_eq!(with(source).ok().events.source, source);
    }
    with("").refused(&["`events.source`", "empty"]);
    with("  ").refused(&["`events.source`", "empty"]);
    with(&"ü".repeat(65)).refused(&["`events.source`", "65", "1 to 64 printable"]);
    with("a\\nb").refused(&["`events.source`", r#""a\nb""#, "1 to 64 printable"]);
    with("a\\u007f").refused(&["`events.source`", "printable"]);
    let set = Setup::new().load_with(&[("JDS_EVENTS__SOURCE", "by-variable")]).unwrap();
    assert_eq!(set.events.source, "by-variable");
}

#[test]
fn the_api_is_there_when_its_table_is() {
    assert_eq!(Setup::new().ok().api, None);
    assert!(!Setup::new().ok().to_redacted_toml().contains("[api]"));
    let api = Setup::new().plus("[api]\n").ok().api.unwrap();
    assert_eq!(api.listen.to_string(), "127.0.0.1:9332");
    assert_eq!((api.token_file, api.webhook_allow), (None, Vec::new()));
    let by_variable = Setup::new()
        .load_with(&[
            ("JDS_API__LISTEN", "[::1]:9"),
            ("JDS_API__WEBHOOK_ALLOW", "10.0.0.0/8, 192.168.1.7"),
        ])
        .unwrap();
    let api = by_variable.api.unwrap();
    assert_eq!(api.listen.to_string(), "[::1]:9");
    assert_eq!(api.webhook_allow, ["10.0.0.0/8", "192.168.1.7"]);
    Setup::new()
        .plus("[api]\ntoken = \"x\"\n")
        .refused(&["unknown key `api.token`", "`api.token_file`"]);
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let with = |listen: &str| Setup::new().plus(&format!("[api]\nlisten = \"{listen}\"\n"));
    for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "127.0.0.1:0"] {
        assert_eq!(with(listen).ok().api.unwrap().listen.to_string(), listen);
    }
    for listen in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "[::ffff:10.0.0.1]:1"] {
        with(listen).refused(&["`api.listen`", listen, "`api.token_file` (not set)", "127.0.0.1"]);
        let with_token = with(listen).plus("token_file = \"api.token\"\n");
        with_token.write_token("api.token");
        let api = with_token.ok().api.unwrap();
        assert_eq!(api.listen.to_string(), listen);
        assert_eq!(api.token_file, Some(with_token.dir.path().join("api.token")));
    }
    Setup::new().refused_with(
        &[("JDS_API__LISTEN", "0.0.0.0:1")],
        &["`api.listen` (set by JDS_API__LISTEN)", "`api.token_file`"],
    );
    with("localhost:1").refused(&["`api.listen`", "IP:PORT", "127.0.0.1:9332"]);
    with("127.0.0.1:34264").refused(&["`api.listen`", "`job_declaration.listen`", "port"]);
    // Port 0 is a free one each time.
    with("127.0.0.1:0").plus("[job_declaration]\nlisten = \"127.0.0.1:0\"\n").ok();
}

#[test]
fn the_token_file_is_there_and_private() {
    let with = |path: &str| Setup::new().plus(&format!("[api]\ntoken_file = \"{path}\"\n"));
    with("absent").refused(&["`api.token_file`", "cannot read", "absent"]);
    with("~/token").refused(&["`api.token_file`", "`~`"]);
    let setup = with("api.token");
    let path = setup.write_token("api.token");
    setup.ok();
    #[cfg(unix)]
    for (mode, refused) in
        [(0o640, false), (0o660, false), (0o400, false), (0o604, true), (0o644, true)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let mode = format!("mode {mode:03o}");
        if refused {
            setup.refused(&["`api.token_file`", "api.token", "everybody", &mode, "chmod o-r"]);
        } else {
            setup.ok();
        }
    }
    fs::remove_file(&path).unwrap();
    setup.refused(&["`api.token_file`", "cannot read"]);
}

#[test]
fn readers_may_have_a_token_of_their_own_or_none() {
    let public = |lines: &str| {
        let setup = Setup::new().plus("[api]\nlisten = \"0.0.0.0:1\"\n");
        let setup = setup.plus(&format!("token_file = \"api.token\"\n{lines}"));
        setup.write_token("api.token");
        setup
    };
    let api = public("").ok().api.unwrap();
    assert_eq!((api.read_token_file, api.open_reads), (None, false));
    let setup = public("read_token_file = \"read.token\"\n");
    setup.refused(&["`api.read_token_file`", "cannot read", "read.token"]);
    let path = setup.write_token("read.token");
    let checked = setup.ok();
    assert_eq!(checked.api.unwrap().read_token_file, Some(path.clone()));
    assert_eq!(checked.warnings, Vec::<String>::new());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        setup.refused(&["`api.read_token_file`", "everybody", "chmod o-r"]);
    }
    public("read_token_file = \"api.token\"\n")
        .refused(&["`api.read_token_file`", "`api.token_file`, the same file"]);
    let checked = public("open_reads = true\n").ok();
    assert!(checked.api.unwrap().open_reads);
    assert_eq!(checked.warnings, Vec::<String>::new());
    let both = public("open_reads = true\nread_token_file = \"read.token\"\n");
    both.write_token("read.token");
    both.refused(&["`api.read_token_file`", "`api.open_reads` = true"]);
    public("open_reads = \"yes\"\n").refused(&["`api.open_reads`", "true or false"]);
    let by_variable = public("").load_with(&[("JDS_API__OPEN_READS", "true")]).unwrap();
    assert!(by_variable.api.unwrap().open_reads);
    public("").refused_with(&[("JDS_API__OPEN_READS", "1")], &["JDS_API__OPEN_READS"]);
    // A token for readers is none for those who write.
    let only =
        Setup::new().plus("[api]\nlisten = \"0.0.0.0:1\"\nread_token_file = \"read.token\"\n");
    only.write_token("read.token");
    only.refused(&["`api.listen`", "`api.token_file` (not set)"]);
}

#[test]
fn what_has_no_effect_on_that_address_is_worth_a_warning() {
    let warns = |lines: &str, key: &str| {
        let setup = Setup::new().plus(&format!("[api]\n{lines}\n"));
        setup.write_token("api.token");
        let warnings = setup.ok().warnings;
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.contains(key) && warning.contains("no effect"), "{warning}");
    };
    warns("open_reads = true", "`api.open_reads`");
    warns("read_token_file = \"api.token\"", "`api.read_token_file`");
    let public = "listen = \"0.0.0.0:1\"\ntoken_file = \"api.token\"\nhosts = [\"a.example\"]";
    warns(public, "`api.hosts`");
}

#[test]
fn an_api_on_loopback_may_have_more_names() {
    let with = |list: &str| Setup::new().plus(&format!("[api]\nhosts = {list}\n"));
    let checked = with(r#"["JDS.example.org", "[fd00::1]"]"#).ok();
    assert_eq!(checked.warnings, Vec::<String>::new());
    assert_eq!(checked.api.unwrap().hosts, ["jds.example.org", "[fd00::1]"]);
    assert_eq!(with("[]").ok().api.unwrap().hosts, Vec::<String>::new());
    with(r#"["a:80"]"#).refused(&["`api.hosts`", "\"a:80\"", "without scheme, port and path"]);
    with(&format!("[{}]", "\"a\",".repeat(17))).refused(&["`api.hosts`", "17 entries"]);
    let by_variable = Setup::new().load_with(&[("JDS_API__HOSTS", "a.example,b.example")]);
    assert_eq!(by_variable.unwrap().api.unwrap().hosts, ["a.example", "b.example"]);
}

#[test]
fn webhooks_are_let_to_ranges() {
    let with = |list: &str| Setup::new().plus(&format!("[api]\nwebhook_allow = {list}\n"));
    let api = with(r#"["10.8.0.0/16", " FD00::/8", "192.168.1.7"]"#).ok().api.unwrap();
    assert_eq!(api.webhook_allow, ["10.8.0.0/16", "fd00::/8", "192.168.1.7"]);
    assert_eq!(with("[]").ok().api.unwrap().webhook_allow, Vec::<String>::new());
    for (list, part) in [
        (r#""10.0.0.0/8""#, "a list of IP addresses or ranges"),
        ("[10]", "a list of IP addresses or ranges"),
        (r#"["10.0.0.0/8", "hooks.example"]"#, "\"hooks.example\""),
        (r#"["10.1.2.3/8"]"#, "\"10.0.0.0/8\""),
        (&format!("[{}]", "\"10.0.0.1\",".repeat(65)), "65 entries"),
    ] {
        with(list).refused(&["`api.webhook_allow`", part]);
    }
    let warnings = with(r#"["0.0.0.0/0"]"#).ok().warnings;
    assert!(warnings.iter().any(|w| w.contains("every address")), "{warnings:?}");
    Setup::new().refused_with(
        &[("JDS_API__WEBHOOK_ALLOW", "10.0.0.1,")],
        &["(set by JDS_API__WEBHOOK_ALLOW)"],
    );
}

#[test]
fn templates_are_given_out_when_their_table_is_there() {
    assert_eq!(Setup::new().ok().template_distribution, None);
    let with = |lines: &str| Setup::new().plus(&format!("[template_distribution]\n{lines}\n"));
    let defaults = with("").ok();
    let settings = defaults.template_distribution.unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8442");
    assert_eq!((settings.fee_threshold_sat, settings.max_connections), (1_000, 1_000));
    assert_eq!(settings.min_interval.as_millis(), 5_000);
    assert!(defaults.to_redacted_toml().contains("[template_distribution]\n"));
    let by_variable =
        Setup::new().load_with(&[("JDS_TEMPLATE_DISTRIBUTION__MIN_INTERVAL_MS", "100")]).unwrap();
    assert_eq!(by_variable.template_distribution.unwrap().min_interval.as_millis(), 100);
    with("listen = \"localhost:1\"").refused(&["template_distribution.listen", "127.0.0.1:8442"]);
    with("listen = \"127.0.0.1:34264\"").refused(&[
        "`template_distribution.listen`",
        "`job_declaration.listen`",
        "port",
    ]);
    with("listen = \"127.0.0.1:9332\"\n[api]").refused(&[
        "`template_distribution.listen`",
        "`api.listen`",
        "port",
    ]);
    with("fee_threshold_sat = 0").refused(&["fee_threshold_sat", "1 to 100000000"]);
    with("min_interval_ms = 99").refused(&["min_interval_ms", "100 to 600000"]);
}
