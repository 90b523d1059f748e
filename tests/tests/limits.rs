//! Every bound has a test that reaches it, or is known to have none: `tests/limits.txt` says which.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = "tests/limits.txt";
/// Crates with a file of bounds.
const CRATES: [&str; 6] = ["jds", "jds/wire", "api", "mining", "tdp-client", "store"];
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Crate and name of all bounds.
fn bounds() -> Vec<(String, String)> {
    let of = |name: &&str| {
        let text = read(&format!("{name}/src/limits.rs"));
        let constant = |line: &str| {
            let rest = line.strip_prefix("pub const ").or(line.strip_prefix("pub(crate) const "))?;
            Some(((*name).to_owned(), rest.split_once(':')?.0.to_owned()))
        };
        text.lines().filter_map(constant).collect::<Vec<_>>()
    };
    CRATES.iter().flat_map(of).collect()
}

fn table() -> BTreeMap<(String, String), String> {
    let text = read(TABLE);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut table = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_else(|| panic!("three words: {line}"));
        let (bound, what) = ((word(), word()), word());
        assert!(table.insert(bound, what).is_none(), "twice: {line}");
    }
    table
}

/// Writes the table anew: what is new is open, what is gone goes.
fn write(bounds: &[(String, String)]) {
    let (text, table) = (read(TABLE), table());
    let mut lines: Vec<_> =
        text.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect();
    for name in CRATES {
        lines.push(String::new());
        for bound in bounds.iter().filter(|(of, _)| of == name) {
            let what = table.get(bound).map_or("open", String::as_str);
            lines.push(format!("{name} {} {what}", bound.1));
        }
    }
    let path = root().join(TABLE);
    fs::write(&path, lines.join("\n") + "\n")
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn every_bound_is_in_the_table_and_every_test_in_it_is_there() {
    let bounds = bounds();
    assert!(bounds.len() > 200, "the bounds were not found: {}", bounds.len());
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        write(&bounds);
    }
    let table = table();
    for bound in &bounds {
        assert!(
            table.contains_key(bound),
            "{} {} is new: write a test that reaches it, and name it in {TABLE} \
             (UPDATE_REFERENCE=1 adds a line that says `open`)",
            bound.0,
            bound.1
        );
    }
    for ((name, bound), what) in table {
        assert!(
            bounds.contains(&(name.clone(), bound.clone())),
            "{name} {bound} is gone: take it out of {TABLE}"
        );
        match what.split_once("::") {
            Some((file, test)) => {
                let found = read(file).contains(&format!("fn {test}("));
                assert!(found, "{name} {bound}: there is no test {test} in {file}");
            }
            None => assert!(["pace", "open"].contains(&&*what), "{name} {bound}: {what}?"),
        }
    }
}
