//! The `[[template_provider]]` tables, beside nodes and alone.

mod setup;

use setup::Setup;

const NODE: &str = "[[node]]\nname = \"main\"\nrpc_cookie_file = \".cookie\"\n";
const PROVIDER: &str = "[[template_provider]]\nname = \"tp\"\naddress = \"127.0.0.1:8442\"\n";
const COINBASE_ONLY: &str = "[job_declaration]\nmodes = [\"coinbase-only\"]\n";

#[test]
fn a_provider_beside_a_node() {
    let setup = Setup::new();
    let key = setup.public_key.clone();
    let checked = setup.plus(PROVIDER).plus(&format!("public_key = \"{key}\"\n")).ok();
    let [provider] = &checked.template_providers[..] else { panic!("{checked:?}") };
    assert_eq!((provider.name.as_str(), provider.address.as_str()), ("tp", "127.0.0.1:8442"));
    assert_eq!(provider.public_key.as_ref().unwrap().to_string(), key);
    assert_eq!(checked.warnings, Vec::<String>::new());
    let printed = checked.to_redacted_toml();
    for line in ["[[template_provider]]", "address = \"127.0.0.1:8442\"", &key] {
        assert!(printed.contains(line), "{line} is not in:\n{printed}");
    }
    assert!(Setup::new().ok().template_providers.is_empty());
}

#[test]
fn addresses() {
    let with = |address: &str| Setup::new().plus(&PROVIDER.replace("127.0.0.1:8442", address));
    for good in ["localhost:1", "[::1]:65535", "127.0.0.2:8442"] {
        let checked = with(good).ok();
        assert_eq!(checked.template_providers[0].address.as_str(), good);
        assert_eq!(checked.warnings, Vec::<String>::new(), "{good} is on this machine");
    }
    for far in ["10.0.0.1:8442", "tp.example:1", "[2001:db8::1]:8442"] {
        let warnings = with(far).ok().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("public_key") && warnings[0].contains(far), "{warnings:?}");
    }
    for bad in ["", "127.0.0.1", "127.0.0.1:0", ":8442", "::1:8442", "a b:1", "http://a:1", "a:x"] {
        with(bad).refused(&["template_provider.0.address"]);
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let name = "name = \"tp\"\n";
    let cases: [(&str, &str, &[&str]); 5] = [
        (name, "", &["template_provider.0.name", "missing"]),
        (name, "name = \"t p\"\n", &["template_provider.0.name"]),
        ("address = \"127.0.0.1:8442\"\n", "", &["template_provider.0.address", "HOST:PORT"]),
        (name, "name = \"tp\"\npublic_key = \"abc\"\n", &["template_provider.0.public_key"]),
        (name, "name = \"tp\"\nkey = \"abc\"\n", &["template_provider.0.key", "nearest"]),
    ];
    for (from, to, parts) in cases {
        Setup::new().plus(&PROVIDER.replacen(from, to, 1)).refused(parts);
    }
    let same = PROVIDER.replacen("\"tp\"", "\"main\"", 1);
    Setup::new().plus(&same).refused(&["node.0.name", "template_provider.0.name", "unique"]);
    Setup::new().plus(PROVIDER).plus(PROVIDER).refused(&[
        "template_provider.0.name",
        "template_provider.1.name",
        "unique",
    ]);
}

/// A secret key in the place of the public one is not repeated to anybody.
#[test]
fn a_secret_key_by_mistake_is_not_printed() {
    let (secret, _) = config::keys::generate().unwrap();
    let secret = secret.expose_text();
    let setup = Setup::new().plus(PROVIDER).plus(&format!("public_key = \"{}\"\n", &*secret));
    let error = setup.load_with(&[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret.as_str()), "{error}");
}

#[test]
fn providers_alone_serve_no_full_templates() {
    let alone = || Setup::new().with(NODE, PROVIDER);
    alone().refused(&["job_declaration.modes", "full-template", "[[node]]", "coinbase-only"]);
    let checked = alone().plus(COINBASE_ONLY).ok();
    assert!(checked.nodes.is_empty() && checked.template_providers.len() == 1);
    assert_eq!(checked.warnings.len(), 1, "{:?}", checked.warnings);
    assert!(checked.warnings[0].contains("there is no [[node]]"), "{:?}", checked.warnings);
    // Neither of both is nothing to work with.
    Setup::new().with(NODE, "").refused(&["at least one [[node]]", "[[template_provider]]"]);
    // A node that is named for checks has to be one.
    alone()
        .plus(COINBASE_ONLY)
        .plus("check_node = \"tp\"\n")
        .refused(&["job_declaration.check_node", "tp"]);
}

#[test]
fn the_server_does_not_follow_itself() {
    let with = |address: &str, listen: &str| {
        let listen = format!("[template_distribution]\nlisten = \"{listen}\"\n");
        Setup::new().plus(&PROVIDER.replace("127.0.0.1:8442", address)).plus(&listen)
    };
    for (address, listen) in [
        ("127.0.0.1:8442", "127.0.0.1:8442"),
        ("localhost:8442", "127.0.0.1:8442"),
        ("[::1]:8442", "0.0.0.0:8442"),
        ("10.0.0.7:9", "10.0.0.7:9"),
    ] {
        with(address, listen).refused(&["template_distribution.listen", "follow itself"]);
    }
    for (address, listen) in [("127.0.0.1:8443", "127.0.0.1:8442"), ("10.0.0.7:9", "127.0.0.1:9")] {
        with(address, listen).ok();
    }
}

#[test]
fn the_environment_sets_a_provider() {
    let env = [
        ("JDS_TEMPLATE_PROVIDER__0__NAME", "tp"),
        ("JDS_TEMPLATE_PROVIDER__0__ADDRESS", "127.0.0.1:9"),
    ];
    let checked = Setup::new().load_with(&env).unwrap();
    assert_eq!(checked.template_providers[0].address.as_str(), "127.0.0.1:9");
}
