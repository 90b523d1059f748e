//! The printed reference is a configuration, and the page in the book is what is generated.

use std::fs;
use std::path::Path;

use config::keys;

#[test]
fn the_reference_as_printed_is_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, _) = keys::generate().unwrap();
    keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
    let path = dir.path().join("jds.toml");
    fs::write(&path, config::reference()).unwrap();
    let checked = config::load(&path, std::iter::empty()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checked.nodes.len(), 1);
    assert_eq!(checked.api, None, "the reference opens a port");
}

/// All optional lines together contradict each other (two ways to log in, keys of both modes), so
/// each is put in alone: names, types and values have to fit, cross checks may object.
#[test]
fn every_optional_line_of_the_reference_fits() {
    let reference = config::reference();
    let is_optional =
        |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let optional: Vec<&str> = reference.lines().filter(|line| is_optional(line)).collect();
    assert!(optional.len() > 15, "only {} optional lines", optional.len());
    // A line of a table that is a comment itself needs the header above it.
    let mut table = "";
    for line in reference.lines() {
        if line.starts_with('[') || line.starts_with("#[") {
            table = line;
        }
        if !is_optional(line) {
            continue;
        }
        let set = |text: &str, line: &str| {
            let bare = line.trim_start_matches('#');
            text.replacen(&format!("\n{line}\n"), &format!("\n{bare}\n"), 1)
        };
        let mut text = set(&set(&reference, table), line);
        if table == "#[[template_provider]]" {
            for needed in ["#name = \"provider\"", "#address = \"127.0.0.1:8442\""] {
                assert!(reference.contains(needed), "{needed}");
                text = set(&text, needed);
            }
        }
        if let Err(error) = config::parse(&text, Path::new("/x/jds.toml"), std::iter::empty()) {
            let fits = matches!(
                *error.problem,
                config::Problem::Conflict { .. }
                    | config::Problem::KeyFile { .. }
                    | config::Problem::KeyPair { .. }
            );
            assert!(fits, "{line}: {error}");
        }
    }
    let all: String = reference
        .lines()
        .map(|line| if is_optional(line) { line.trim_start_matches('#') } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    all.parse::<toml::Table>().unwrap_or_else(|e| panic!("{e}"));
    let error = config::parse(&all, Path::new("/x/jds.toml"), std::iter::empty()).unwrap_err();
    assert!(matches!(*error.problem, config::Problem::Conflict { .. }), "{error}");
}

#[test]
fn the_reference_in_the_book_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/src/config-reference.md");
    let generated = config::reference_markdown();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&page, &generated).unwrap();
    }
    let committed = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is out of date; run: UPDATE_REFERENCE=1 cargo test -p jds-config reference",
        page.display()
    );
}

/// Readers copy what the guide shows.
#[test]
fn the_first_configuration_of_the_guide_is_accepted() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/src/configuration.md");
    let guide = fs::read_to_string(&guide).unwrap();
    let blocks: Vec<&str> = guide
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(!blocks.is_empty(), "the guide shows no configuration");
    let dir = tempfile::tempdir().unwrap();
    let (secret, _) = keys::generate().unwrap();
    keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
    for block in blocks {
        config::parse(block, &dir.path().join("jds.toml"), std::iter::empty())
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}
