//! All the steps in order: what is there, the download, the build.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::locate::{cached, examine};
use super::progress::Progress;
use super::release::DEFAULT_URL;
use super::{
    DOWNLOAD_URL_ENV, DownloadError, NodeExe, Origin, ProvisionError, cache_dir, compile, download,
    locate, packages,
};

/// Gets a Bitcoin Core that runs: what [`locate`](super::locate) finds, else a download, else a
/// build. The last two go into the cache, where the next call finds them. Two processes that
/// install at the same time wait for each other.
///
/// # Errors
/// Why each way failed and what to install; a bad signature ends it at once.
pub fn install(progress: &mut dyn Progress) -> Result<NodeExe, ProvisionError> {
    let cache = cache_dir()?;
    match with_libraries(locate(), progress, locate) {
        Err(ProvisionError::NotFound { .. }) => {}
        // Out of order in our own cache: replaced. Elsewhere it is the user's to decide.
        Err(ProvisionError::DoesNotRun { path, reason, .. }) if path.starts_with(&cache) => {
            progress.say(&format!("{} does not run: {reason}; replacing it", path.display()));
            discard(&path);
        }
        found => return found,
    }
    let url = std::env::var(DOWNLOAD_URL_ENV).unwrap_or_else(|_| DEFAULT_URL.to_owned());
    let fetch = |cache: &Path, progress: &mut dyn Progress| download(&url, cache, None, progress);
    Steps { cache: &cache, fetch: &fetch, build: &compile::build }.run(progress)
}

/// How a release gets into the cache.
type Fetch<'a> = &'a dyn Fn(&Path, &mut dyn Progress) -> Result<PathBuf, DownloadError>;
/// How a binary is built into the cache.
type Build<'a> = &'a dyn Fn(&Path, &mut dyn Progress) -> Result<PathBuf, ProvisionError>;

/// The steps that may use the network.
struct Steps<'a> {
    cache: &'a Path,
    fetch: Fetch<'a>,
    build: Build<'a>,
}

impl Steps<'_> {
    fn run(&self, progress: &mut dyn Progress) -> Result<NodeExe, ProvisionError> {
        let _lock = lock(self.cache, progress)?;
        // Another process may have been quicker.
        if let Some(path) = cached(self.cache) {
            return examine(path, Origin::Cache);
        }
        let failure = match (self.fetch)(self.cache, progress) {
            Ok(path) => match examine(path.clone(), Origin::Download) {
                Ok(exe) => return Ok(exe),
                Err(error) => {
                    progress.say(&format!("the downloaded binary is of no use: {error}"));
                    discard(&path);
                    None
                }
            },
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                progress.say(&format!("no download: {error}"));
                Some(error)
            }
        };
        progress.say("building Bitcoin Core from source instead");
        let built = (self.build)(self.cache, progress).and_then(|path| {
            let first = examine(path.clone(), Origin::Build);
            with_libraries(first, progress, || examine(path, Origin::Build))
        });
        match (built, failure) {
            (Err(build), Some(download)) => {
                Err(ProvisionError::Both { download, build: Box::new(build) })
            }
            (built, _) => built,
        }
    }
}

/// Removes the version folder of a binary in the cache.
fn discard(path: &Path) {
    if let Some(version) = path.parent() {
        let _ = std::fs::remove_dir_all(version);
    }
}

/// When the binary lacks Cap'n Proto's libraries, installs them and tries `again`.
fn with_libraries(
    first: Result<NodeExe, ProvisionError>,
    progress: &mut dyn Progress,
    again: impl FnOnce() -> Result<NodeExe, ProvisionError>,
) -> Result<NodeExe, ProvisionError> {
    match first {
        Err(ProvisionError::DoesNotRun { path, reason, hint }) if !hint.is_empty() => {
            progress.say(&format!("{} does not run: {reason}", path.display()));
            if packages::ensure_run_packages(progress)? {
                again()
            } else {
                Err(ProvisionError::DoesNotRun { path, reason, hint })
            }
        }
        other => other,
    }
}

/// Holds the cache for this process until dropped; the system lets go when the process dies.
fn lock(cache: &Path, progress: &mut dyn Progress) -> Result<File, ProvisionError> {
    let path = cache.join(".lock");
    let io = |what| {
        let path = path.clone();
        move |source| ProvisionError::Io { what, path, source }
    };
    std::fs::create_dir_all(cache).map_err(io("creating the folder of"))?;
    let file = File::create(&path).map_err(io("creating"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress.say("waiting for another installation to finish");
            file.lock().map_err(io("locking"))?;
        }
        Err(TryLockError::Error(error)) => return Err(io("locking")(error)),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::Lines;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Nobody listens on port 1 of loopback.
    const NOBODY: &str = "http://127.0.0.1:1/";

    fn fake_build(cache: &Path, _: &mut dyn Progress) -> Result<PathBuf, ProvisionError> {
        let folder = cache.join("31.99-source");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("bitcoin-node");
        std::fs::write(&path, "#!/bin/sh\necho 'Bitcoin Core daemon version v9.9.9 x'\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Ok(path)
    }

    fn no_build(_: &Path, _: &mut dyn Progress) -> Result<PathBuf, ProvisionError> {
        let tail = "no compiler".to_owned();
        Err(ProvisionError::Build { step: "cmake", status: "exit status: 1".to_owned(), tail })
    }

    fn no_server(cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf, DownloadError> {
        download(NOBODY, cache, None, progress)
    }

    fn steps<'a>(cache: &'a Path, build: Build<'a>) -> Steps<'a> {
        Steps { cache, fetch: &no_server, build }
    }

    #[test]
    fn without_a_server_it_builds_and_says_so() {
        let cache = tempfile::tempdir().unwrap();
        let mut said = Lines(Vec::new());
        let exe = steps(cache.path(), &fake_build).run(&mut said).unwrap();
        assert_eq!((exe.origin, exe.version.as_str()), (Origin::Build, "v9.9.9"));
        let said = String::from_utf8(said.0).unwrap();
        assert!(said.contains("no download: http://127.0.0.1:1/SHA256SUMS"), "{said}");
        assert!(said.contains("building Bitcoin Core from source instead"), "{said}");
        // The second time it is there.
        let again = steps(cache.path(), &no_build).run(&mut Lines(Vec::new())).unwrap();
        assert_eq!((again.origin, again.path), (Origin::Cache, exe.path));
    }

    #[test]
    fn when_both_fail_the_error_names_both() {
        let cache = tempfile::tempdir().unwrap();
        let error = steps(cache.path(), &no_build).run(&mut Lines(Vec::new())).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ProvisionError::Both { .. }), "{text}");
        assert!(text.contains("127.0.0.1:1/SHA256SUMS"), "{text}");
        assert!(text.contains("JDS_NODE_DOWNLOAD_URL"), "{text}");
        assert!(text.contains("no compiler"), "{text}");
    }

    #[test]
    fn a_bad_signature_is_never_answered_by_a_build() {
        let cache = tempfile::tempdir().unwrap();
        let forged = |_: &Path, _: &mut dyn Progress| {
            Err(DownloadError::BadSignature { url: "x".to_owned(), signer: "Mallory".to_owned() })
        };
        let steps = Steps { cache: cache.path(), fetch: &forged, build: &fake_build };
        let error = steps.run(&mut Lines(Vec::new())).unwrap_err();
        assert!(matches!(error, ProvisionError::Download(_)), "{error}");
        assert!(error.to_string().contains("BAD signature, by Mallory"), "{error}");
        assert_eq!(cached(cache.path()), None, "nothing was built");
    }

    #[test]
    fn a_download_that_does_not_run_gives_way_to_a_build() {
        let cache = tempfile::tempdir().unwrap();
        let broken = |cache: &Path, _: &mut dyn Progress| {
            let folder = cache.join("99.0");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("bitcoind"), "no program").unwrap();
            Ok(folder.join("bitcoind"))
        };
        let steps = Steps { cache: cache.path(), fetch: &broken, build: &fake_build };
        assert_eq!(steps.run(&mut Lines(Vec::new())).unwrap().origin, Origin::Build);
        assert!(!cache.path().join("99.0").exists());
    }

    #[test]
    fn two_installations_take_turns() {
        struct Tell(mpsc::Sender<String>);
        impl Progress for Tell {
            fn say(&mut self, line: &str) {
                let _ = self.0.send(line.to_owned());
            }
            fn figure(&mut self, _: u64, _: u64, _: &str) {}
        }
        let cache = tempfile::tempdir().unwrap();
        let held = lock(cache.path(), &mut Lines(Vec::new())).unwrap();
        let path = cache.path().to_owned();
        let (sender, said) = mpsc::channel();
        let second =
            std::thread::spawn(move || steps(&path, &no_build).run(&mut Tell(sender)).unwrap());
        let line = said.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(line.contains("waiting for another installation"), "{line}");
        fake_build(cache.path(), &mut Lines(Vec::new())).unwrap();
        drop(held);
        assert_eq!(second.join().unwrap().origin, Origin::Cache, "it takes what the first made");
    }
}
