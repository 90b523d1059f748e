//! Every bound has a test that reaches it, or is known to have none: `tests/limits.txt` says which.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates with a file of bounds.
const CRATES: [&str; 6] = ["jds", "jds/wire", "api", "mining", "tdp-client", "store"];
/// Bounds that no test reaches. Lower it when one gets a test; a new bound comes with one.
const OPEN_MAX: usize = 125;

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
    let text = read("tests/limits.txt");
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

#[test]
fn every_bound_is_in_the_table_and_the_table_has_no_other() {
    let (bounds, table) = (bounds(), table());
    assert!(bounds.len() > 200, "the bounds were not found: {}", bounds.len());
    for bound in &bounds {
        assert!(
            table.contains_key(bound),
            "{} {} is new: write a test that reaches it, and name it in tests/limits.txt",
            bound.0,
            bound.1
        );
    }
    for bound in table.keys() {
        assert!(
            bounds.contains(bound),
            "{} {} is gone: take it out of tests/limits.txt",
            bound.0,
            bound.1
        );
    }
}

#[test]
fn the_tests_that_reach_a_bound_are_there() {
    let mut open = 0;
    for ((name, bound), what) in table() {
        match what.split_once("::") {
            Some((file, test)) => {
                let found = read(file).contains(&format!("fn {test}("));
                assert!(found, "{name} {bound}: there is no test {test} in {file}");
            }
            None if what == "pace" => {}
            None => {
                assert_eq!(what, "open", "{name} {bound}");
                open += 1;
            }
        }
    }
    assert!(open <= OPEN_MAX, "{open} bounds without a test, {OPEN_MAX} before");
    assert_eq!(open, OPEN_MAX, "fewer than before: lower OPEN_MAX");
}
