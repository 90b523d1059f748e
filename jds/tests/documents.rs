//! The commands and configurations in the documents are those of the real binary: each command
//! exists with the options that are shown, and each configuration is accepted.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stands for the reader's own address in a configuration.
const PLACEHOLDER: &str = "addr(bc1q…)";
const ADDRESS: &str = "addr(bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4)";

/// A block of code of a document.
struct Block {
    document: PathBuf,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let pages = std::fs::read_dir(root.join("guides/src")).unwrap();
    let mut documents: Vec<_> = pages.map(|entry| entry.unwrap().path()).collect();
    documents.extend(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    documents.sort();
    let mut blocks = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let mut open: Option<Block> = None;
        for line in text.lines() {
            let (fence, document) = (line.trim_start().strip_prefix("```"), document.clone());
            match (fence, &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    let language = language.to_owned();
                    open = Some(Block { document, language, text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => {}
            }
        }
    }
    blocks
}

fn jds(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jds"));
    command.args(args);
    command
}

#[test]
fn commands_and_their_options_exist() {
    let mut seen = BTreeSet::new();
    for block in blocks().iter().filter(|block| block.language == "sh") {
        for line in block.text.lines().map(str::trim) {
            let words = line.split('#').next().unwrap().split_whitespace();
            let mut words = words.take_while(|word| !matches!(*word, ">" | "|" | "&&")).peekable();
            // The demo's script hands its options on.
            let mut command = match words.next() {
                Some("jds") => vec![],
                Some("./demo.sh") => vec!["demo"],
                _ => continue,
            };
            while let Some(word) = words.next_if(|word| !word.starts_with('-')) {
                command.push(word);
            }
            command.push("--help");
            let output = jds(&command).output().unwrap();
            let place = format!("{}: {line}", block.document.display());
            assert!(output.status.success(), "{place}: there is no such command");
            let help = String::from_utf8(output.stdout).unwrap();
            let known: BTreeSet<_> = help.split([' ', ',', '\n', '=']).collect();
            for option in words.filter(|word| word.starts_with('-')) {
                assert!(known.contains(option), "{place}: {option} is not among\n{help}");
            }
            seen.insert(command.join(" "));
        }
    }
    for command in ["keygen", "run", "check-config", "config-reference", "demo"] {
        let found = seen.contains(&format!("{command} --help"));
        assert!(found, "no document shows `{command}`: {seen:?}");
    }
}

#[test]
fn complete_configurations_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("authority.key"), folder.path().join("jds.toml"));
    assert!(jds(&["keygen", "--out"]).arg(&key).output().unwrap().status.success());
    let blocks = blocks();
    let complete: Vec<_> = blocks
        .iter()
        .filter(|block| block.language == "toml" && block.text.starts_with("network"))
        .collect();
    assert!(complete.len() >= 2, "{} complete configurations were found", complete.len());
    for block in complete {
        std::fs::write(&file, block.text.replace(PLACEHOLDER, ADDRESS)).unwrap();
        let output = jds(&["check-config", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}\n{}", block.document.display(), block.text);
    }
}
