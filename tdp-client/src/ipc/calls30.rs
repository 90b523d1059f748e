//! The calls as Bitcoin Core 30 has them: some have other numbers and contents there, and those that
//! make or check a block run beside no other of that node's.

use bitcoin::amount::CheckedSum as _;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Transaction};
use capnp_types_30::mining_capnp::mining;

use super::calls::{self, Judgement, RawBlockTemplate, judgement};
use super::connection::{Session, fault_of};
use crate::error::Fault;

/// What the node would take by default (`-blockreservedweight`), weight units.
const RESERVED_WEIGHT_WU: u64 = 8_000;

/// The same for the coinbase's outputs, sigops by cost.
const RESERVED_SIGOP_COST: u64 = 400;

/// As [`calls::wait_tip_changed`].
pub(super) async fn wait_tip_changed(
    session: &Session,
    mining: &mining::Client,
    known: BlockHash,
    timeout_ms: u64,
) -> Result<BlockHash, Fault> {
    let failed = fault_of("waitTipChanged");
    let mut request = mining.wait_tip_changed_request();
    let mut params = request.get();
    session.set30(params.reborrow().get_context().map_err(failed)?);
    params.set_current_tip(known.as_byte_array());
    params.set_timeout(timeout_ms as f64);
    let answer = request.send().promise.await.map_err(failed)?;
    let tip = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    calls::new_tip(session, tip.get_hash().map_err(failed)?)
}

/// As [`calls::block_template`].
pub(super) async fn block_template(
    session: &Session,
    mining: &mining::Client,
) -> Result<RawBlockTemplate, Fault> {
    const METHOD: &str = "createNewBlock";
    let failed = fault_of(METHOD);
    let mut request = mining.create_new_block_request();
    let mut options = request.get().get_options().map_err(failed)?;
    options.set_use_mempool(true);
    options.set_block_reserved_weight(RESERVED_WEIGHT_WU);
    options.set_coinbase_output_max_additional_sigops(RESERVED_SIGOP_COST);
    let answer = request.send().promise.await.map_err(failed)?;
    // Gone at the node as soon as it is dropped here.
    let template = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;

    let failed = fault_of("getBlock");
    let mut request = template.get_block_request();
    session.set30(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let block = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?.to_vec();

    let failed = fault_of("getTxFees");
    let mut request = template.get_tx_fees_request();
    session.set30(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let fees = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    let fees_sat = fees.iter().collect();

    let failed = fault_of("getTxSigops");
    let mut request = template.get_tx_sigops_request();
    session.set30(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let sigops = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    let sigop_costs = sigops.iter().collect();

    let failed = fault_of("getCoinbaseTx");
    let mut request = template.get_coinbase_tx_request();
    session.set30(request.get().get_context().map_err(failed)?);
    let answer = request.send().promise.await.map_err(failed)?;
    let raw = answer.get().and_then(|answer| answer.get_result()).map_err(failed)?;
    // A whole transaction, which claims everything and has the outputs that there have to be.
    let coinbase: Transaction = deserialize(raw).map_err(|error| Fault::Malformed {
        method: METHOD,
        reason: format!("its coinbase: {error}"),
    })?;
    let value = coinbase.output.iter().map(|output| output.value).checked_sum();
    Ok(RawBlockTemplate {
        block,
        fees_sat,
        sigop_costs,
        // Too large a sum is as wrong as a negative one, and told so.
        coinbase_value_sat: value.and_then(|value| value.to_sat().try_into().ok()).unwrap_or(-1),
        required_outputs: coinbase.output.iter().map(serialize).collect(),
    })
}

/// As [`calls::check_block`].
pub(super) async fn check_block(
    mining: &mining::Client,
    block: Vec<u8>,
) -> Result<Judgement, Fault> {
    let failed = fault_of("checkBlock");
    let mut request = mining.check_block_request();
    let mut params = request.get();
    params.set_block(&block);
    let mut options = params.get_options().map_err(failed)?;
    options.set_check_merkle_root(true);
    options.set_check_pow(false);
    let answer = request.send().promise.await.map_err(failed)?;
    let answer = answer.get().map_err(failed)?;
    let reason = answer.get_reason().map_err(failed)?;
    Ok(judgement(answer.get_result(), reason.as_bytes()))
}
