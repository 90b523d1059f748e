//! The connection itself: made once for all who wait for it, kept until the node ends it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin_capnp_types::capnp::{Error, ErrorKind};
use bitcoin_capnp_types::capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork};
use bitcoin_capnp_types::init_capnp::init;
use bitcoin_capnp_types::mining_capnp::mining;
use bitcoin_capnp_types::proxy_capnp::{context, thread, thread_map};
use bitcoin_capnp_types::rpc_capnp::rpc;
use capnp_types_30::init_capnp::init as init30;
use capnp_types_30::mining_capnp::mining as mining30;
use capnp_types_30::proxy_capnp::{context as context30, thread as thread30};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use super::link::LineId;
use crate::error::Fault;
use crate::limits::{IPC_LEFT_BLIND_PAUSE_MS, IPC_LEFT_PAUSE_MS};
use crate::rpc::excerpt;

/// What the node is asked to call the thread that lets us in.
const FIRST_THREAD: &str = "jds";

/// The connection, or the attempt to make it.
pub(super) struct Hub {
    node: Arc<str>,
    socket: Arc<Path>,
    attempt: RefCell<Option<Attempt>>,
    left: RefCell<Option<Left>>,
}

/// Its outcome, once there is one.
type Attempt = watch::Receiver<Option<Result<Rc<Connection>, Fault>>>;

/// Which process listens, and on which file: each start makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    process: Option<rustix::process::Pid>,
    file: Option<FileId>,
}

/// Device, number, and time of the last change (seconds, nanoseconds).
type FileId = (u64, u64, i64, i64);

impl Peer {
    fn of(stream: &UnixStream, socket: &Path) -> Self {
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Self { process: process.and_then(rustix::process::Pid::from_raw), file: file_id(socket) }
    }
}

fn file_id(socket: &Path) -> Option<FileId> {
    let file = std::fs::metadata(socket).ok()?;
    Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}

/// A node that a connection has ended with.
#[derive(Debug, Clone, Copy)]
struct Left {
    peer: Peer,
    since: Instant,
}

impl Left {
    fn now(peer: Peer) -> Self {
        Self { peer, since: Instant::now() }
    }

    /// True as long as it is that very node that would be connected to, about to end.
    fn is_ending(&self, socket: &Path) -> bool {
        if file_id(socket) != self.peer.file {
            return false;
        }
        let (runs, pause_ms) = match self.peer.process {
            Some(process) => {
                let gone = rustix::process::test_kill_process(process);
                (gone != Err(rustix::io::Errno::SRCH), IPC_LEFT_PAUSE_MS)
            }
            None => (true, IPC_LEFT_BLIND_PAUSE_MS),
        };
        runs && self.since.elapsed() < Duration::from_millis(pause_ms)
    }
}

/// The interface, as the node has it. All that one version lacks and others have is found out by asking.
pub(super) enum Mining {
    /// Of Bitcoin Core 31 and newer.
    Since31(mining::Client),
    /// Of Bitcoin Core 30: other numbers, other contents.
    Of30(mining30::Client),
}

impl Mining {
    /// For methods that Bitcoin Core 30 does not have.
    pub(super) fn since31(&self, method: &'static str) -> Result<&mining::Client, Fault> {
        match self {
            Self::Since31(mining) => Ok(mining),
            Self::Of30(_) => Err(Fault::Unimplemented { method }),
        }
    }
}

/// What the node has given us.
pub(super) struct Connection {
    pub(super) mining: Mining,
    /// Since Bitcoin Core 32.
    pub(super) rpc: Option<rpc::Client>,
    threads: thread_map::Client,
    /// A thread of the node for each line: calls that share one wait for each other.
    lines: RefCell<HashMap<LineId, thread::Client>>,
    alive: Rc<Cell<bool>>,
    pub(super) socket: Arc<Path>,
    peer: Peer,
    /// What moves its messages; ended when nobody has a call any more.
    system: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.system.abort();
    }
}

/// The connection, and the node's thread for one line.
pub(super) struct Session {
    pub(super) connection: Rc<Connection>,
    thread: thread::Client,
}

impl Session {
    /// Fills in which thread of the node makes the call.
    pub(super) fn set(&self, mut context: context::Builder<'_>) {
        context.set_thread(self.thread.clone());
    }

    /// The same, where the call is one of Bitcoin Core 30.
    pub(super) fn set30(&self, mut context: context30::Builder<'_>) {
        context.set_thread(thread30::Client { client: self.thread.client.clone() });
    }
}

impl Hub {
    pub(super) fn new(node: Arc<str>, socket: Arc<Path>) -> Self {
        Self { node, socket, attempt: RefCell::default(), left: RefCell::default() }
    }

    /// The connection that is there, or a new one.
    ///
    /// An attempt is never given up: a node that finds its caller gone may stop listening. One that
    /// hangs, or still loads its chain, lets us in when it is ready.
    pub(super) async fn session(&self, line: LineId) -> Result<Session, Fault> {
        let mut attempt = self.attempt()?;
        let ended = attempt.wait_for(Option::is_some).await;
        let outcome = ended.ok().and_then(|outcome| outcome.clone());
        let lost = || Fault::Worker { reason: "its attempt to connect has ended".into() };
        let connection = outcome.unwrap_or_else(|| Err(lost()))?;
        let thread = connection.thread(line).await?;
        Ok(Session { connection, thread })
    }

    /// The attempt that goes on or has succeeded, or a new one.
    fn attempt(&self) -> Result<Attempt, Fault> {
        let mut current = self.attempt.borrow_mut();
        if let Some(attempt) = current.take() {
            let usable = match &*attempt.borrow() {
                None => attempt.has_changed().is_ok(),
                Some(Ok(connection)) if connection.alive.get() => true,
                Some(Ok(connection)) => {
                    *self.left.borrow_mut() = Some(Left::now(connection.peer));
                    false
                }
                Some(Err(_)) => false,
            };
            if usable {
                return Ok(current.insert(attempt).clone());
            }
        }
        if self.left.borrow().is_some_and(|left| left.is_ending(&self.socket)) {
            return Err(Fault::ShuttingDown { path: self.socket.clone() });
        }
        *self.left.borrow_mut() = None;
        let (outcome, attempt) = watch::channel(None);
        let (node, socket) = (self.node.clone(), self.socket.clone());
        spawn_local(async move {
            let connection = Connection::open(&socket).await;
            if let Ok(connection) = &connection {
                let rpc = connection.rpc.is_some();
                tracing::debug!(node = &*node, rpc, "connected to the node's IPC");
            }
            let _ = outcome.send(Some(connection.map(Rc::new)));
        });
        Ok(current.insert(attempt).clone())
    }
}

impl Connection {
    async fn open(socket: &Arc<Path>) -> Result<Self, Fault> {
        let stream = UnixStream::connect(&**socket).await.map_err(|error| {
            let (path, reason) = (socket.clone(), error.to_string());
            match error.kind() {
                io::ErrorKind::PermissionDenied => Fault::SocketForbidden { path, reason },
                _ => Fault::NoSocket { path, reason },
            }
        })?;
        let peer = Peer::of(&stream, socket);
        let (reader, writer) = stream.into_split();
        let reader = tokio::io::BufReader::new(reader).compat();
        let writer = tokio::io::BufWriter::new(writer).compat_write();
        let network = VatNetwork::new(reader, writer, Side::Client, Default::default());
        let mut system = RpcSystem::new(Box::new(network), None);
        let init: init::Client = system.bootstrap(Side::Server);
        let alive = Rc::new(Cell::new(true));
        let alive_of = alive.clone();
        let system = spawn_local(async move {
            if let Err(error) = system.await {
                tracing::debug!(%error, "the node's IPC connection has ended");
            }
            alive_of.set(false);
        });

        let construct = fault_of("construct");
        let answer = init.construct_request().send().promise.await.map_err(construct)?;
        let threads = answer.get().and_then(|answer| answer.get_thread_map()).map_err(construct)?;
        let first = new_thread(&threads, FIRST_THREAD).await?;
        let (mining, rpc) = interfaces(&init, &first).await?;
        let (lines, socket) = (RefCell::default(), socket.clone());
        Ok(Self { mining, rpc, threads, lines, alive, socket, peer, system })
    }

    /// Makes no new call; it ends when those that were made have been answered.
    pub(super) fn leave(&self) {
        self.alive.set(false);
    }

    async fn thread(&self, line: LineId) -> Result<thread::Client, Fault> {
        let known = self.lines.borrow().get(&line).cloned();
        if let Some(thread) = known {
            return Ok(thread);
        }
        let thread = new_thread(&self.threads, line.name).await?;
        self.lines.borrow_mut().insert(line, thread.clone());
        Ok(thread)
    }
}

async fn new_thread(threads: &thread_map::Client, name: &str) -> Result<thread::Client, Fault> {
    let failed = fault_of("makeThread");
    let mut request = threads.make_thread_request();
    request.get().set_name(name);
    let answer = request.send().promise.await.map_err(failed)?;
    answer.get().and_then(|answer| answer.get_result()).map_err(failed)
}

/// What the node offers of what we use. Which version it is shows in what it has.
async fn interfaces(
    init: &init::Client,
    thread: &thread::Client,
) -> Result<(Mining, Option<rpc::Client>), Fault> {
    let failed = fault_of("makeMining");
    let mut request = init.make_mining_request();
    request.get().get_context().map_err(failed)?.set_thread(thread.clone());
    // A node that still loads its chain answers when it has.
    let mining = match request.send().promise.await.map_err(failed) {
        Ok(answer) => answer.get().and_then(|answer| answer.get_result()).map_err(failed)?,
        Err(Fault::Unimplemented { .. }) => {
            return Ok((interface_of_30(init, thread).await?, None));
        }
        Err(fault) => return Err(fault),
    };

    let failed = fault_of("makeRpc");
    let mut request = init.make_rpc_request();
    request.get().get_context().map_err(failed)?.set_thread(thread.clone());
    let rpc = match request.send().promise.await.map_err(failed) {
        Ok(answer) => Some(answer.get().and_then(|answer| answer.get_result()).map_err(failed)?),
        Err(Fault::Unimplemented { .. }) => None,
        Err(fault) => return Err(fault),
    };
    Ok((Mining::Since31(mining), rpc))
}

/// The same of a node that has no [`interfaces`] of today.
async fn interface_of_30(init: &init::Client, thread: &thread::Client) -> Result<Mining, Fault> {
    let failed = fault_of("makeMining");
    let init = init30::Client { client: init.client.clone() };
    let mut request = init.make_mining_request();
    let mut context = request.get().get_context().map_err(failed)?;
    context.set_thread(thread30::Client { client: thread.client.clone() });
    let answer = request.send().promise.await.map_err(|error| match failed(error) {
        Fault::Unimplemented { .. } => Fault::IpcTooOld,
        fault => fault,
    })?;
    let mining = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    Ok(Mining::Of30(mining))
}

/// What a failed call of this method is.
pub(super) fn fault_of(method: &'static str) -> impl Fn(Error) -> Fault + Copy {
    move |error| match error.kind {
        ErrorKind::Unimplemented => Fault::Unimplemented { method },
        ErrorKind::Disconnected => Fault::ConnectionLost { method, reason: excerpt(&error.extra) },
        ErrorKind::Failed | ErrorKind::Overloaded => {
            Fault::Remote { method, reason: excerpt(&error.extra) }
        }
        _ => Fault::Malformed { method, reason: excerpt(&error.to_string()) },
    }
}
