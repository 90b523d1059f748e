//! What the documents say of the repository is so: links lead somewhere, files and scripts that are
//! named exist, every page of the book is in its list. And no file tells of the machine that it was
//! written on.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(root().join(file))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The pages of the book, as paths from the top.
fn pages() -> Vec<PathBuf> {
    let folder = Path::new("guides/src");
    let mut pages: Vec<_> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| folder.join(entry.unwrap().file_name()))
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 1, "{pages:?}");
    pages
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    top.into_iter().map(PathBuf::from).chain(pages()).collect()
}

/// The lines of a document, each with whether it is code.
fn lines(text: &str) -> Vec<(bool, &str)> {
    let mut code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else {
            lines.push((code, line));
        }
    }
    assert!(!code, "a block of code without its end");
    lines
}

/// The targets of the links in a document, those in code left out.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<_> = lines(text).into_iter().filter(|(code, _)| !code).collect();
    prose
        .iter()
        // Every second piece is a `span` of code.
        .flat_map(|(_, line)| line.split('`').step_by(2))
        .flat_map(|piece| piece.split("](").skip(1))
        .map(|rest| rest.split([')', ' ']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut count = 0;
    for document in documents() {
        for link in links(&read(&document)) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let file = root().join(&document).parent().unwrap().join(target);
            assert!(file.exists(), "{} links to {link}, which does not exist", document.display());
            count += 1;
        }
    }
    assert!(count > 5, "only {count} links were found: is the reading of them broken?");
}

#[test]
fn the_book_lists_each_of_its_pages_and_so_does_the_readme() {
    let listed = |document: &str, prefix: &str| -> Vec<PathBuf> {
        let links = links(&read(Path::new(document)));
        links.iter().filter_map(|link| link.strip_prefix(prefix)).map(PathBuf::from).collect()
    };
    let (summary, readme) =
        (listed("guides/src/SUMMARY.md", ""), listed("README.md", "guides/src/"));
    for page in pages() {
        let name = PathBuf::from(page.file_name().unwrap());
        if name != Path::new("SUMMARY.md") {
            assert!(summary.contains(&name), "guides/src/SUMMARY.md has no {}", name.display());
            assert!(readme.contains(&name), "README.md has no link to {}", page.display());
        }
    }
}

#[test]
fn scripts_that_are_told_to_run_exist() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let named = text.split(|c: char| c.is_whitespace() || matches!(c, '`' | '(' | ')'));
        for script in named.filter_map(|word| word.strip_prefix("./")) {
            let name = script.trim_end_matches(['.', ',', ';', ':']);
            let file = root().join(name);
            let mode = std::fs::metadata(&file).map(|meta| meta.permissions().mode()).unwrap_or(0);
            assert!(mode & 0o111 != 0, "{}: ./{name} can not be run", document.display());
            count += 1;
        }
    }
    assert!(count > 3, "only {count} scripts were found: is the reading of them broken?");
}

/// Files are named from the top, or from the source of the server.
#[test]
fn files_that_the_map_names_exist() {
    let map = read(Path::new("ARCHITECTURE.md"));
    let prose: Vec<_> = lines(&map).into_iter().filter(|(code, _)| !code).collect();
    let spans = prose.iter().flat_map(|(_, line)| line.split('`').skip(1).step_by(2));
    let files: Vec<_> = spans.filter(|span| span.ends_with(".rs") || span.ends_with('/')).collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let exists = ["", "jds/src"].iter().any(|from| root().join(from).join(file).exists());
        assert!(exists, "ARCHITECTURE.md names {file}, which does not exist");
    }
}

/// The files of the repository: those that git knows, or all where git can not tell.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    if let Some(output) = output.ok().filter(|output| output.status.success()) {
        let text = String::from_utf8(output.stdout).unwrap();
        return text.split_terminator('\0').map(PathBuf::from).collect();
    }
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if path == Path::new("target") || path == Path::new(".git") {
                continue;
            }
            let list = if root().join(&path).is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    files
}

#[test]
fn no_file_tells_of_the_machine_it_was_written_on() {
    // In two parts, so that this file does not have them.
    let words =
        [["/wo", "rk/"], ["/ro", "ot/"], [".cargo/", "registry"], ["help", "er-"], ["iss", "ue #"]]
            .map(|parts| parts.concat());
    let files = files();
    assert!(files.len() > 100, "only {} files: is the list of them broken?", files.len());
    for file in files {
        // A file that was deleted and not committed yet; a block as bytes.
        let Ok(bytes) = std::fs::read(root().join(&file)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (line, text) in text.lines().enumerate() {
            let found = words.iter().find(|word| text.to_lowercase().contains(word.as_str()));
            assert!(found.is_none(), "{}:{}: {text}", file.display(), line + 1);
        }
    }
}
