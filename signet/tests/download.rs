//! The release download against a file server on loopback: what arrives whole and as listed is
//! installed, all else leaves the cache empty and says what is wrong.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use flate2::{Compression, write::GzEncoder};
use signet::provision::{self, DownloadError, Lines, RELEASE, Silent};

const NODE: &str = "#!/bin/sh\necho 'Bitcoin Core daemon version v31.0.0 bitcoin-node'\n";

/// What the server has, by name; `lie` is added to the length that it announces.
struct Files {
    files: HashMap<String, Vec<u8>>,
    lie: usize,
}

/// Serves until the test process ends. Returns the URL of the folder.
fn serve(files: Files) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/release/", listener.local_addr().unwrap());
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, files) = (stream.unwrap(), files.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let path = request.split(' ').nth(1).unwrap();
                let name = path.strip_prefix("/release/").unwrap_or_default();
                let (status, body) = match files.files.get(name) {
                    Some(body) => ("200 OK", body.as_slice()),
                    None => ("404 Not Found", b"".as_slice()),
                };
                let lie = if name.ends_with(".gz") { files.lie } else { 0 };
                let length = body.len() + lie;
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(body);
            });
        }
    });
    url
}

fn archive_name() -> String {
    format!("bitcoin-{RELEASE}-{}.tar.gz", provision::host_triple().unwrap())
}

/// An archive of these paths.
fn pack(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in entries {
        let mut header = tar::Header::new_gnu();
        // Past the checks of `set_path`, which refuses what a hostile archive has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn release_archive() -> Vec<u8> {
    pack(&[
        ("bitcoin-31.0/README.md", "read me"),
        ("bitcoin-31.0/bin/bitcoind", NODE),
        ("bitcoin-31.0/bin/bitcoin-cli", "cli"),
        ("bitcoin-31.0/libexec/bitcoin-node", NODE),
    ])
}

fn sums_of(archive: &[u8]) -> Vec<u8> {
    format!("{}  {}\n", sha256::Hash::hash(archive), archive_name()).into_bytes()
}

fn release(archive: Vec<u8>, sums: Vec<u8>) -> Files {
    let files = HashMap::from([(archive_name(), archive), ("SHA256SUMS".to_owned(), sums)]);
    Files { files, lie: 0 }
}

/// Downloads, expects a failure and an empty cache.
fn fails(files: Files) -> DownloadError {
    let cache = tempfile::tempdir().unwrap();
    let error = provision::download(&serve(files), cache.path(), None, &mut Silent).unwrap_err();
    assert_empty(cache.path());
    error
}

fn assert_empty(cache: &Path) {
    let left: Vec<_> = std::fs::read_dir(cache).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_good_release_is_installed() {
    let cache = tempfile::tempdir().unwrap();
    let archive = release_archive();
    let sums = sums_of(&archive);
    let mut said = Lines(Vec::new());
    let url = serve(release(archive, sums));
    let exe = provision::download(&url, cache.path(), None, &mut said).unwrap();
    assert_eq!(exe, cache.path().join(RELEASE).join("bitcoin-node"));
    let version = Command::new(&exe).output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().contains("v31.0.0"));
    let mut names: Vec<_> = std::fs::read_dir(exe.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["bitcoin-cli", "bitcoin-node", "bitcoind"], "and nothing else");
    let said = String::from_utf8(said.0).unwrap();
    assert!(said.contains("signatures NOT verified: the server has no SHA256SUMS.asc"), "{said}");
    assert!(said.contains("is what SHA256SUMS lists"), "{said}");
}

#[test]
fn a_wrong_checksum_names_both() {
    let listed = sums_of(b"something else");
    let error = fails(release(release_archive(), listed));
    let text = error.to_string();
    assert!(matches!(error, DownloadError::WrongChecksum { .. }), "{text}");
    assert!(text.contains(&sha256::Hash::hash(b"something else").to_string()), "{text}");
    assert!(text.contains(&sha256::Hash::hash(&release_archive()).to_string()), "{text}");
}

#[test]
fn a_transfer_cut_short_is_noticed() {
    let archive = release_archive();
    let sums = sums_of(&archive);
    let mut files = release(archive, sums);
    files.lie = 10;
    let error = fails(files);
    assert!(matches!(error, DownloadError::Http { .. }), "{error}");
}

#[test]
fn a_truncated_archive_with_a_fitting_checksum_is_noticed() {
    let mut archive = release_archive();
    archive.truncate(archive.len() / 2);
    let sums = sums_of(&archive);
    let error = fails(release(archive, sums));
    assert!(matches!(error, DownloadError::Archive { .. }), "{error}");
}

#[test]
fn an_archive_that_is_not_listed_is_not_fetched() {
    let sums = format!("{}  bitcoin-other.tar.gz\n", "ab".repeat(32)).into_bytes();
    let error = fails(release(release_archive(), sums));
    assert!(matches!(error, DownloadError::NotListed { .. }), "{error}");
    assert!(error.to_string().contains(&archive_name()), "{error}");
}

#[test]
fn missing_files_are_named_by_url() {
    let error = fails(Files { files: HashMap::new(), lie: 0 }).to_string();
    assert!(error.contains("/release/SHA256SUMS: not found (404)"), "{error}");
    assert!(error.contains("JDS_NODE_DOWNLOAD_URL"), "{error}");

    let mut files = release(Vec::new(), sums_of(b""));
    files.files.remove(&archive_name());
    let error = fails(files).to_string();
    assert!(error.contains(&format!("{}: not found (404)", archive_name())), "{error}");
}

#[test]
fn a_server_that_is_down_is_named() {
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let cache = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let error = provision::download(&url, cache.path(), None, &mut Silent).unwrap_err();
    assert!(error.to_string().contains(&format!("{url}/SHA256SUMS")), "{error}");
    assert!(!error.is_fatal());
    assert_empty(cache.path());
}

#[test]
fn an_oversized_list_is_refused() {
    let error = fails(release(release_archive(), vec![b'x'; 1_000_001]));
    assert!(matches!(error, DownloadError::TooLarge { limit_bytes: 1_000_000, .. }), "{error}");
}

#[test]
fn hostile_archives_are_refused() {
    for (path, expected) in [
        ("bitcoin-31.0/../../bin/bitcoind", "leads out of it"),
        ("/bin/bitcoind", "leads out of it"),
        ("bitcoin-31.0/share/notes.txt", "has neither bitcoin-node nor bitcoind"),
    ] {
        let archive = pack(&[("bitcoin-31.0/README.md", "x"), (path, NODE)]);
        let sums = sums_of(&archive);
        let error = fails(release(archive, sums)).to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
    let twice = [("a/bin/bitcoind", NODE), ("b/bin/bitcoind", "other")];
    let archive = pack(&twice);
    let sums = sums_of(&archive);
    let error = fails(release(archive, sums));
    assert!(matches!(error, DownloadError::Archive { .. }), "{error}");
}

#[test]
fn good_signatures_are_named_and_bad_ones_end_it() {
    let home = tempfile::tempdir().unwrap();
    let gpg = |args: &[&str]| {
        Command::new("gpg")
            .env("GNUPGHOME", home.path())
            .args([
                "--batch",
                "--quiet",
                "--yes",
                "--passphrase",
                "",
                "--pinentry-mode",
                "loopback",
            ])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    let archive = release_archive();
    let sums = sums_of(&archive);
    let cache = tempfile::tempdir().unwrap();
    let mut said = Lines(Vec::new());
    if gpg(&["--version"]).is_err() {
        // Then the user must be told that nothing was verified.
        let mut files = release(archive, sums);
        files.files.insert("SHA256SUMS.asc".to_owned(), b"a signature".to_vec());
        provision::download(&serve(files), cache.path(), None, &mut said).unwrap();
        let said = String::from_utf8(said.0).unwrap();
        assert!(said.contains("NOT verified: gpg is not installed"), "{said}");
        return;
    }
    gpg(&["--quick-generate-key", "Builder <b@example.org>", "ed25519", "sign", "1y"]).unwrap();
    let path = home.path().join("SUMS");
    std::fs::write(&path, &sums).unwrap();
    gpg(&["--armor", "--detach-sign", path.to_str().unwrap()]).unwrap();
    let asc = std::fs::read(home.path().join("SUMS.asc")).unwrap();

    let mut files = release(archive.clone(), sums.clone());
    files.files.insert("SHA256SUMS.asc".to_owned(), asc.clone());
    provision::download(&serve(files), cache.path(), Some(home.path()), &mut said).unwrap();
    let said = String::from_utf8(said.0).unwrap();
    assert!(said.contains("signed by Builder <b@example.org>"), "{said}");

    let empty = tempfile::tempdir().unwrap();
    let changed = [sums, b"# changed\n".to_vec()].concat();
    let mut files = release(archive, changed);
    files.files.insert("SHA256SUMS.asc".to_owned(), asc);
    let error = provision::download(&serve(files), empty.path(), Some(home.path()), &mut Silent)
        .unwrap_err();
    assert!(matches!(error, DownloadError::BadSignature { .. }), "{error}");
    assert!(error.is_fatal());
    assert_empty(empty.path());
    let _ = Command::new("gpgconf")
        .env("GNUPGHOME", home.path())
        .args(["--kill", "gpg-agent"])
        .status();
}
