//! A disk that a test can fill.
//!
//! A file system of its own needs a mount, which only root may make, or anybody in a user namespace
//! of their own; both end with the process. So the test runs itself again in such a place. Where
//! neither is allowed, a limit on the size of files stands for the full disk: every write fails,
//! with another error of the system.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Tells the test where it runs: one of the words below, and the folder.
const PLACE: &str = "JDS_TESTS_SMALL_DISK";
const TMPFS: &str = "tmpfs";
const LIMIT: &str = "limit";

/// Of the file system, bytes.
const SIZE_BYTES: u64 = 8 << 20;

/// Mounts on `$1`, then becomes the rest of the command line.
const MOUNT: &str = r#"mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@""#;
/// Files that grow too large are an error then, not the end of the process.
const NO_SIGNAL: &str = r#"trap "" XFSZ && shift && exec "$@""#;

/// A disk that can be filled.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: PathBuf,
    limit: bool,
}

/// Runs one test of this program where it has a small disk. Fails as that does.
#[track_caller]
pub(crate) fn rerun_on_a_small_disk(test: &str) {
    let folder = TempDir::with_prefix("jds-small-disk-").unwrap();
    let ways: [(&str, &[&str]); 2] = [(TMPFS, &["-m"]), (TMPFS, &["-U", "-r", "-m"])];
    let unshare = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", MOUNT, &SIZE_BYTES.to_string()]).arg(folder.path());
        command
    };
    let possible = |flags: &[&str]| {
        let output = unshare(flags).arg("true").output();
        output.is_ok_and(|output| output.status.success())
    };
    let way = ways.into_iter().find(|(_, flags)| possible(flags));
    let (kind, mut command) = match way {
        Some((kind, flags)) => (kind, unshare(flags)),
        None => {
            let mut command = Command::new("sh");
            command.args(["-c", NO_SIGNAL, "sh", "folder"]);
            (LIMIT, command)
        }
    };
    let place = format!("{kind}:{}", folder.path().display());
    command.arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(PLACE, &place);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let passed = output.status.success() && stdout.contains("1 passed");
    assert!(passed, "in {place}: {}\n{stdout}\n{stderr}", output.status);
}

impl SmallDisk {
    /// That of [`rerun_on_a_small_disk`], if this is such a run.
    pub(crate) fn of_this_process() -> Option<Self> {
        let place = std::env::var(PLACE).ok()?;
        let (kind, folder) = place.split_once(':').unwrap();
        Some(Self { folder: folder.into(), limit: kind == LIMIT })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// What SQLite says when it is full.
    pub(crate) fn reason(&self) -> &'static str {
        if self.limit { "disk I/O error" } else { "full" }
    }

    /// Leaves no room.
    #[track_caller]
    pub(crate) fn fill(&self) {
        if self.limit {
            return limit_files("1:");
        }
        let mut file = File::create(self.filler()).unwrap();
        let mut written_bytes = 0;
        loop {
            match file.write(&[0; 4_096]) {
                Ok(bytes) => written_bytes += bytes as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
            assert!(written_bytes <= SIZE_BYTES, "this is no small disk");
        }
    }

    /// Makes room again.
    #[track_caller]
    pub(crate) fn free(&self) {
        if self.limit {
            return limit_files("unlimited:");
        }
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

/// Bounds the files that this process writes, bytes.
#[track_caller]
fn limit_files(bytes: &str) {
    let process = std::process::id().to_string();
    let limit = format!("--fsize={bytes}");
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(status.unwrap().success(), "prlimit {limit}");
}
