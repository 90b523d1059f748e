//! The calls that we make, each as the node's interface has it.

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Wtxid};

use super::calls30;
use super::connection::{Mining, Session, fault_of};
use crate::error::Fault;
use crate::node::OnSent;
use crate::rpc::excerpt;

/// What a node would mine next, as its IPC tells it.
#[derive(Debug)]
pub(crate) struct RawBlockTemplate {
    /// The whole block, serialised, with a coinbase that stands in for the real one.
    pub(crate) block: Vec<u8>,
    /// Fees of the transactions, satoshi.
    pub(crate) fees_sat: Vec<i64>,
    /// Their sigop costs.
    pub(crate) sigop_costs: Vec<i64>,
    /// Subsidy and fees, satoshi.
    pub(crate) coinbase_value_sat: i64,
    /// Outputs that the coinbase has to have, serialised: the witness commitment.
    pub(crate) required_outputs: Vec<Vec<u8>>,
}

/// Waits in the node until its tip is another than `known`, or the time is over. The tip.
pub(super) async fn wait_tip_changed(
    session: Session,
    known: BlockHash,
    timeout_ms: u64,
) -> Result<BlockHash, Fault> {
    let failed = fault_of("waitTipChanged");
    let mining = match &session.connection.mining {
        Mining::Since31(mining) => mining,
        Mining::Of30(mining) => {
            return calls30::wait_tip_changed(&session, mining, known, timeout_ms).await;
        }
    };
    let mut request = mining.wait_tip_changed_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    params.set_current_tip(known.as_byte_array());
    params.set_timeout(timeout_ms as f64);
    let answer = request.send().promise.await.map_err(failed)?;
    let tip = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    new_tip(&session, tip.get_hash().map_err(failed)?)
}

/// The answer to `waitTipChanged`.
pub(super) fn new_tip(session: &Session, hash: &[u8]) -> Result<BlockHash, Fault> {
    if hash.is_empty() {
        // Only a node that shuts down has no tip to tell of.
        session.connection.leave();
        let path = session.connection.socket.clone();
        return Err(Fault::ShuttingDown { path });
    }
    let method = "waitTipChanged";
    BlockHash::from_slice(hash)
        .map_err(|error| Fault::Malformed { method, reason: error.to_string() })
}

/// Has the node make a template of its mempool, and fetches all of it.
pub(super) async fn block_template(session: Session) -> Result<RawBlockTemplate, Fault> {
    let failed = fault_of("createNewBlock");
    let mining = match &session.connection.mining {
        Mining::Since31(mining) => mining,
        Mining::Of30(mining) => return calls30::block_template(&session, mining).await,
    };
    let mut request = mining.create_new_block_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    params.reborrow().get_options().map_err(failed)?;
    // With it the node would hold us up for as long as it downloads the chain, in a call that can
    // not be told when to end. We have asked for that before.
    params.set_cooldown(false);
    let answer = request.send().promise.await.map_err(failed)?;
    // Gone at the node as soon as it is dropped here.
    let template = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;

    let failed = fault_of("getBlock");
    let mut request = template.get_block_request();
    session.set(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let block = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?.to_vec();

    let failed = fault_of("getTxFees");
    let mut request = template.get_tx_fees_request();
    session.set(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let fees = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    let fees_sat = fees.iter().collect();

    let failed = fault_of("getTxSigops");
    let mut request = template.get_tx_sigops_request();
    session.set(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let sigops = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    let sigop_costs = sigops.iter().collect();

    let failed = fault_of("getCoinbaseTx");
    let mut request = template.get_coinbase_tx_request();
    session.set(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let coinbase = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    let outputs = coinbase.get_required_outputs().map_err(failed)?;
    let required_outputs: Result<_, _> =
        outputs.iter().map(|output| output.map(<[u8]>::to_vec)).collect();
    Ok(RawBlockTemplate {
        block,
        fees_sat,
        sigop_costs,
        coinbase_value_sat: coinbase.get_block_reward_remaining(),
        required_outputs: required_outputs.map_err(failed)?,
    })
}

/// What the node says of a block: `None` when it is good, or its reason, empty if it has none.
pub(super) type Judgement = Option<String>;

/// Asks whether a block would be valid but for its proof of work.
pub(super) async fn check_block(session: Session, block: Vec<u8>) -> Result<Judgement, Fault> {
    let failed = fault_of("checkBlock");
    let mining = match &session.connection.mining {
        Mining::Since31(mining) => mining,
        Mining::Of30(mining) => return calls30::check_block(mining, block).await,
    };
    let mut request = mining.check_block_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    params.set_block(&block);
    let mut options = params.get_options().map_err(failed)?;
    options.set_check_merkle_root(true);
    options.set_check_pow(false);
    let answer = request.send().promise.await.map_err(failed)?;
    let answer = answer.get().map_err(failed)?;
    let reason = answer.get_reason().map_err(failed)?;
    Ok(judgement(answer.get_result(), reason.as_bytes()))
}

/// What the node said of a block.
pub(super) fn judgement(is_good: bool, reason: &[u8]) -> Judgement {
    (!is_good).then(|| excerpt(&String::from_utf8_lossy(reason)))
}

/// Hands in a block.
pub(super) async fn submit_block(
    session: Session,
    block: Vec<u8>,
    on_sent: OnSent,
) -> Result<Judgement, Fault> {
    const METHOD: &str = "submitBlock";
    let failed = fault_of(METHOD);
    let mut request = session.connection.mining.since31(METHOD)?.submit_block_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    params.set_block(&block);
    let answer = request.send().promise;
    on_sent();
    let answer = answer.await.map_err(failed)?;
    let answer = answer.get().map_err(failed)?;
    let reason = answer.get_reason().map_err(failed)?;
    Ok(judgement(answer.get_result(), reason.as_bytes()))
}

/// Transactions of the mempool, one for each wtxid, empty where the node does not have it.
pub(super) async fn transactions(
    session: Session,
    wtxids: Vec<Wtxid>,
) -> Result<Vec<Vec<u8>>, Fault> {
    const METHOD: &str = "getTransactionsByWitnessID";
    let failed = fault_of(METHOD);
    let mining = session.connection.mining.since31(METHOD)?;
    let mut request = mining.get_transactions_by_witness_i_d_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    // As many as there are, which are few.
    let mut list = params.init_wtxids(wtxids.len() as u32);
    for (index, wtxid) in (0..).zip(&wtxids) {
        list.set(index, wtxid.as_byte_array());
    }
    let answer = request.send().promise.await.map_err(failed)?;
    let txs = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    txs.iter().map(|tx| tx.map(<[u8]>::to_vec).map_err(failed)).collect()
}

/// One JSON-RPC request, answered without HTTP. The answer's text.
pub(super) async fn execute_rpc(session: Session, request_json: String) -> Result<String, Fault> {
    const METHOD: &str = "executeRpc";
    let failed = fault_of(METHOD);
    let rpc = session.connection.rpc.as_ref().ok_or(Fault::Unimplemented { method: METHOD })?;
    let mut request = rpc.execute_rpc_request();
    let mut params = request.get();
    session.set(params.reborrow().get_context().map_err(failed)?);
    params.set_request(request_json.as_str());
    params.set_uri("/");
    let answer = request.send().promise.await.map_err(failed)?;
    let text = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    text.to_string()
        .map_err(|error| Fault::Malformed { method: METHOD, reason: format!("not UTF-8: {error}") })
}
