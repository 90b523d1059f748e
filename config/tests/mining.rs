//! `[mining]`: where miners connect, and what they are asked for.

mod setup;

use setup::Setup;

fn with(lines: &str) -> Setup {
    Setup::new().plus(&format!("[mining]\n{lines}\n"))
}

#[test]
fn both_protocols_are_served_when_the_table_is_there() {
    assert_eq!(Setup::new().ok().mining, None);
    let checked = with("").ok();
    let mining = checked.mining.clone().unwrap();
    assert_eq!(mining.listen.unwrap().to_string(), "0.0.0.0:3334");
    assert_eq!(mining.sv1_listen.unwrap().to_string(), "0.0.0.0:3333");
    assert_eq!((mining.shares_per_minute, mining.share_batch_size), (6.0, 10));
    assert_eq!((mining.min_hashrate, mining.sv1_start_hashrate), (1e12, 1e12));
    assert_eq!(mining.min_interval.as_secs(), 30);
    assert_eq!(mining.pool_tag, "jds");
    let by_variable = Setup::new().load_with(&[("JDS_MINING__SV1_LISTEN", "127.0.0.1:1")]).unwrap();
    assert_eq!(by_variable.mining.unwrap().sv1_listen.unwrap().to_string(), "127.0.0.1:1");
}

#[test]
fn what_is_printed_is_what_is_in_force() {
    let printed =
        with("listen = \"off\"\nmin_hashrate_ths = 0.000001\nshares_per_minute = 30").ok();
    let toml: toml::Table = printed.to_redacted_toml().parse().unwrap();
    let mining = toml["mining"].as_table().unwrap();
    assert_eq!(mining["listen"].as_str(), Some("off"));
    assert_eq!(mining["sv1_listen"].as_str(), Some("0.0.0.0:3333"));
    assert_eq!(mining["min_hashrate_ths"].as_float(), Some(0.000_001));
    assert_eq!(mining["shares_per_minute"].as_float(), Some(30.0));
}

#[test]
fn one_of_the_two_ports_may_be_off_and_not_both() {
    let mining = with("listen = \"off\"").ok().mining.unwrap();
    assert!(mining.listen.is_none() && mining.sv1_listen.is_some());
    let mining = with("sv1_listen = \"off\"").ok().mining.unwrap();
    assert!(mining.listen.is_some() && mining.sv1_listen.is_none());
    with("listen = \"off\"\nsv1_listen = \"off\"").refused(&[
        "`mining.listen`",
        "`mining.sv1_listen`",
        "nothing to listen on",
    ]);
}

#[test]
fn no_port_is_another_endpoints() {
    let same = "listen = \"127.0.0.1:34264\"";
    with(same).refused(&["`mining.listen`", "`job_declaration.listen`", "port"]);
    let same = "sv1_listen = \"127.0.0.1:34264\"";
    with(same).refused(&["`mining.sv1_listen`", "`job_declaration.listen`", "port"]);
    let same = "listen = \"0.0.0.0:3333\"";
    with(same).refused(&["`mining.listen`", "`mining.sv1_listen`", "port"]);
    with("listen = \"127.0.0.1:9332\"\n[api]").refused(&["`mining.listen`", "`api.listen`"]);
    with("sv1_listen = \"127.0.0.1:8442\"\n[template_distribution]")
        .refused(&["`mining.sv1_listen`", "`template_distribution.listen`"]);
    with("listen = \"127.0.0.1:0\"\nsv1_listen = \"127.0.0.1:0\"").ok();
}

#[test]
fn what_can_not_be_is_refused_by_name() {
    with("listen = \"3334\"").refused(&["`mining.listen`", "127.0.0.1:3334"]);
    with("sv1_listen = \"here\"").refused(&["`mining.sv1_listen`", "127.0.0.1:3333"]);
    with("pool_tag = \"seventeen letters\"").refused(&["`mining.pool_tag`", "0 to 16"]);
    with("pool_tag = \"a/b\"").refused(&["`mining.pool_tag`", "without '/'"]);
    with("pool_tag = \"Müller\"").refused(&["`mining.pool_tag`", "ASCII"]);
    with("shares_per_minute = 0").refused(&["mining.shares_per_minute", "0.1 to 600"]);
    with("share_batch_size = 0").refused(&["mining.share_batch_size", "1 to 1000"]);
    with("min_hashrate_ths = 0").refused(&["mining.min_hashrate_ths"]);
    with("max_channels_per_connection = 0").refused(&["max_channels_per_connection"]);
    with("hashrate = 1").refused(&["`mining.hashrate`", "nearest"]);
}

/// Readers copy what the guide shows.
#[test]
fn the_configurations_of_the_guide_are_accepted() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/src/mining.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```toml\n").skip(1);
    // Those of other programs are theirs to read.
    let ours = blocks
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .filter(|block| !block.contains("[[upstreams]]"));
    let mut count = 0;
    for block in ours {
        let setup = match block.split_once("[mining]") {
            Some((payout, _)) if payout.contains("[payout]") => {
                let pool = "mode = \"pool\"\nscript = \"addr(";
                let pool = format!("[payout]\n{pool}{})\"\n", setup::ADDRESS);
                Setup::new().with(&pool, "")
            }
            _ => Setup::new(),
        };
        assert!(setup.plus(block).ok().mining.is_some(), "{block}");
        count += 1;
    }
    assert_eq!(count, 3, "examples in the guide");
}
