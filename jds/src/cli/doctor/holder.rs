//! Which process uses a data directory or a port, as the system tells it. Nothing is locked or
//! connected to: that could be in the way of a server that starts at this moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file that a server locks for as long as it runs.
const LOCKED: &str = "jds.stream";

/// Processes that are looked at, count.
const PROCESSES_MAX: usize = 100_000;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: u32,
    /// As the system knows it.
    pub(super) name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.id, self.name)
    }
}

/// The server that uses this data directory, if one does and the system tells us.
pub(super) fn of(data_dir: &Path) -> Option<Process> {
    let path = data_dir.join(LOCKED);
    let inode = fs::metadata(&path).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let path = fs::canonicalize(&path).ok()?;
    lock_holders(&locks, inode)
        .into_iter()
        // Files of other disks have the same number: where we may look, it has to be this one.
        .find(|id| opened(*id).is_none_or(|files| files.contains(&path)))
        .or_else(|| processes().find(|id| opened(*id).is_some_and(|files| files.contains(&path))))
        .map(process)
}

/// Process ids that hold a lock (flock) on the file with this number.
fn lock_holders(locks: &str, inode: u64) -> Vec<u32> {
    let holder = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        // `7: FLOCK  ADVISORY  WRITE 4711 08:02:1234567 0 EOF`; one that waits has `->` before it.
        let [_, "FLOCK", _, _, id, file, ..] = words.as_slice() else { return None };
        let found: u64 = file.rsplit(':').next()?.parse().ok()?;
        (found == inode).then(|| id.parse().ok()).flatten()
    };
    locks.lines().filter_map(holder).collect()
}

/// The process that listens on this TCP port, if the system tells us.
pub(super) fn of_port(port: u16) -> Option<Process> {
    let sockets: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .map(|inode| format!("socket:[{inode}]").into())
        .collect();
    if sockets.is_empty() {
        return None;
    }
    processes()
        .find(|id| opened(*id).is_some_and(|files| files.iter().any(|file| sockets.contains(file))))
        .map(process)
}

/// Numbers of the sockets that listen on this port.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let (_, found) = local.rsplit_once(':')?;
        let found = u16::from_str_radix(found, 16).ok()?;
        (*state == LISTEN && found == port).then(|| inode.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(socket).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(PROCESSES_MAX)
}

/// What a process has open; `None` where we may not know.
fn opened(id: u32) -> Option<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).ok()?;
    Some(entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect())
}

fn process(id: u32) -> Process {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    Process { id, name: name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_by_kind_and_file() {
        let locks = "1: POSIX  ADVISORY  READ  11 08:02:77 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 12 08:02:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:02:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 08:02:78 0 EOF\n";
        assert_eq!(lock_holders(locks, 77), [12]);
        assert_eq!(lock_holders(locks, 7), [0; 0]);
    }

    #[test]
    fn sockets_are_found_by_port_when_they_listen() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode\n\
                     0: 0100007F:2474 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 \
                     0 4242 1 0 100 0 0 10 0\n\
                     1: 0100007F:2474 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 \
                     0 4243 1 0 100 0 0 10 0\n";
        assert_eq!(listening(table, 9332), [4242]);
        assert_eq!(listening(table, 9333), [0; 0]);
    }
}
