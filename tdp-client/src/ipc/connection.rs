//! The connection itself: made once for all who wait for it, kept until the node ends it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bitcoin_capnp_types::capnp::{Error, ErrorKind};
use bitcoin_capnp_types::capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork};
use bitcoin_capnp_types::init_capnp::init;
use bitcoin_capnp_types::mining_capnp::mining;
use bitcoin_capnp_types::proxy_capnp::{context, thread, thread_map};
use bitcoin_capnp_types::rpc_capnp::rpc;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use super::link::LineId;
use crate::error::Fault;
use crate::rpc::excerpt;

/// What the node is asked to call the thread that lets us in.
const FIRST_THREAD: &str = "jds";

/// The connection, or the attempt to make it.
pub(super) struct Hub {
    node: Arc<str>,
    socket: Arc<Path>,
    attempt: RefCell<Option<Attempt>>,
}

/// Its outcome, once there is one.
type Attempt = watch::Receiver<Option<Result<Rc<Connection>, Fault>>>;

/// What the node has given us.
pub(super) struct Connection {
    pub(super) mining: mining::Client,
    /// Since Bitcoin Core 32.
    pub(super) rpc: Option<rpc::Client>,
    threads: thread_map::Client,
    /// A thread of the node for each line: calls that share one wait for each other.
    lines: RefCell<HashMap<LineId, thread::Client>>,
    alive: Rc<Cell<bool>>,
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
}

impl Hub {
    pub(super) fn new(node: Arc<str>, socket: Arc<Path>) -> Self {
        Self { node, socket, attempt: RefCell::new(None) }
    }

    /// The connection that is there, or a new one.
    ///
    /// An attempt is never given up: a node that finds its caller gone may stop listening. One that
    /// hangs, or still loads its chain, lets us in when it is ready.
    pub(super) async fn session(&self, line: LineId) -> Result<Session, Fault> {
        let mut attempt = self.attempt();
        let ended = attempt.wait_for(Option::is_some).await;
        let outcome = ended.ok().and_then(|outcome| outcome.clone());
        let lost = || Fault::Worker { reason: "its attempt to connect has ended".into() };
        let connection = outcome.unwrap_or_else(|| Err(lost()))?;
        let thread = connection.thread(line).await?;
        Ok(Session { connection, thread })
    }

    /// The attempt that goes on or has succeeded, or a new one.
    fn attempt(&self) -> Attempt {
        let mut current = self.attempt.borrow_mut();
        let usable = current.as_ref().filter(|attempt| match &*attempt.borrow() {
            None => attempt.has_changed().is_ok(),
            Some(Ok(connection)) => connection.alive.get(),
            Some(Err(_)) => false,
        });
        if let Some(attempt) = usable {
            return attempt.clone();
        }
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
        *current = Some(attempt.clone());
        attempt
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
        let (reader, writer) = stream.into_split();
        let reader = tokio::io::BufReader::new(reader).compat();
        let writer = tokio::io::BufWriter::new(writer).compat_write();
        let network = VatNetwork::new(reader, writer, Side::Client, Default::default());
        let mut system = RpcSystem::new(Box::new(network), None);
        let init: init::Client = system.bootstrap(Side::Server);
        let alive = Rc::new(Cell::new(true));
        let alive_of = alive.clone();
        spawn_local(async move {
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
        Ok(Self { mining, rpc, threads, lines: RefCell::default(), alive })
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
) -> Result<(mining::Client, Option<rpc::Client>), Fault> {
    let failed = fault_of("makeMining");
    let mut request = init.make_mining_request();
    request.get().get_context().map_err(failed)?.set_thread(thread.clone());
    // A node that still loads its chain answers when it has.
    let answer = request.send().promise.await.map_err(|error| match failed(error) {
        Fault::Unimplemented { .. } => Fault::IpcTooOld,
        fault => fault,
    })?;
    let mining = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;

    let failed = fault_of("makeRpc");
    let mut request = init.make_rpc_request();
    request.get().get_context().map_err(failed)?.set_thread(thread.clone());
    let rpc = match request.send().promise.await.map_err(failed) {
        Ok(answer) => Some(answer.get().and_then(|answer| answer.get_result()).map_err(failed)?),
        Err(Fault::Unimplemented { .. }) => None,
        Err(fault) => return Err(fault),
    };
    Ok((mining, rpc))
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
