//! The binaries out of a release archive, and nothing else of it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::DownloadError;

/// What is taken: folder and name, as the last two parts of a path in the archive.
const WANTED: [(&str, &str); 4] = [
    ("libexec", "bitcoin-node"),
    ("bin", "bitcoin-node"),
    ("bin", "bitcoind"),
    ("bin", "bitcoin-cli"),
];
/// Files that a release archive has at most.
const ENTRIES_MAX: usize = 10_000;
/// What an archive may unpack to in all, bytes.
const UNPACKED_BYTES_MAX: u64 = 1_000_000_000;

/// Unpacks the wanted files of `archive` into `folder`, which is empty; returns their names.
///
/// Nothing is written under a name from the archive, and an archive with a path that leads out
/// of its folder is refused as a whole.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<Vec<&'static str>, DownloadError> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken = |reason: String| DownloadError::Archive { archive: name.clone(), reason };
    let read = |error: std::io::Error| broken(format!("does not unpack: {error}"));

    let file = File::open(archive).map_err(read)?;
    let mut tar = Archive::new(GzDecoder::new(file).take(UNPACKED_BYTES_MAX));
    let mut taken = Vec::new();
    for (index, entry) in tar.entries().map_err(read)?.enumerate() {
        let mut entry = entry.map_err(read)?;
        if index >= ENTRIES_MAX {
            return Err(broken(format!("has more than {ENTRIES_MAX} entries")));
        }
        let path = entry.path().map_err(read)?.into_owned();
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(broken(format!("has the path {}, which leads out of it", path.display())));
        }
        let Some(wanted) = wanted(&path) else { continue };
        if entry.header().entry_type() != EntryType::Regular {
            return Err(broken(format!("{} is no regular file", path.display())));
        }
        let target = folder.join(wanted);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o755).open(&target).map_err(
                |error| broken(format!("{} to {}: {error}", path.display(), target.display())),
            )?;
        let size = entry.size();
        let copied = std::io::copy(&mut entry, &mut file).map_err(read)?;
        if copied != size {
            return Err(broken(format!("{} ends after {copied} of {size} bytes", path.display())));
        }
        taken.push(wanted);
    }
    if !taken.iter().any(|name| super::locate::EXE_NAMES.contains(name)) {
        return Err(broken("has neither bitcoin-node nor bitcoind".to_owned()));
    }
    Ok(taken)
}

fn wanted(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?;
    let folder = path.parent()?.file_name()?;
    WANTED.iter().find(|(f, n)| folder == *f && name == *n).map(|(_, name)| *name)
}
