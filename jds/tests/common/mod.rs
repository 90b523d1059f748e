//! What tests of the binary share: the command, a server that runs, solutions as they are sent.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitcoin::hashes::Hash;
use jds::client::template::Solved;
use jds_wire::message::PushSolution;
use signet::wait::{self, WaitError};

/// How long a server may take to say that it listens.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(20);

/// The binary with these arguments.
pub(crate) fn jds(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jds"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// `jds run`, ended for certain when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Running {
    /// With this configuration; what it says goes to `log`.
    pub(crate) fn start(config: &Path, log: PathBuf) -> Self {
        let stderr = fs::File::create(&log).unwrap();
        let child = jds(&["run", "--config", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the line that names the port.
    pub(crate) fn listens_at(&self) -> Result<SocketAddr, WaitError> {
        wait::until("the server to say where it listens", START_LIMIT, || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("declaration server listening"))?;
            line.split_once("local_addr=")?.1.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A solution as a client hands it in.
pub(crate) fn solution(solved: &Solved) -> PushSolution<'_> {
    let header = &solved.block.header;
    PushSolution {
        extranonce: &solved.extranonce,
        prev_hash: header.prev_blockhash.to_byte_array(),
        nonce: header.nonce,
        ntime: header.time,
        nbits: header.bits.to_consensus(),
        version: header.version.to_consensus() as u32,
    }
}
