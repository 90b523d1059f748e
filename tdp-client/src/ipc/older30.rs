//! A node with the interface as Bitcoin Core 30 publishes it, made up: it is told apart by what it lacks,
//! and used as far as it goes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize, serialize, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Block, BlockHash, Network, ScriptBuf, TxOut, Wtxid};
use capnp_types_30::capnp::Error;
use capnp_types_30::capnp_rpc::new_client;
use capnp_types_30::init_capnp::init;
use capnp_types_30::mining_capnp::{block_template, mining};
use capnp_types_30::proxy_capnp::{thread as node_thread, thread_map};

use super::older::{caller, serve};
use crate::error::Fault;
use crate::node::Caller;
use crate::outcome::SubmitOutcome;

const FEE_SAT: i64 = 1_234;
const SIGOP_COST: i64 = 8;
const VALUE_SAT: u64 = 5_000_001_234;

struct Init;
struct Threads;
struct Thread;
struct Mining;
struct Template;

/// A block of two transactions, the first of which is a coinbase with a witness commitment.
fn block() -> Block {
    let mut block = bitcoin::constants::genesis_block(Network::Regtest);
    let mut coinbase = block.txdata[0].clone();
    coinbase.output[0].value = Amount::from_sat(VALUE_SAT);
    coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: commitment() });
    let mut payment = block.txdata[0].clone();
    payment.input[0].previous_output = bitcoin::OutPoint::new(payment.compute_txid(), 0);
    block.txdata = vec![coinbase, payment];
    block
}

fn commitment() -> ScriptBuf {
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend([7; 32]);
    script.into()
}

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
        params: init::MakeMiningParams,
        mut results: init::MakeMiningResults,
    ) -> Result<(), Error> {
        params.get()?.get_context()?.get_thread()?;
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
        let params = params.get()?;
        params.get_context()?.get_thread()?;
        if params.get_timeout() <= 0.0 {
            return Err(Error::failed("no time to wait".into()));
        }
        let mut next = params.get_current_tip()?.to_vec();
        next.reverse();
        results.get().init_result().set_hash(&next);
        Ok(())
    }

    async fn create_new_block(
        self: Rc<Self>,
        params: mining::CreateNewBlockParams,
        mut results: mining::CreateNewBlockResults,
    ) -> Result<(), Error> {
        // What is not set is nothing here, and not the node's default.
        let options = params.get()?.get_options()?;
        let (reserved, sigops) = (
            options.get_block_reserved_weight(),
            options.get_coinbase_output_max_additional_sigops(),
        );
        if !options.get_use_mempool() || reserved < 2_000 || sigops == 0 {
            return Err(Error::failed(format!("reserved {reserved}, sigops {sigops}")));
        }
        results.get().set_result(new_client(Template));
        Ok(())
    }

    async fn check_block(
        self: Rc<Self>,
        params: mining::CheckBlockParams,
        mut results: mining::CheckBlockResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let options = params.get_options()?;
        if options.get_check_pow() || !options.get_check_merkle_root() {
            return Err(Error::failed("the wrong checks".into()));
        }
        let block: Block = deserialize(params.get_block()?)
            .map_err(|error| Error::failed(format!("std::exception: {error}")))?;
        let is_good = block.txdata.len() == 2;
        results.get().set_result(is_good);
        results.get().set_reason(if is_good { "" } else { "bad-txnmrklroot" });
        Ok(())
    }
}

impl block_template::Server for Template {
    async fn get_block(
        self: Rc<Self>,
        params: block_template::GetBlockParams,
        mut results: block_template::GetBlockResults,
    ) -> Result<(), Error> {
        params.get()?.get_context()?.get_thread()?;
        results.get().set_result(&serialize(&block()));
        Ok(())
    }

    async fn get_tx_fees(
        self: Rc<Self>,
        params: block_template::GetTxFeesParams,
        mut results: block_template::GetTxFeesResults,
    ) -> Result<(), Error> {
        params.get()?.get_context()?.get_thread()?;
        results.get().init_result(1).set(0, FEE_SAT);
        Ok(())
    }

    async fn get_tx_sigops(
        self: Rc<Self>,
        params: block_template::GetTxSigopsParams,
        mut results: block_template::GetTxSigopsResults,
    ) -> Result<(), Error> {
        params.get()?.get_context()?.get_thread()?;
        results.get().init_result(1).set(0, SIGOP_COST);
        Ok(())
    }

    async fn get_coinbase_tx(
        self: Rc<Self>,
        params: block_template::GetCoinbaseTxParams,
        mut results: block_template::GetCoinbaseTxResults,
    ) -> Result<(), Error> {
        params.get()?.get_context()?.get_thread()?;
        results.get().set_result(&serialize(&block().txdata[0]));
        Ok(())
    }
}

/// A caller of such a node; the directory is its socket's.
fn node_of_30() -> (tempfile::TempDir, Caller) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    serve(&socket, || new_client::<init::Client, _>(Init).client);
    let caller = caller(&socket);
    (dir, caller)
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn its_tip_templates_and_judgements_are_used() {
    let (_dir, caller) = node_of_30();
    let Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let known = BlockHash::from_byte_array(std::array::from_fn(|i| i as u8));
    assert_eq!(client.wait_tip_changed(known).unwrap().to_byte_array()[0], 31);

    let template = client.block_template().unwrap();
    assert_eq!(template.block, serialize(&block()));
    assert_eq!((template.fees_sat, template.sigop_costs), (vec![FEE_SAT], vec![SIGOP_COST]));
    assert_eq!(template.coinbase_value_sat, VALUE_SAT as i64);
    let outputs: Vec<_> = block().txdata[0].output.iter().map(serialize).collect();
    assert_eq!(template.required_outputs, outputs);

    assert_eq!(client.check_block(&serialize_hex(&block()), SOON).unwrap(), None);
    let other = bitcoin::constants::genesis_block(Network::Regtest);
    let reason = client.check_block(&serialize_hex(&other), SOON).unwrap();
    assert_eq!(reason.as_deref(), Some("bad-txnmrklroot"));
}

#[test]
fn what_it_lacks_is_told_and_ends_nothing() {
    let (_dir, caller) = node_of_30();
    let error = caller.ask::<String>("getbestblockhash", [(); 0]).unwrap_err();
    assert_eq!(*error.fault(), Fault::IpcNeedsRpc);
    let outcome = caller.submit(
        &serialize(&block()),
        Instant::now() + SOON,
        &(std::sync::Arc::new(|| {}) as _),
    );
    let SubmitOutcome::Transient { error } = outcome else { panic!("nothing was sent") };
    assert_eq!(*error.fault(), Fault::IpcNeedsRpc);
    let Caller::Ipc(client) = &caller else { panic!("asked over IPC") };
    let error = client.transactions(vec![Wtxid::all_zeros()], SOON).unwrap_err();
    assert!(matches!(error.fault(), Fault::Unimplemented { .. }), "{error}");
    client.block_template().unwrap();
}
