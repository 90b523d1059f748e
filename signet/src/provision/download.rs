//! A release: checksums, signatures, archive, and into the cache in one step.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::http::Folder;
use super::locate::EXE_NAMES;
use super::progress::Progress;
use super::release::{RELEASE, SUMS, SUMS_SIGNATURES, archive_name, host_triple, listed_checksum};
use super::signature::{self, Signatures};
use super::{DownloadError, archive};

/// Largest list of checksums, or of signatures, bytes.
const SUMS_BYTES_MAX: u64 = 1_000_000;
/// Largest archive, bytes (releases have 50 MB).
const ARCHIVE_BYTES_MAX: u64 = 250_000_000;

/// Downloads the release for this machine from the folder at `url`, checks it, and puts its
/// binaries into `cache`. Returns the node's. `gpg_home` is for another keyring than the user's.
///
/// What arrives in part, or fails a check, leaves nothing in the cache.
///
/// # Errors
/// What failed, with the URL; a bad signature [is fatal](DownloadError::is_fatal).
pub fn download(
    url: &str,
    cache: &Path,
    gpg_home: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, DownloadError> {
    let archive = archive_name(host_triple()?);
    let folder = Folder::new(url);
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| DownloadError::Io { what, path, source }
    };
    std::fs::create_dir_all(cache).map_err(io("creating", cache))?;
    let work = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(cache)
        .map_err(io("creating a folder in", cache))?;

    progress.say(&format!("downloading Bitcoin Core {RELEASE} from {url}"));
    let sums = folder.get(SUMS, SUMS_BYTES_MAX)?.ok_or_else(|| DownloadError::Http {
        url: folder.url(SUMS),
        reason: "not found (404)".to_owned(),
    })?;
    let signatures = check_signatures(&folder, &sums, work.path(), gpg_home)?;
    progress.say(&signatures.to_string());
    let expected = listed_checksum(&String::from_utf8_lossy(&sums), &archive).ok_or_else(|| {
        DownloadError::NotListed { url: folder.url(SUMS), archive: archive.clone() }
    })?;

    let packed = work.path().join(&archive);
    let mut file = File::create(&packed).map_err(io("creating", &packed))?;
    let actual = folder.get_into(&archive, ARCHIVE_BYTES_MAX, &mut file, progress)?;
    drop(file);
    if actual != expected {
        return Err(DownloadError::WrongChecksum { url: folder.url(&archive), expected, actual });
    }
    progress.say(&format!("{archive} is what {SUMS} lists (SHA-256)"));

    let unpacked = work.path().join("unpacked");
    std::fs::create_dir(&unpacked).map_err(io("creating", &unpacked))?;
    let taken = archive::unpack(&packed, &unpacked)?;
    let version = place(&unpacked, cache, RELEASE).map_err(io("moving into", cache))?;
    // `unpack` has seen at least one of the names.
    let exe = EXE_NAMES.iter().find(|name| taken.contains(name)).unwrap_or(&"bitcoind");
    Ok(version.join(exe))
}

fn check_signatures(
    folder: &Folder,
    sums: &[u8],
    work: &Path,
    gpg_home: Option<&Path>,
) -> Result<Signatures, DownloadError> {
    let Some(asc) = folder.get(SUMS_SIGNATURES, SUMS_BYTES_MAX)? else {
        return Ok(Signatures::NotThere);
    };
    let (sums_path, asc_path) = (work.join(SUMS), work.join(SUMS_SIGNATURES));
    for (path, bytes) in [(&sums_path, sums), (&asc_path, asc.as_slice())] {
        std::fs::write(path, bytes).map_err(|source| DownloadError::Io {
            what: "writing",
            path: path.clone(),
            source,
        })?;
    }
    match signature::verify(&sums_path, &asc_path, gpg_home) {
        Signatures::Bad { signer } => {
            Err(DownloadError::BadSignature { url: folder.url(SUMS), signer })
        }
        other => Ok(other),
    }
}

/// Moves a finished folder into the cache under its version, in one step: whoever looks sees
/// all of it or nothing. A folder that is there already (and did not work) gives way.
pub(super) fn place(finished: &Path, cache: &Path, version: &str) -> std::io::Result<PathBuf> {
    let target = cache.join(version);
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    std::fs::rename(finished, &target)?;
    Ok(target)
}
