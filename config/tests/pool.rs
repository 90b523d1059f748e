//! `[pool_interface]`: how a pool on this machine comes in.

mod setup;

use setup::Setup;

fn with(lines: &str) -> Setup {
    Setup::new().plus(&format!("[pool_interface]\n{lines}\n"))
}

#[test]
fn it_is_off_until_its_table_is_there() {
    assert_eq!(Setup::new().ok().pool_interface, None);
    assert!(!Setup::new().ok().to_redacted_toml().contains("[pool_interface]"));
    with("").refused(&["`pool_interface.listen`", "`pool_interface.socket`", "no way in"]);
}

#[test]
fn it_listens_on_a_socket_on_this_machine_or_on_both() {
    let setup = with("socket = \"run/pool.sock\"");
    let pool = setup.ok().pool_interface.unwrap();
    assert_eq!(pool.socket, Some(setup.dir.path().join("run/pool.sock")));
    assert_eq!(pool.tcp, None, "and a socket needs no token");
    let both = "socket = \"pool.sock\"\nlisten = \"[::1]:9333\"\ntoken_file = \"pool.token\"";
    let setup = with(both);
    let token = setup.write_token("pool.token");
    let checked = setup.ok();
    let pool = checked.pool_interface.clone().unwrap();
    assert_eq!(pool.tcp, Some(("[::1]:9333".parse().unwrap(), token)));
    let again: toml::Table = checked.to_redacted_toml().parse().unwrap();
    let table = again["pool_interface"].as_table().unwrap();
    assert_eq!(table["listen"].as_str(), Some("[::1]:9333"));
    assert!(table["socket"].as_str().unwrap().ends_with("pool.sock"));
    assert!(table["token_file"].as_str().unwrap().ends_with("pool.token"));
}

#[test]
fn it_serves_this_machine_alone_and_asks_for_a_token() {
    for address in ["0.0.0.0:9333", "192.0.2.1:9333", "[::]:9333", "[::ffff:192.0.2.1]:9333"] {
        let setup = with(&format!("listen = \"{address}\"\ntoken_file = \"pool.token\""));
        setup.write_token("pool.token");
        setup.refused(&["`pool_interface.listen`", address, "this machine alone"]);
    }
    with("listen = \"127.0.0.1:9333\"").refused(&["`pool_interface.token_file`", "(not set)"]);
    let setup = with("listen = \"127.0.0.1:9333\"\ntoken_file = \"absent\"");
    setup.refused(&["`pool_interface.token_file`", "absent"]);
    with("listen = \"9333\"").refused(&["`pool_interface.listen`", "127.0.0.1:9333"]);
}

#[test]
fn it_shares_neither_address_nor_token_with_another_endpoint() {
    for (address, other) in [
        ("127.0.0.1:34264", "`job_declaration.listen`"),
        ("127.0.0.1:9332", "`api.listen`"),
        ("127.0.0.1:3333", "`mining.sv1_listen`"),
    ] {
        let setup = with(&format!("listen = \"{address}\"\ntoken_file = \"pool.token\""));
        setup.write_token("pool.token");
        let others = "[api]\n[mining]\nsv1_listen = \"127.0.0.1:3333\"\n";
        setup.plus(others).refused(&["`pool_interface.listen`", other, "port"]);
    }
    let setup = with("socket = \"pool.sock\"\ntoken_file = \"api.token\"");
    setup.write_token("api.token");
    setup
        .plus("[api]\ntoken_file = \"api.token\"\n")
        .refused(&["`pool_interface.token_file`", "the same file"]);
}

#[test]
fn a_path_that_no_system_takes_is_refused_with_its_length() {
    let long = "x".repeat(104);
    with(&format!("socket = \"/{long}\"")).refused(&[
        "`pool_interface.socket`",
        "105 bytes",
        "103",
    ]);
}
