//! Every bound has a test that reaches it, or is known to have none: `tests/limits.txt` says which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = "tests/limits.txt";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crates of the workspace.
fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let list = manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.unwrap_or_else(|| panic!("no members in Cargo.toml"));
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All files of bounds below the sources of the crates, however deep, each with its name in the table:
/// that of the crate, and of the folder in its sources if there is one (`api`, `api/pool`).
fn files() -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for member in members() {
        let mut folders = vec![(member.clone(), root().join(&member).join("src"))];
        while let Some((name, folder)) = folders.pop() {
            let failed = |error| format!("{}: {error}", folder.display());
            let entries =
                fs::read_dir(&folder).map_err(failed).unwrap_or_else(|why| panic!("{why}"));
            for entry in entries {
                let entry = entry.map_err(failed).unwrap_or_else(|why| panic!("{why}"));
                let (path, file) = (entry.path(), entry.file_name());
                if path.is_dir() {
                    folders.push((format!("{name}/{}", file.to_string_lossy()), path));
                } else if file == "limits.rs" {
                    files.push((name.clone(), path));
                }
            }
        }
    }
    files.sort();
    files
}

/// The name of the constant that a line defines outside of everything.
fn constant(line: &str) -> Option<String> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    Some(line.strip_prefix("const ")?.split_once(':')?.0.to_owned())
}

/// Where it is and name of all bounds.
fn bounds() -> Vec<(String, String)> {
    let of = |(name, path): (String, PathBuf)| {
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let constants: Vec<_> = text.lines().filter_map(constant).collect();
        constants.into_iter().map(move |constant| (name.clone(), constant))
    };
    files().into_iter().flat_map(of).collect()
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

/// Writes the table anew: what is new is open, what is gone goes, and the order of the files stays.
fn write(bounds: &[(String, String)]) {
    let (text, table) = (read(TABLE), table());
    let mut lines: Vec<_> =
        text.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect();
    let mut names: Vec<&str> = Vec::new();
    let known = text.lines().filter(|line| !line.starts_with('#'));
    let known = known.filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    for name in known.chain(bounds.iter().map(|(name, _)| name.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
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
fn constants_are_seen_whoever_may_use_them() {
    for line in ["const A: u8 = 1;", "pub const A: u8 = 1;", "pub(crate) const A: u8 = 1;"] {
        assert_eq!(constant(line).as_deref(), Some("A"), "{line}");
    }
    for line in ["    const A: u8 = 1;", "pub fn a() {}", "// const A: u8", "pub(crate) fn a() {}"]
    {
        assert_eq!(constant(line), None, "{line}");
    }
}

#[test]
fn every_bound_is_in_the_table_and_every_test_in_it_is_there() {
    let bounds = bounds();
    assert!(bounds.len() > 200, "the bounds were not found: {}", bounds.len());
    let names: BTreeSet<&str> = bounds.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.is_superset(&["jds", "jds/wire", "api/pool"].into()), "{names:?}");
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
