//! Programs of the reference implementation, run beside our server.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use signet::wait;
use tempfile::TempDir;

use crate::PATIENCE;

/// Bytes of a program's log that a failure shows.
const LOG_END_BYTES: usize = 6_000;

/// A program, and the published crate that it is in.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the executable.
    pub name: &'static str,
    crate_name: &'static str,
    version: &'static str,
    /// Environment variable that says where it is.
    variable: &'static str,
}

/// The pool.
pub const POOL: Program = Program {
    name: "pool_sv2",
    crate_name: "pool_sv2",
    version: "0.7.0",
    variable: "POOL_SV2_EXE",
};

/// The Job Declaration Client.
pub const JD_CLIENT: Program = Program {
    name: "jd_client_sv2",
    crate_name: "jd_client_sv2",
    version: "0.6.0",
    variable: "JD_CLIENT_SV2_EXE",
};

/// A miner on a processor.
pub const MINING_DEVICE: Program = Program {
    name: "mining_device",
    crate_name: "integration_tests_sv2",
    version: "0.6.0",
    variable: "MINING_DEVICE_EXE",
};

/// The proxy that takes Stratum V1 and speaks Stratum V2.
pub const TRANSLATOR: Program = Program {
    name: "translator_sv2",
    crate_name: "translator_sv2",
    version: "0.6.0",
    variable: "TRANSLATOR_SV2_EXE",
};

/// A translator in front of `upstream`, whose server has this key, and where it listens for miners.
/// `aggregate`: all of them share one channel, and shares name their workers.
pub fn translator(
    upstream: SocketAddr,
    key: &str,
    user: &str,
    aggregate: bool,
) -> (Running, SocketAddr) {
    translator_with(upstream, key, user, aggregate, "[2]")
}

/// [`translator`] that demands these extensions of its upstream.
pub fn translator_with(
    upstream: SocketAddr,
    key: &str,
    user: &str,
    aggregate: bool,
    required_extensions: &str,
) -> (Running, SocketAddr) {
    let address = free_address();
    let config = format!(
        "downstream_address = \"{}\"\n\
         downstream_port = {}\n\
         max_supported_version = 2\n\
         min_supported_version = 2\n\
         downstream_extranonce2_size = 4\n\
         verify_payout = false\n\
         aggregate_channels = {aggregate}\n\
         supported_extensions = [2]\n\
         required_extensions = {required_extensions}\n\
         [downstream_difficulty_config]\n\
         min_individual_miner_hashrate = 1000.0\n\
         shares_per_minute = 60.0\n\
         enable_vardiff = true\n\
         job_keepalive_interval_secs = 60\n\
         [[upstreams]]\n\
         address = \"{}\"\n\
         port = {}\n\
         authority_pubkey = \"{key}\"\n\
         user_identity = \"{user}\"\n",
        address.ip(),
        address.port(),
        upstream.ip(),
        upstream.port(),
    );
    (Running::with_config(TRANSLATOR, &config), address)
}

/// A CPU miner of Stratum V2 at `address`, whose server has this key.
pub fn mining_device(address: SocketAddr, key: &str, user: &str) -> Running {
    mining_device_with(address, key, user, &[])
}

/// [`mining_device`] with further arguments.
pub fn mining_device_with(address: SocketAddr, key: &str, user: &str, more: &[&str]) -> Running {
    let address = address.to_string();
    let args = ["--address-pool", &address, "--pubkey-pool", key, "--id-user", user];
    let device = ["--id-device", "device", "--cores", "1"];
    let args = args.iter().chain(&device).chain(more).map(|arg| (*arg).to_owned());
    Running::with_args(MINING_DEVICE, &args.collect::<Vec<_>>())
}

/// A CPU miner of Stratum V1 at `address`: cpuminer (`minerd`) where `MINERD_EXE` or the PATH has it.
/// It is in no package registry, and not built here.
pub fn minerd(address: SocketAddr, user: &str) -> Option<Running> {
    let exe = match std::env::var_os(MINERD_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => on_path("minerd")?,
    };
    let url = format!("stratum+tcp://{address}");
    let args = ["-a", "sha256d", "-t", "1", "-o", &url, "-u", user, "-p", "x", "-r", "0", "-D"];
    Some(Running::executable("minerd", &exe, &args.map(str::to_owned)))
}

/// Any other program that mines.
pub fn miner(name: &'static str, exe: &Path, args: &[String]) -> Running {
    Running::executable(name, exe, args)
}

/// Says where `minerd` is.
const MINERD_VARIABLE: &str = "MINERD_EXE";

fn on_path(name: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(name)).find(|exe| exe.is_file())
}

impl Program {
    /// Where it is: as the variable says, or on the PATH, or in the cache, into which it is built
    /// when it is nowhere (that takes minutes, and the network).
    pub fn find(&self) -> PathBuf {
        if let Some(path) = std::env::var_os(self.variable) {
            let path = PathBuf::from(path);
            assert!(
                path.is_file(),
                "{} = {}: there is no such file",
                self.variable,
                path.display()
            );
            return path;
        }
        on_path(self.name).unwrap_or_else(|| self.install())
    }

    fn install(&self) -> PathBuf {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .expect("XDG_CACHE_HOME or a home directory");
        let root = cache
            .join("sovereign-jds")
            .join("reference")
            .join(format!("{}-{}", self.crate_name, self.version));
        let exe = root.join("bin").join(self.name);
        if exe.is_file() {
            return exe;
        }
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["install", "--locked", "--version", self.version, "--root"])
            .arg(&root)
            .args(["--bin", self.name, self.crate_name])
            .status()
            .expect("cargo, to build a program of the reference implementation");
        let Self { name, variable, .. } = self;
        assert!(status.success(), "{name} can not be built; {variable} may say where one is");
        exe
    }
}

/// A program that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
    _files: TempDir,
}

impl Running {
    /// Starts it with a configuration file (`-c`).
    pub fn with_config(program: Program, config: &str) -> Self {
        let files = TempDir::with_prefix("jds-reference-").expect("a temporary directory");
        let file = files.path().join("config.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let args = ["-c".to_owned(), file.display().to_string()];
        Self::start(program, files, &args)
    }

    /// Starts it with these arguments.
    pub fn with_args(program: Program, args: &[String]) -> Self {
        Self::start(program, TempDir::with_prefix("jds-reference-").expect("a directory"), args)
    }

    fn executable(name: &'static str, exe: &Path, args: &[String]) -> Self {
        let files = TempDir::with_prefix("jds-reference-").expect("a temporary directory");
        Self::run(name, exe, files, args)
    }

    fn start(program: Program, files: TempDir, args: &[String]) -> Self {
        Self::run(program.name, &program.find(), files, args)
    }

    fn run(name: &'static str, exe: &Path, files: TempDir, args: &[String]) -> Self {
        let log = files.path().join("log");
        let output = File::create(&log).expect("a log file");
        let child = Command::new(exe)
            .args(args)
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log file twice"))
            .stderr(output)
            .spawn()
            .expect("a program that starts");
        Self { name, child, log, _files: files }
    }

    /// Waits until something listens there.
    #[track_caller]
    pub fn wait_listening(&self, address: SocketAddr) {
        let what = format!("{} to listen on {address}", self.name);
        wait::until_true(&what, PATIENCE, || TcpStream::connect(address).is_ok())
            .unwrap_or_else(|error| panic!("{error}; {}", self.log_end()));
    }

    /// The last of what it has said.
    pub fn log_end(&self) -> String {
        let log = read(&self.log);
        let end = log.get(log.len().saturating_sub(LOG_END_BYTES)..).unwrap_or_default();
        format!("end of the log of {}:\n{}", self.name, String::from_utf8_lossy(end))
    }

    /// It runs no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// It has said this.
    pub fn has_said(&self, text: &str) -> bool {
        String::from_utf8_lossy(&read(&self.log)).contains(text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(log: &Path) -> Vec<u8> {
    std::fs::read(log).unwrap_or_default()
}

/// An address of this machine that nothing listens on just now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number")
}
