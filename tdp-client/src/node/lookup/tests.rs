//! A node that looks transactions up, as Bitcoin Core 32 does, and gives what it likes. It is made up.

use std::rc::Rc;
use std::sync::Mutex;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, Transaction};
use bitcoin_capnp_types::capnp::Error;
use bitcoin_capnp_types::capnp_rpc::new_client;
use bitcoin_capnp_types::init_capnp::init;
use bitcoin_capnp_types::mining_capnp::mining;
use bitcoin_capnp_types::proxy_capnp::{thread as node_thread, thread_map};

use super::*;
use crate::followed::SourceKind;
use crate::ipc::older::{caller, serve};

const SOON: Duration = Duration::from_secs(60);

/// What it gives for so many.
type Give = fn(usize) -> Vec<Vec<u8>>;

/// How many it was asked for, call by call.
type Asked = Arc<Mutex<Vec<usize>>>;

#[derive(Clone)]
struct Made {
    give: Give,
    asked: Asked,
}

struct Threads;
struct Thread;

impl init::Server for Made {
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
        results.get().set_result(new_client(Self::clone(&self)));
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

impl mining::Server for Made {
    async fn get_transactions_by_witness_i_d(
        self: Rc<Self>,
        params: mining::GetTransactionsByWitnessIDParams,
        mut results: mining::GetTransactionsByWitnessIDResults,
    ) -> Result<(), Error> {
        let count = params.get()?.get_wtxids()?.len() as usize;
        self.asked.lock().unwrap().push(count);
        let given = (self.give)(count);
        let mut list = results.get().init_result(given.len() as u32);
        for (index, raw) in (0..).zip(&given) {
            list.set(index, raw);
        }
        Ok(())
    }
}

/// What is found of these transactions, and how many the node was asked for, call by call.
fn asked_for(wtxids: Vec<Wtxid>, give: Give) -> (Result<Vec<Arc<Tx>>, NodeError>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    let asked = Asked::default();
    let made = Made { give, asked: Arc::clone(&asked) };
    serve(&socket, move || new_client::<init::Client, _>(made.clone()).client);
    let (kind, place) = (SourceKind::BitcoinCore, "there".into());
    let shared = Shared::new("new".into(), kind, place, Network::Regtest);
    let found = find(&shared, &caller(&socket), wtxids, Instant::now() + SOON);
    let asked = asked.lock().unwrap().clone();
    (found, asked)
}

fn wtxids(count: usize) -> Vec<Wtxid> {
    let numbers = (0..count as u64).map(|number| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Wtxid::from_byte_array(bytes)
    });
    numbers.collect()
}

fn small() -> Transaction {
    let mut tx = bitcoin::constants::genesis_block(Network::Regtest).txdata.remove(0);
    tx.input[0].previous_output.txid = tx.compute_txid();
    tx
}

#[test]
fn so_many_are_asked_for_and_so_many_at_a_time() {
    let mut wtxids = wtxids(LOOKUP_TXS_MAX + 7);
    wtxids[0] = small().compute_wtxid();
    wtxids[LOOKUP_TXS_MAX] = wtxids[0];
    let (found, asked) = asked_for(wtxids, |count| vec![serialize(&small()); count]);
    assert_eq!(found.unwrap().len(), 1, "each once, and nothing else");
    assert_eq!(asked.iter().sum::<usize>(), LOOKUP_TXS_MAX);
    let (last, full) = asked.split_last().unwrap();
    assert!(full.iter().all(|count| *count == LOOKUP_BATCH_TXS), "{asked:?}");
    assert_eq!(*last, LOOKUP_TXS_MAX % LOOKUP_BATCH_TXS);
}

/// The largest that a block could hold, and one of them is what was asked for: an answer that is as
/// large as any is taken, and then it is enough.
#[test]
fn after_more_than_a_block_holds_no_more_are_asked_for() {
    let mut wtxids = wtxids(LOOKUP_BATCH_TXS + 1);
    wtxids[LOOKUP_BATCH_TXS - 1] = small().compute_wtxid();
    let (found, asked) = asked_for(wtxids, |count| {
        let mut given = vec![vec![0; LOOKUP_BYTES_MAX]; count];
        given[count - 1] = serialize(&small());
        given
    });
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(asked, [LOOKUP_BATCH_TXS]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_taken() {
    let many = |_| vec![vec![0; LOOKUP_BYTES_MAX]; 2 * LOOKUP_BATCH_TXS];
    let (found, asked) = asked_for(wtxids(1), many);
    assert_eq!(asked, [1]);
    found.unwrap_err();
}
