//! What a node without some of the methods is to us. Such nodes are made up here, with the interface as
//! Bitcoin Core 31 publishes it; for 30 see [`super::older30`].

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use bitcoin::hashes::Hash as _;
use capnp_types_31::capnp::{self, Error};
use capnp_types_31::capnp_rpc::{
    RpcSystem, new_client, rpc_twoparty_capnp::Side, twoparty::VatNetwork,
};
use capnp_types_31::init_capnp::init;
use capnp_types_31::mining_capnp::mining;
use capnp_types_31::proxy_capnp::{thread as node_thread, thread_map};
use tokio::net::UnixListener;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::error::Fault;
use crate::node::Way;
use crate::outcome::SubmitOutcome;
use crate::settings::IpcSettings;

struct Init {
    has_mining: bool,
}
struct Threads;
struct Thread;
/// Has `waitTipChanged` and fails in `checkBlock`; what else there is in 31 is not called.
struct Mining;

impl init::Server for Init {
    async fn construct(
        self: Rc<Self>,
        _: init::ConstructParams,
        mut results: init::ConstructResults,
    ) -> Result<(), Error> {
        results.get().set_thread_map(new_client(Threads));
        Ok(())
    }

    async fn make_mining(
        self: Rc<Self>,
        _: init::MakeMiningParams,
        mut results: init::MakeMiningResults,
    ) -> Result<(), Error> {
        if !self.has_mining {
            return Err(Error::unimplemented("makeMining".into()));
        }
        results.get().set_result(new_client(Mining));
        Ok(())
    }
}

impl thread_map::Server for Threads {
    async fn make_thread(
        self: Rc<Self>,
        _: thread_map::MakeThreadParams,
        mut results: thread_map::MakeThreadResults,
    ) -> Result<(), Error> {
        results.get().set_result(new_client(Thread));
        Ok(())
    }
}

impl node_thread::Server for Thread {}

impl mining::Server for Mining {
    async fn wait_tip_changed(
        self: Rc<Self>,
        params: mining::WaitTipChangedParams,
        mut results: mining::WaitTipChangedResults,
    ) -> Result<(), Error> {
        let known = params.get()?.get_current_tip()?;
        let mut next = known.to_vec();
        next.reverse();
        results.get().init_result().set_hash(&next);
        Ok(())
    }

    async fn check_block(
        self: Rc<Self>,
        _: mining::CheckBlockParams,
        _: mining::CheckBlockResults,
    ) -> Result<(), Error> {
        Err(Error::failed("remote exception: std::exception: of some kind".into()))
    }
}

/// Serves one connection after the other, on a thread of its own that ends with the process.
fn node(socket: &Path, has_mining: bool) {
    serve(socket, move || new_client::<init::Client, _>(Init { has_mining }).client);
}

/// The same for a node of any version, which gives everybody who connects what `init` makes.
pub(crate) fn serve(socket: &Path, init: impl Fn() -> capnp::capability::Client + Send + 'static) {
    let (socket, ready) = (socket.to_owned(), std::sync::mpsc::channel());
    let (bound, wait) = ready;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = UnixListener::bind(socket).unwrap();
            bound.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (reader, writer) = stream.into_split();
                let reader = tokio::io::BufReader::new(reader).compat();
                let writer = writer.compat_write();
                let options = capnp::message::ReaderOptions::default();
                let network = VatNetwork::new(reader, writer, Side::Server, options);
                RpcSystem::new(Box::new(network), Some(init())).await.ok();
            }
        });
    });
    wait.recv().unwrap();
}

/// A caller of such a node, without RPC beside it.
pub(crate) fn caller(socket: &Path) -> crate::node::Caller {
    let settings = IpcSettings {
        name: "old".into(),
        socket: socket.to_owned(),
        network: Network::Regtest,
        rpc: None,
    };
    Way::ipc(settings).unwrap().caller("test")
}

#[test]
fn without_rpc_in_the_ipc_and_beside_it_the_setting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    node(&socket, true);
    let caller = caller(&socket);
    let error = caller.ask::<String>("getbestblockhash", [(); 0]).unwrap_err();
    assert!(error.is_persistent());
    assert_eq!(*error.fault(), Fault::IpcNeedsRpc);
    assert!(error.to_string().contains("set rpc_url and rpc_cookie_file"), "{error}");

    // What there is of it works all the same, on the same connection.
    let crate::node::Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let known = bitcoin::BlockHash::from_byte_array(std::array::from_fn(|i| i as u8));
    let next = client.wait_tip_changed(known).unwrap();
    assert_eq!(next.to_byte_array()[0], 31);
}

#[test]
fn an_exception_ends_its_own_call() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    node(&socket, true);
    let caller = caller(&socket);
    let crate::node::Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let genesis = bitcoin::constants::genesis_block(Network::Regtest);
    let hex = bitcoin::consensus::encode::serialize_hex(&genesis);
    for _ in 0..2 {
        let error = client.check_block(&hex, Duration::from_secs(10)).unwrap_err();
        assert!(matches!(error.fault(), Fault::Remote { method: "checkBlock", .. }), "{error}");
        assert!(!error.is_persistent());
        client.wait_tip_changed(genesis.block_hash()).unwrap();
    }
    // A block that nobody can read is no trouble of the node's.
    let reason = client.check_block("00", Duration::from_secs(10)).unwrap();
    assert_eq!(reason.as_deref(), Some("Block decode failed"));
}

/// Bitcoin Core 31 has no `submitBlock`; without RPC the block has not left us.
#[test]
fn a_block_that_can_not_be_submitted_is_not_lost_and_not_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    node(&socket, true);
    let deadline = Instant::now() + Duration::from_secs(10);
    let SubmitOutcome::Transient { error } =
        caller(&socket).submit(&[0], deadline, &(std::sync::Arc::new(|| {}) as _))
    else {
        panic!("nothing was sent");
    };
    assert_eq!(*error.fault(), Fault::IpcNeedsRpc);
}

/// Nor has it a way to look transactions up: that is known after one question, and nothing else is
/// worse for it.
#[test]
fn transactions_that_can_not_be_looked_up_are_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    node(&socket, true);
    let caller = caller(&socket);
    let crate::node::Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let wtxid = bitcoin::Wtxid::from_byte_array([1; 32]);
    let error = client.transactions(vec![wtxid], Duration::from_secs(10)).unwrap_err();
    let method = "getTransactionsByWitnessID";
    assert_eq!(*error.fault(), Fault::Unimplemented { method });
    client.wait_tip_changed(bitcoin::BlockHash::from_byte_array([2; 32])).unwrap();
}

#[test]
fn a_version_whose_ipc_we_do_not_speak_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    node(&socket, false);
    let error = caller(&socket).ask::<String>("getbestblockhash", [(); 0]).unwrap_err();
    assert!(error.is_persistent());
    assert_eq!(*error.fault(), Fault::IpcTooOld);
}

/// A node that takes the connection and says nothing: each call ends at its deadline, the next ones
/// at once, and there is one connection all the while.
#[test]
fn a_node_that_hangs_gets_one_connection_and_one_call() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let caller = caller(&socket);
    let crate::node::Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let short = Duration::from_millis(100);
    let error = client.check_block("00", short).unwrap_err();
    assert_eq!(*error.fault(), Fault::TimedOut { method: "checkBlock" });
    for _ in 0..3 {
        let error = client.check_block("00", short).unwrap_err();
        assert_eq!(*error.fault(), Fault::Busy { method: "checkBlock" });
    }
    listener.set_nonblocking(true).unwrap();
    let first = listener.accept().unwrap();
    let second = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock, "another connection");
    // When it leaves, there is a new one.
    drop(first);
    listener.set_nonblocking(false).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = client.check_block("00", short) {
        assert!(Instant::now() < deadline, "waited for another connection: {error}");
        if matches!(error.fault(), Fault::TimedOut { .. }) {
            break;
        }
    }
    listener.accept().unwrap();
}
