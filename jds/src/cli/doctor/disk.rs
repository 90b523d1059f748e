//! The data directory: whether it can be used, how much room there is, and the database in it.

use std::fs;
use std::io;
use std::path::Path;

use config::Checked;
use rustix::fs::{Access, access, statvfs};
use store::{EventLog, EventLogError, Retention};

use super::code::Code;
use super::holder::Process;
use super::report::{Check, Report};

const NAME: &str = "data_dir";
const DATABASE: &str = "database";

/// A megabyte is 10^6 bytes.
const MB: u64 = 1_000_000;

/// Below this the store soon can not write; its write-ahead log alone takes 64 MB at times.
const FREE_BYTES_MIN: u64 = 200 * MB;

pub(super) fn check(config: &Checked, server: Option<&Process>, report: &mut Report) {
    let dir = &config.data_dir;
    match usable(dir) {
        Ok(message) => {
            let used = server.map(|server| format!("; in use by the running server, {server}"));
            report.ok(NAME, format!("{message}{}", used.unwrap_or_default()));
        }
        Err(check) => return report.push(*check),
    }
    report.push(room(config));
    if dir.is_dir() {
        report.push(database(dir));
    }
}

/// Whether the directory is there, or can be made, and takes files.
fn usable(dir: &Path) -> Result<String, Box<Check>> {
    let shown = dir.display();
    let bad = |code, message: String, advice: String| {
        Err(Box::new(Check::bad(NAME, code, message, advice)))
    };
    let chown = "run `chown -R USER DIR` with the server's user, or set `data_dir` to another one";
    match fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => bad(
            Code::DataDirUnusable,
            format!("{shown} is not a directory"),
            "Set `data_dir` to a directory.".to_owned(),
        ),
        // A file without a name: gone with this process, whatever happens.
        Ok(_) => match tempfile::tempfile_in(dir) {
            Ok(_) => Ok(format!("{shown} can be written")),
            Err(error) => bad(
                Code::DataDirReadOnly,
                format!("{shown} can not be written: {error}"),
                format!("Run this as the server's user; then {chown}."),
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match access(above(dir), Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Ok(format!("{shown} is not there yet and can be made")),
                Err(error) => bad(
                    Code::DataDirUnusable,
                    format!("{shown} is not there and can not be made: {error}"),
                    format!(
                        "Make it (mkdir -p {shown}) and give it to the server's user, or set `data_dir` to another one."
                    ),
                ),
            }
        }
        Err(error) => bad(
            Code::DataDirUnusable,
            format!("{shown} can not be used: {error}"),
            format!("Correct `data_dir`; where it is a question of permissions, {chown}."),
        ),
    }
}

/// The nearest directory above that exists.
fn above(dir: &Path) -> &Path {
    dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Free space against what the store may still take.
fn room(config: &Checked) -> Check {
    const NAME: &str = "disk";
    let dir = above(&config.data_dir);
    let free = match statvfs(dir) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            return Check::bad(
                NAME,
                Code::DataDirUnusable,
                format!("free space of {} is not known: {error}", dir.display()),
                "Correct `data_dir`.",
            );
        }
    };
    let used = fs::metadata(config.data_dir.join("jds.sqlite")).map_or(0, |file| file.len());
    let more = database_bytes_max(config).saturating_sub(used);
    let (free_mb, more_mb, used_mb) = (free / MB, more / MB, used / MB);
    let advice = format!(
        "Make room, move `data_dir` to a larger disk, or lower the `_mb` settings of `[store]`; \
         `du -sh {}` says what is there.",
        dir.display()
    );
    if free < FREE_BYTES_MIN {
        let message = format!("{free_mb} MB are free: the store will soon not be able to write");
        return Check::bad(NAME, Code::DiskFull, message, advice);
    }
    let message = format!(
        "{free_mb} MB are free; the database has {used_mb} MB and may grow by {more_mb} MB"
    );
    if free < more.saturating_add(FREE_BYTES_MIN) {
        return Check::bad(NAME, Code::DiskSmall, message, advice);
    }
    Check::ok(NAME, message)
}

/// How large the database gets with all tables full, bytes.
fn database_bytes_max(config: &Checked) -> u64 {
    let kept = &config.store;
    let default = Retention::default();
    let rows = [
        kept.events_bytes,
        kept.templates_bytes,
        kept.transactions_bytes,
        kept.shares_bytes,
        default.rejected.bytes,
        default.aggregates_bytes,
    ]
    .into_iter()
    .fold(0, u64::saturating_add);
    // The database adds about a fifth.
    let all = rows.saturating_add(rows / 5);
    match kept.database_bytes_max {
        0 => all,
        fuse => all.min(fuse),
    }
}

/// Reads it without a change to any of its files.
fn database(dir: &Path) -> Check {
    let file = |name: &str| fs::metadata(dir.join(name)).map(|file| file.len());
    // Reading this would make a file, which could then belong to the wrong user.
    if file("jds.sqlite-wal").is_ok_and(|bytes| bytes > 0) && file("jds.sqlite-shm").is_err() {
        return Check::bad(
            DATABASE,
            Code::DatabaseNotClosed,
            "jds.sqlite-wal is there without jds.sqlite-shm: part of a copy; it was not read",
            "If it is a backup put back, all is well: the server's next start reads it. Never delete \
             jds.sqlite-wal.",
        );
    }
    let error = match EventLog::open(dir) {
        Ok(log) => {
            let message = format!("{} is of this version and can be read", log.path().display());
            return Check::ok(DATABASE, message);
        }
        Err(error) => error,
    };
    let message = error.to_string();
    match error {
        EventLogError::Missing { .. } | EventLogError::NotSetUp { .. } => {
            Check::ok(DATABASE, "none yet; the server makes it at its first start")
        }
        EventLogError::TooOld { found, known, .. } => Check::ok(
            DATABASE,
            format!("of version {found}; the next start brings it to version {known}"),
        ),
        EventLogError::TooNew { .. } => Check::bad(
            DATABASE,
            Code::DatabaseTooNew,
            message,
            "Use the newer jds that wrote it, or put back a backup from before the upgrade.",
        ),
        EventLogError::Foreign { .. }
        | EventLogError::Gone { .. }
        | EventLogError::Unreadable { .. } => Check::bad(
            DATABASE,
            Code::DatabaseUnusable,
            message,
            "Run this as the server's user. If it still fails, keep a copy of data_dir and put back \
             a backup; an empty `data_dir` is a new start.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_above_is_one_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(above(&dir.path().join("a/b/c")), dir.path());
        assert!(
            usable(&dir.path().join("a/b")).is_ok_and(|message| message.contains("can be made"))
        );
        fs::write(dir.path().join("file"), "").unwrap();
        let check = usable(&dir.path().join("file")).unwrap_err();
        assert_eq!(check.code, Some(Code::DataDirUnusable));
    }

    #[test]
    fn half_of_a_copy_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(database(dir.path()).code, None);
        fs::write(dir.path().join("jds.sqlite"), "something else, long enough to have a header")
            .unwrap();
        assert_eq!(database(dir.path()).code, Some(Code::DatabaseUnusable));
        fs::write(dir.path().join("jds.sqlite-wal"), "x").unwrap();
        assert_eq!(database(dir.path()).code, Some(Code::DatabaseNotClosed));
        assert!(!dir.path().join("jds.sqlite-shm").exists());
    }
}
