//! What the system says of a process: processor time, memory, descriptors (Linux).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

/// Unit of processor time in `/proc/PID/stat`: Linux shows it in hundredths of a second whatever the
/// kernel counts in (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc` for one process.
#[derive(Debug, Clone)]
pub struct ProcessReader {
    dir: PathBuf,
}

/// Memory of a process, kilobytes of 1,024 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of what is in memory, its share: pages that others have too are divided among them.
    pub pss_kb: u64,
    /// What is in memory.
    pub resident_kb: u64,
    /// The most that ever was.
    pub peak_resident_kb: u64,
}

impl ProcessReader {
    /// Of the process with this number.
    pub fn of(pid: u32) -> Self {
        Self { dir: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// Of the process that asks.
    pub fn own() -> Self {
        Self { dir: PathBuf::from("/proc/self") }
    }

    /// Processor time of all its threads so far, those that ended included. In steps of 10 ms.
    ///
    /// # Errors
    /// There is no such process.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = self.read("stat")?;
        // The name, in parentheses, may hold anything; fields 14 and 15 are utime and stime.
        let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: Option<Vec<f64>> =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse().ok()).collect();
        match ticks.as_deref() {
            Some([user, system]) => Ok(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND)),
            _ => bail!("no processor time in {}/stat", self.dir.display()),
        }
    }

    /// Its memory now.
    ///
    /// # Errors
    /// There is no such process, or it belongs to somebody else.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let rollup = self.read("smaps_rollup")?;
        let status = self.read("status")?;
        Ok(Memory {
            pss_kb: kilobytes(&rollup, "Pss:")?,
            resident_kb: kilobytes(&rollup, "Rss:")?,
            peak_resident_kb: kilobytes(&status, "VmHWM:")?,
        })
    }

    /// Its open descriptors.
    ///
    /// # Errors
    /// As [`Self::memory`].
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        let dir = self.dir.join("fd");
        Ok(fs::read_dir(&dir).with_context(|| dir.display().to_string())?.count())
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

fn kilobytes(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in what the system says of a process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_and_holds_something_shows_it() {
        let own = ProcessReader::own();
        let (cpu, memory) = (own.cpu().unwrap(), own.memory().unwrap());
        let held = vec![1u8; 64 << 20];
        let mut sum = 0u64;
        while own.cpu().unwrap() < cpu + Duration::from_millis(50) {
            sum = held.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        let after = own.memory().unwrap();
        assert!(after.pss_kb >= memory.pss_kb + (48 << 10), "{memory:?}, {after:?}, {sum}");
        assert!(after.peak_resident_kb >= after.resident_kb, "{after:?}");
        let descriptors = own.descriptors().unwrap();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(own.descriptors().unwrap() > descriptors - 1);
    }
}
