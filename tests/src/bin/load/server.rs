//! The server that is measured: ours, the reference's, or one that runs already.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jds_tests::bench::{ProcessReader, Reference, Target};
use jds_wire::Secp256k1PublicKey;
use signet::{Node, wait};
use tempfile::TempDir;

use crate::args::{Args, Source};
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
    /// From the start of its process until it listened.
    pub(crate) started_in: Option<Duration>,
    running: Running,
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
    child: Child,
    log: PathBuf,
    _files: TempDir,
}

impl Server {
    /// Ours, with default settings but for the number of connections.
    pub(crate) fn ours(args: &Args, node: &Node) -> anyhow::Result<Self> {
        let files = TempDir::with_prefix("jds-load-")?;
        let (secret, public) = config::keys::generate()?;
        config::keys::write_new(&files.path().join("authority.key"), &secret)?;
        let (file, log) = (files.path().join("jds.toml"), files.path().join("jds.log"));
        std::fs::write(&file, toml(args, node))?;
        let exe = jds_exe(args)?;
        let output = File::create(&log)?;
        let began = Instant::now();
        let child = Command::new(&exe)
            .arg("run")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .env_remove("RUST_LOG")
            .spawn()
            .with_context(|| format!("can not start {}", exe.display()))?;
        let mut ours = Ours { child, log, _files: files };
        let declaration = ours.listens("job declaration server listening")?;
        let started_in = Some(began.elapsed());
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
            started_in,
            running: Running::Ours(ours),
        })
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
            started_in: None,
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
            started_in: None,
            running: Running::Elsewhere,
        }
    }

    /// The last of what it has said that matters, as far as we can read it.
    pub(crate) fn log_end(&self) -> String {
        match &self.running {
            Running::Ours(ours) => {
                let log = std::fs::read_to_string(&ours.log).unwrap_or_default();
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
    /// Waits for the line of the log that names the port.
    fn listens(&mut self, what: &str) -> anyhow::Result<SocketAddr> {
        let listens = wait::until(&format!("our log to say {what:?}"), START_WAIT, || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let line = log.lines().find(|line| line.contains(what))?;
            line.split_once("local_addr=")?.1.split_whitespace().next()?.parse().ok()
        });
        listens.with_context(|| std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let api = match args.solutions {
        0 => "",
        _ => "[api]\nlisten = \"127.0.0.1:0\"\n",
    };
    // In a soak the cache is full before the parts that are compared.
    let cache = match args.soak {
        true => format!("tx_cache_mb = {SOAK_CACHE_MB}\n"),
        false => String::new(),
    };
    format!(
        "network = \"regtest\"\n\
         data_dir = \"data\"\n\
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
