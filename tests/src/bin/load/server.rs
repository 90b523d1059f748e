//! The server that is measured: ours, the reference's, or one that runs already.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jds_tests::bench::{ProcessReader, Reference, Target};
use jds_wire::Secp256k1PublicKey;
use signet::{Node, wait};
use tempfile::TempDir;

use crate::args::{Args, Source};
use crate::kept::{self, At};
use crate::shares::MiningPorts;

/// How long a server may take until it listens.
const START_WAIT: Duration = Duration::from_secs(60);
/// Places beside those of the clients: for who measures.
const PLACES_SPARE: usize = 64;
/// Each hash is a share for who has no more than ten of them a second.
const EACH_HASH: &str = "shares_per_minute = 600.0\nmin_hashrate_ths = 1e-15\n\
                         sv1_start_hashrate_ths = 1e-15\n";
/// Transactions that a server in a soak keeps, MB.
const SOAK_CACHE_MB: usize = 64;
/// The file of the settings, and the directory of the data.
const CONFIG: &str = "jds.toml";
const DATA: &str = "data";
/// Of an answer about readiness.
const READY_BYTES_MAX: u64 = 1 << 16;
/// Lines of warnings and errors that a failure shows.
const LOG_LINES: usize = 20;

/// What the clients connect to.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// Takes declarations, if it does.
    pub(crate) declaration: Option<Target>,
    /// Gives out templates, if it does.
    pub(crate) templates: Option<Target>,
    /// Takes shares, if it does.
    pub(crate) mining: Option<MiningPorts>,
    /// Where it is asked for its metrics, if it is.
    pub(crate) api: Option<SocketAddr>,
    /// Of its process, if that is on this machine and known.
    pub(crate) process: Option<ProcessReader>,
    /// How it started.
    pub(crate) started: Option<Started>,
    running: Running,
}

/// How long a start took, from that of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// Until it listened.
    pub(crate) listened_in: Duration,
    /// Until it listened and `/readyz` said that all is well: of a server on a store that was filled.
    pub(crate) ready_in: Option<Duration>,
    /// Processor time that it had taken by then: what else the machine did is not in it.
    pub(crate) cpu: Duration,
    /// What was in its data directory: the database, and its write-ahead log.
    pub(crate) database_bytes: u64,
    pub(crate) wal_bytes: u64,
}

#[derive(Debug)]
enum Running {
    Ours(Ours),
    Reference(Reference),
    Elsewhere,
}

/// `jds run`, killed when dropped.
#[derive(Debug)]
struct Ours {
    exe: PathBuf,
    child: Child,
    log: PathBuf,
    files: TempDir,
}

impl Server {
    /// Ours, with default settings but for the number of connections.
    pub(crate) fn ours(args: &Args, node: &Node) -> anyhow::Result<Self> {
        let files = TempDir::with_prefix("jds-load-")?;
        let (secret, public) = config::keys::generate()?;
        config::keys::write_new(&files.path().join("authority.key"), &secret)?;
        std::fs::write(files.path().join(CONFIG), toml(args, node))?;
        if args.store_shares > 0 {
            let dir = files.path().join(DATA);
            std::fs::create_dir(&dir)?;
            let at = At { tip: node.tip()?, height: node.height()? };
            kept::fill(&dir, args.store_shares, args.transactions, at)?;
        }
        let (mut ours, began) = Ours::spawn(jds_exe(args)?, files)?;
        let (started, declaration) = ours.starts(began, args.store_shares > 0)?;
        let templates = match args.templates {
            0 => None,
            _ => Some(ours.listens("template distribution server listening")?),
        };
        let mining = match args.mining {
            0 => None,
            _ => Some((
                // That of Stratum V2 comes first.
                ours.listens("mining server listening")?,
                ours.listens("mining server listening for Stratum V1")?,
            )),
        };
        let api = match args.solutions {
            0 => None,
            _ => Some(ours.listens("api listening")?),
        };
        let key: Secp256k1PublicKey =
            public.to_string().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let batch = args.share_batch;
        let target = |address| Target { name: "ours".into(), address, key: Some(key) };
        Ok(Self {
            name: "ours".into(),
            declaration: Some(target(declaration)),
            templates: templates.map(target),
            mining: mining.map(|(v2, v1)| MiningPorts { v2: target(v2), v1, batch }),
            api,
            process: Some(ProcessReader::of(ours.child.id())),
            started: Some(started),
            running: Running::Ours(ours),
        })
    }

    /// Kills ours (SIGKILL) and starts it again on what it left.
    pub(crate) fn killed_and_started(self) -> anyhow::Result<Option<Started>> {
        let Running::Ours(ours) = self.running else { return Ok(None) };
        let (mut again, began) = ours.again()?;
        Ok(Some(again.starts(began, true)?.0))
    }

    /// The reference's, which gives out no templates.
    pub(crate) fn reference(exe: &Path, node: &Node) -> anyhow::Result<Self> {
        let reference = Reference::start(exe, node)?;
        Ok(Self {
            name: "reference".into(),
            declaration: Some(reference.target()),
            templates: None,
            mining: None,
            api: None,
            process: Some(reference.process()),
            started: None,
            running: Running::Reference(reference),
        })
    }

    /// As the arguments say.
    pub(crate) fn elsewhere(args: &Args) -> Self {
        let key = args.key;
        let target = |address| Target { name: "server".into(), address, key };
        Self {
            name: "server".into(),
            declaration: args.address.map(target),
            templates: args.template_address.map(target),
            mining: args.mining_address.zip(args.sv1_address).map(|(v2, v1)| MiningPorts {
                v2: target(v2),
                v1,
                batch: args.share_batch,
            }),
            api: None,
            process: args.server_pid.map(ProcessReader::of),
            started: None,
            running: Running::Elsewhere,
        }
    }

    /// The last of what it has said that matters, as far as we can read it.
    pub(crate) fn log_end(&self) -> String {
        match &self.running {
            Running::Ours(ours) => {
                let log = ours.log_text();
                let troubles = log.lines().filter(|line| !line.contains(" INFO "));
                let mut last: Vec<_> = troubles.rev().take(LOG_LINES).collect();
                last.reverse();
                last.join("\n")
            }
            Running::Reference(reference) => reference.log_end(),
            Running::Elsewhere => String::new(),
        }
    }
}

impl Ours {
    /// Starts it in that directory, and says when.
    fn spawn(exe: PathBuf, files: TempDir) -> anyhow::Result<(Self, Instant)> {
        let (log, began) = (files.path().join("jds.log"), Instant::now());
        let child = Self::process(&exe, files.path(), &log)?;
        Ok((Self { exe, child, log, files }, began))
    }

    fn process(exe: &Path, dir: &Path, log: &Path) -> anyhow::Result<Child> {
        Command::new(exe)
            .arg("run")
            .arg("--config")
            .arg(dir.join(CONFIG))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .env_remove("RUST_LOG")
            .spawn()
            .with_context(|| format!("can not start {}", exe.display()))
    }

    /// Kills it, and starts another in its place.
    fn again(mut self) -> anyhow::Result<(Self, Instant)> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        self.child = Self::process(&self.exe, self.files.path(), &self.log)?;
        Ok((self, began))
    }

    /// Waits until it has started, and says where it takes declarations.
    fn starts(&mut self, began: Instant, has_api: bool) -> anyhow::Result<(Started, SocketAddr)> {
        let bytes = |name| {
            std::fs::metadata(self.files.path().join(DATA).join(name)).map_or(0, |file| file.len())
        };
        let (database_bytes, wal_bytes) = (bytes("jds.sqlite"), bytes("jds.sqlite-wal"));
        let declaration = self.listens("job declaration server listening")?;
        let listened_in = began.elapsed();
        let ready_in = match has_api {
            true => {
                let api = self.listens("api listening")?;
                let ready = wait::until_true("/readyz to say 200", START_WAIT, || is_ready(api));
                ready.with_context(|| self.log_text())?;
                Some(began.elapsed())
            }
            false => None,
        };
        let cpu = ProcessReader::of(self.child.id()).cpu()?;
        Ok((Started { listened_in, ready_in, cpu, database_bytes, wal_bytes }, declaration))
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the line of the log that names the port.
    fn listens(&mut self, what: &str) -> anyhow::Result<SocketAddr> {
        let listens = wait::until(&format!("our log to say {what:?}"), START_WAIT, || {
            let log = self.log_text();
            let line = log.lines().find(|line| line.contains(what))?;
            line.split_once("local_addr=")?.1.split_whitespace().next()?.parse().ok()
        });
        listens.with_context(|| self.log_text())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `/readyz` says that the server does its job.
fn is_ready(api: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(START_WAIT))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(READY_BYTES_MAX).read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn toml(args: &Args, node: &Node) -> String {
    let way = match args.source {
        Source::Rpc => String::new(),
        Source::Ipc => format!("source = \"ipc\"\nipc_socket = {:?}\n", node.ipc_socket()),
    };
    let templates = match args.templates {
        0 => String::new(),
        clients => format!(
            "[template_distribution]\nlisten = \"127.0.0.1:0\"\nmax_connections = {}\n",
            clients + PLACES_SPARE
        ),
    };
    let mining = match args.mining {
        0 => String::new(),
        miners => format!(
            "[mining]\nlisten = \"127.0.0.1:0\"\nsv1_listen = \"127.0.0.1:0\"\n\
             {EACH_HASH}share_batch_size = {}\nmax_connections = {}\n",
            args.share_batch,
            miners + PLACES_SPARE
        ),
    };
    // Metrics are asked for there, and whether it is ready.
    let api = match args.solutions > 0 || args.store_shares > 0 {
        false => "",
        true => "[api]\nlisten = \"127.0.0.1:0\"\n",
    };
    // In a soak the cache is full before the parts that are compared.
    let cache = match args.soak {
        true => format!("tx_cache_mb = {SOAK_CACHE_MB}\n"),
        false => String::new(),
    };
    format!(
        "network = \"regtest\"\n\
         data_dir = \"{DATA}\"\n\
         [authority]\n\
         secret_key_file = \"authority.key\"\n\
         [payout]\n\
         mode = \"pool\"\n\
         script = \"raw({script:x})\"\n\
         [[node]]\n\
         name = \"load\"\n\
         rpc_url = \"{url}\"\n\
         rpc_cookie_file = {cookie:?}\n\
         {way}\
         [job_declaration]\n\
         listen = \"127.0.0.1:0\"\n\
         max_connections = {places}\n\
         {cache}\
         {api}\
         {templates}\
         {mining}",
        script = node.mining_script(),
        url = node.rpc_url(),
        cookie = node.cookie_file(),
        places = args.declaring + PLACES_SPARE,
    )
}

/// The binary to start.
fn jds_exe(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(exe) = &args.jds {
        return Ok(exe.clone());
    }
    let own = std::env::current_exe().context("where this program is")?;
    let beside = own.with_file_name("jds");
    ensure!(
        beside.is_file(),
        "there is no {}: build it with `cargo build --release -p jds`, or name one with --jds",
        beside.display()
    );
    Ok(beside)
}
