//! Payout modes, percentages and output descriptors.

mod setup;

use bitcoin::Network;
use config::Payout;

use setup::{ADDRESS, POINT, Setup};

const MAINNET_ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const XPUB: &str = "xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL";
const TPUB: &str = "tpubD6NzVbkrYhZ4YqYr3amYH15zjxHvBkUUeadieW8AxTZC7aY2L8aPSk3tpW6yW1QnWzXAB7zoiaNMfwXPPz9S68ZCV4yWvkVXjdeksLskCed";

#[test]
fn payout_modes() {
    let script = format!("script = \"addr({ADDRESS})\"");
    let solo = || Setup::new().with("\"pool\"", "\"solo\"");
    assert_eq!(solo().with(&script, "").ok().payout, Payout::Solo { operator: None });
    let warned = solo().ok();
    assert_eq!(warned.payout, Payout::Solo { operator: None });
    assert!(warned.warnings[0].contains("never paid"), "{:?}", warned.warnings);
    let with_fee = solo().with("[[node]]", "fee_percent = 1.25\n[[node]]").ok();
    assert!(matches!(with_fee.payout, Payout::Solo { operator: Some((_, 125)) }));
    let warned = &with_fee.warnings[..];
    assert!(
        matches!(warned, [one] if one.contains("jd_client_sv2") && one.contains("= 1.25")),
        "{warned:?}"
    );
    solo()
        .with(&script, "fee_percent = 2")
        .refused(&["`payout.script` is missing", "`payout.fee_percent` = 2"]);
    solo()
        .with("[[node]]", "min_pool_share_percent = 90\n[[node]]")
        .refused(&["`payout.mode` = \"solo\"", "`payout.min_pool_share_percent` = 90"]);
    Setup::new()
        .with("[[node]]", "fee_percent = 0\n[[node]]")
        .refused(&["`payout.mode` = \"pool\"", "`payout.fee_percent` = 0"]);
    for (percent, bp) in
        [("0.01", 1), ("1", 100), ("99.99", 9_999), ("100", 10_000), ("33.33", 3_333)]
    {
        let line = format!("min_pool_share_percent = {percent}\n[[node]]");
        match Setup::new().with("[[node]]", &line).ok().payout {
            Payout::Pool { min_share_bp, .. } => assert_eq!(min_share_bp, bp, "{percent}"),
            other => panic!("{other:?}"),
        }
    }
    for percent in ["0", "0.001", "100.01", "-1", "nan", "inf", "50.005", "\"100\""] {
        let line = format!("min_pool_share_percent = {percent}\n[[node]]");
        Setup::new().with("[[node]]", &line).refused(&["payout.min_pool_share_percent"]);
    }
}

#[test]
fn payout_scripts() {
    let ok = |script: &str, network: Network| {
        config::payout_script(script, network)
            .unwrap_or_else(|e| panic!("{script} {e}"))
            .to_hex_string()
    };
    let p2wpkh = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
    assert_eq!(ok(&format!("addr({ADDRESS})"), Network::Regtest), p2wpkh);
    assert_eq!(ok(&format!("addr({MAINNET_ADDRESS})"), Network::Bitcoin), p2wpkh);
    assert_eq!(ok(&format!("raw({p2wpkh})"), Network::Signet), p2wpkh);
    assert_eq!(ok(&format!("wpkh({POINT})"), Network::Testnet4), p2wpkh);
    assert_eq!(ok(&format!("pk({POINT})"), Network::Regtest), format!("21{POINT}ac"));
    // BIP 86 and BIP 380 carry the vectors below.
    assert_eq!(
        ok(
            "tr(xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ/0/0)",
            Network::Bitcoin
        ),
        "5120a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c"
    );
    assert_eq!(ok("raw(deadbeef)#89f8spxm", Network::Regtest), "deadbeef");
    ok(&format!("wpkh([d34db33f/84h/1h/0h]{TPUB}/0/5)"), Network::Regtest);
    ok(&format!("wsh(sortedmulti(1,{TPUB}/0,{TPUB}/1))"), Network::Regtest);

    let refused: [(&str, &[&str]); 16] = [
        (
            &format!("addr({MAINNET_ADDRESS})"),
            &["address", MAINNET_ADDRESS, "of mainnet", "\"regtest\""],
        ),
        (
            "addr(tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx)",
            &["testnet4 or signet", "\"regtest\""],
        ),
        (ADDRESS, &["bare address", &format!("addr({ADDRESS})")]),
        ("addr(bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081)", &["no valid address"]),
        (&format!("wpkh({XPUB}/0)"), &["extended key of mainnet", "\"regtest\""]),
        (&format!("wpkh({TPUB}/0/*)"), &["many scripts"]),
        (&format!("wpkh({TPUB}/<0;1>/0)"), &["many scripts"]),
        (&format!("wpkh({TPUB}/0h)"), &["hardened"]),
        ("raw(deadbeef)#89f8spxn", &["#89f8spxn", "#89f8spxm"]),
        ("raw(6a0461626364)", &["never be spent", "OP_RETURN"]),
        ("raw()", &["empty"]),
        ("raw(0)", &["hex"]),
        (
            "wpkh(tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK/0)",
            &["private key"],
        ),
        ("wpkh(", &["not an output descriptor", "addr(ADDRESS)"]),
        ("", &["not an output descriptor"]),
        (&format!("raw({})", "51".repeat(10_001)), &["10001 bytes"]),
    ];
    for (script, parts) in refused {
        let message =
            config::payout_script(script, Network::Regtest).expect_err(script).to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    let mainnet =
        Setup::new().with("regtest", "mainnet").with(&format!("addr({ADDRESS})"), "raw(51)");
    assert!(mainnet.ok().warnings[0].contains("anyone can spend"));
    Setup::new().with(ADDRESS, MAINNET_ADDRESS).refused(&[
        "`payout.script`",
        "mainnet",
        "`network` is \"regtest\"",
    ]);
}
