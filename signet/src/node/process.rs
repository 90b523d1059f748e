//! The node's process: started on its own, watched, ended for certain.

use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::error::NodeError;

/// Bytes that a unix socket path may have (`sun_path`, less some for the terminating zero).
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Longest that the node's folder and socket name add to the data directory.
const SOCKET_NAME_BYTES: usize = "/regtest/node.sock".len();
/// End of a log shown when a node does not start, bytes.
const LOG_TAIL_BYTES: u64 = 3_000;

/// Waits for the end of its standard input, which comes when this process ends however it ends,
/// and then kills the node and removes its data. Arguments: process id, directory.
const WATCHER: &str = "read -r _; kill -9 \"$1\" 2>/dev/null; rm -rf -- \"$2\"";

/// A running child with its watcher.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watcher: Child,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::Io { what, path, source }
}

impl Process {
    pub(crate) fn spawn(exe: &Path, args: &[String], root: &Path) -> Result<Self, NodeError> {
        let stderr_path = root.join("stderr");
        let stderr = std::fs::File::create(&stderr_path).map_err(io("creating", &stderr_path))?;
        // Groups of their own: an interrupt on the terminal is for us alone, and we end them.
        let mut child = Command::new(exe)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(io("starting", exe))?;
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher", &child.id().to_string()])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self { child, watcher }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(io("starting", Path::new("sh"))(error))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Some once the process has ended, with how it ended.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Sends a signal by name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), NodeError> {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &self.pid().to_string()])
            .status()
            .map_err(io("running kill with", Path::new("sh")))?;
        if status.success() {
            Ok(())
        } else {
            Err(NodeError::Impossible(format!(
                "process {} did not take signal {name}: it has ended",
                self.pid()
            )))
        }
    }

    /// Ends the process at once and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // After the node, and before its standard input closes, or it would kill a stranger that
        // was given the same process id meanwhile.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

/// A data directory whose path is short enough for a unix socket in it.
pub(crate) fn short_temp_dir() -> Result<TempDir, NodeError> {
    let preferred = std::env::temp_dir();
    let fits = preferred.as_os_str().len() + "/jdsXXXXXX".len() + SOCKET_NAME_BYTES
        < SOCKET_PATH_BYTES_MAX;
    let base = if fits { preferred } else { PathBuf::from("/tmp") };
    tempfile::Builder::new()
        .prefix("jds")
        .tempdir_in(&base)
        .map_err(io("creating a directory in", &base))
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16, NodeError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io("finding a free port on", Path::new("127.0.0.1")))
}

/// The last part of a log file, from the start of a line; says so when there is none.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = if len > LOG_TAIL_BYTES {
            text.split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            text.as_ref()
        };
        Ok(whole.trim_end().to_owned())
    };
    match read() {
        Ok(text) => format!("{}:\n{text}", path.display()),
        Err(error) => format!("{}: {error}", path.display()),
    }
}
