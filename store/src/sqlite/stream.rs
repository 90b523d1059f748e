//! When a new stream epoch begins: the file beside the database that knows what readers have seen.
//!
//! The database alone can not tell that it is an old copy of itself. So the highest id that was
//! committed is written to a small file as well, after each commit and before anybody is told.
//! A database that is behind this file has lost events that readers may have seen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Stream epoch.
    pub(super) epoch: u64,
    /// Highest id that readers may have seen.
    pub(super) last_id: u64,
    /// Inode of the database file: a copy that was put back has another one.
    pub(super) inode: u64,
    /// Identifies the run of the operating system: after a loss of power the newest commits may
    /// be missing from both files.
    pub(super) boot: String,
    /// True when the store was closed in order, with everything on the disk.
    pub(super) clean: bool,
}

/// The file, locked for as long as the store is open.
#[derive(Debug)]
pub(super) struct StreamFile {
    file: File,
    broken: bool,
}

impl StreamFile {
    /// Opens and locks the file; `None` when another process holds it.
    pub(super) fn open(path: &Path) -> std::io::Result<Option<(Self, Option<Seen>)>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut bytes = Vec::new();
        // A file that is not ours may be of any size.
        (&mut file).take(1_024).read_to_end(&mut bytes)?;
        let seen = std::str::from_utf8(&bytes).ok().and_then(Seen::parse);
        Ok(Some((Self { file, broken: false }, seen)))
    }

    /// Writes what readers may see from now on. Trouble is not fatal: then a restored backup is
    /// recognised by its inode alone.
    pub(super) fn write(&mut self, seen: &Seen, sync: bool) {
        let text = seen.format();
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(text.as_bytes()))
            .and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = &written
            && !self.broken
        {
            tracing::warn!(%error, "cannot note the last event id beside the database");
        }
        self.broken = written.is_err();
    }
}

impl Seen {
    /// One line of fixed length, so that one write replaces all of it.
    fn format(&self) -> String {
        format!(
            "jds-stream 1 epoch={:016x} last={:020} inode={:020} clean={} boot={:<40}\n",
            self.epoch,
            self.last_id,
            self.inode,
            u8::from(self.clean),
            self.boot,
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.strip_prefix("jds-stream 1 ")?.split_whitespace();
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let seen = Self {
            epoch: u64::from_str_radix(value("epoch")?, 16).ok()?,
            last_id: value("last")?.parse().ok()?,
            inode: value("inode")?.parse().ok()?,
            clean: value("clean")? == "1",
            boot: value("boot")?.to_owned(),
        };
        Some(seen)
    }
}

/// What the database says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its stream epoch; `None` when it is new.
    pub(super) epoch: Option<u64>,
    /// Its last event.
    pub(super) last_id: u64,
    /// Its inode now.
    pub(super) inode: u64,
}

/// Why events that readers may have seen could be missing from the database, if they could.
pub(super) fn lost(kept: &Kept, seen: Option<&Seen>, boot: &str) -> Option<String> {
    let Some(epoch) = kept.epoch else {
        let seen = seen.filter(|seen| seen.last_id > 0)?;
        return Some(format!("the database is new, but events up to {} were seen", seen.last_id));
    };
    let Some(seen) = seen else {
        return (kept.last_id > 0)
            .then(|| "the file that says what readers have seen is missing".to_owned());
    };
    if seen.epoch != epoch {
        return Some("the database belongs to another stream".to_owned());
    }
    if seen.last_id > kept.last_id {
        return Some(format!(
            "events up to {} were seen, the database ends at {}",
            seen.last_id, kept.last_id
        ));
    }
    if seen.inode != kept.inode {
        return Some("the database file is a copy".to_owned());
    }
    if !seen.clean && seen.boot != boot {
        return Some("the machine stopped while the store was open".to_owned());
    }
    None
}

/// Identifies this run of the operating system; `-` where it does not say.
pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    if id.is_empty() || id.len() > 40 { "-".to_owned() } else { id.to_owned() }
}

/// Inode of a file; 0 where there are none.
pub(super) fn inode(path: &Path) -> std::io::Result<u64> {
    #[cfg(unix)]
    return std::fs::metadata(path).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
    #[cfg(not(unix))]
    return std::fs::metadata(path).map(|_| 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { epoch: 7, last_id: 150, inode: 3, boot: "a-b".into(), clean: false }
    }

    #[test]
    fn the_file_survives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stream");
        let (mut file, before) = StreamFile::open(&path).unwrap().unwrap();
        assert_eq!(before, None);
        assert!(StreamFile::open(&path).unwrap().is_none(), "the file is locked");
        let long = Seen { last_id: u64::MAX, boot: "x".repeat(40), ..seen() };
        file.write(&long, true);
        file.write(&seen(), false);
        drop(file);
        let (_, after) = StreamFile::open(&path).unwrap().unwrap();
        assert_eq!(after, Some(seen()));
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(length, long.format().len() as u64, "every write replaces all of the last");
    }

    #[test]
    fn what_is_no_such_file_says_nothing() {
        for text in
            ["", "\n", "jds-stream 1 epoch=zz", "jds-stream 2 epoch=1", &seen().format()[..60]]
        {
            assert_eq!(Seen::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn losses_are_recognised() {
        let kept = Kept { epoch: Some(7), last_id: 150, inode: 3 };
        assert_eq!(lost(&kept, Some(&seen()), "a-b"), None);
        // Killed after the commit, before the note.
        assert_eq!(lost(&Kept { last_id: 151, ..kept }, Some(&seen()), "a-b"), None);
        let clean = Seen { clean: true, ..seen() };
        assert_eq!(lost(&kept, Some(&clean), "c-d"), None);
        assert_eq!(lost(&Kept { epoch: None, last_id: 0, inode: 3 }, None, "a-b"), None);
        for (kept, seen, boot) in [
            (Kept { last_id: 149, ..kept }, Some(seen()), "a-b"),
            (Kept { inode: 4, ..kept }, Some(clean), "a-b"),
            (Kept { epoch: Some(8), ..kept }, Some(seen()), "a-b"),
            (Kept { epoch: None, last_id: 0, ..kept }, Some(seen()), "a-b"),
            (kept, None, "a-b"),
            (kept, Some(seen()), "c-d"),
        ] {
            assert!(lost(&kept, seen.as_ref(), boot).is_some(), "{kept:?} {seen:?} {boot}");
        }
    }
}
