//! Money without a wallet: coinbases that anyone can spend, fanned out into equal coins.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use crate::coin::{Coin, anyone_can_spend, padded_script, transaction};
use crate::error::NodeError;
use crate::node::{Chain, Node};

/// Blocks that must follow a coinbase's before it can be spent, that one included.
const MATURITY_BLOCKS: u32 = 100;
/// Outputs of one fan-out transaction: 2,000 of 43 bytes stay below what Core relays.
const FAN_OUT_MAX: usize = 2_000;
/// Fee of a fan-out, satoshi for each byte, so that it may go through the mempool too.
const FAN_OUT_FEE_SAT_PER_BYTE: u64 = 2;
/// Bytes of a fan-out transaction beside its outputs, at most, for each input.
const FAN_OUT_INPUT_BYTES: u64 = 120;
/// Bytes of a P2WSH output.
const P2WSH_OUTPUT_BYTES: u64 = 43;
/// Smallest coin worth making, satoshi: below it a coin can not pay for its own spending.
const COIN_VALUE_SAT_MIN: u64 = 1_000;
/// Coins made by one call.
const COINS_MAX: usize = 50_000;
/// Blocks mined in search of money before giving up (regtest pays less every 150 blocks).
const FUNDING_BLOCKS_MAX: u32 = 3_000;

impl Node {
    /// Gives `n` confirmed coins of `value_sat` satoshi each (1,000 and up), never one that was
    /// given before. Each can be spent with a witness of up to 240 bytes of the caller's choice
    /// ([`Coin::input_padded`]).
    ///
    /// Mines what is missing: on regtest up to 101 blocks the first time. Blocks mined for it
    /// hold only its own transactions, so that the mempool stays as it is.
    ///
    /// # Errors
    /// The node refused, or the chain can not pay that much.
    pub fn ensure_funds(&self, n: usize, value_sat: u64) -> Result<Vec<Coin>, NodeError> {
        if n > COINS_MAX || value_sat < COIN_VALUE_SAT_MIN {
            return Err(NodeError::Impossible(format!(
                "{n} coins of {value_sat} sat: at most {COINS_MAX}, of {COIN_VALUE_SAT_MIN} sat \
                 or more"
            )));
        }
        let mut coins = Vec::with_capacity(n);
        let mut fan_outs = Vec::new();
        while coins.len() < n {
            let outputs = (n - coins.len()).min(FAN_OUT_MAX);
            let (tx, made) = self.fan_out(outputs, value_sat)?;
            coins.extend(made);
            fan_outs.push(tx);
        }
        if !fan_outs.is_empty() {
            self.mine_block(&fan_outs)?;
        }
        Ok(coins)
    }

    fn fan_out(
        &self,
        outputs: usize,
        value_sat: u64,
    ) -> Result<(Transaction, Vec<Coin>), NodeError> {
        let output_bytes = outputs as u64 * P2WSH_OUTPUT_BYTES;
        let fee = |inputs: usize| {
            (output_bytes + inputs as u64 * FAN_OUT_INPUT_BYTES) * FAN_OUT_FEE_SAT_PER_BYTE
        };
        let mut from: Vec<Coin> = Vec::new();
        let mut have = 0;
        let too_much = || {
            NodeError::Impossible(format!(
                "{outputs} coins of {value_sat} sat are more than this chain can pay"
            ))
        };
        loop {
            let paid = value_sat.checked_mul(outputs as u64).ok_or_else(too_much)?;
            let want = paid.checked_add(fee(from.len() + 1)).ok_or_else(too_much)?;
            if have >= want {
                break;
            }
            let coin = self.take_coinbase()?.ok_or_else(too_much)?;
            have += coin.value_sat;
            from.push(coin);
        }
        let script = padded_script();
        let mut output = vec![
            TxOut {
                value: Amount::from_sat(value_sat),
                script_pubkey: Coin::script_pubkey_of(&script),
            };
            outputs
        ];
        // The rest goes back to where the next call finds it.
        let rest = have - value_sat * outputs as u64 - fee(from.len());
        if rest > COIN_VALUE_SAT_MIN {
            output
                .push(TxOut { value: Amount::from_sat(rest), script_pubkey: self.mining_script() });
        }
        let tx = transaction(from.iter().map(Coin::input).collect(), output);
        let txid = tx.compute_txid();
        let coins = (0..outputs as u32)
            .map(|vout| Coin {
                outpoint: OutPoint { txid, vout },
                value_sat,
                witness_script: script.clone(),
            })
            .collect();
        Ok((tx, coins))
    }

    /// The largest coin of our mining scripts that can be spent in the next block and was not
    /// handed out, mining for one if there is none.
    fn take_coinbase(&self) -> Result<Option<Coin>, NodeError> {
        let mut mined = 0;
        loop {
            if let Some(coin) = self.find_coinbase()? {
                return Ok(Some(coin));
            }
            let step = if mined == 0 { MATURITY_BLOCKS + 1 } else { 10 };
            if mined + step > FUNDING_BLOCKS_MAX {
                return Ok(None);
            }
            self.mine_for_funds(step)?;
            mined += step;
        }
    }

    fn mine_for_funds(&self, n: u32) -> Result<(), NodeError> {
        let descriptor = format!("raw({})", self.mining_script().to_hex_string());
        for _ in 0..n {
            match self.chain() {
                Chain::Regtest => {
                    let args = [json!(descriptor), json!([])];
                    self.call::<Value>("generateblock", &args)?;
                }
                Chain::Signet => {
                    self.mine_block(&[])?;
                }
            }
        }
        Ok(())
    }

    fn find_coinbase(&self) -> Result<Option<Coin>, NodeError> {
        let unexpected = || NodeError::Unexpected {
            method: "scantxoutset",
            expected: "unspents with txid, vout, amount, height and coinbase",
        };
        let scripts = [self.mining_witness_script(), anyone_can_spend()];
        let descriptors: Vec<String> = scripts
            .iter()
            .map(|script| format!("raw({})", Coin::script_pubkey_of(script).to_hex_string()))
            .collect();
        let found: Value = self.call("scantxoutset", &[json!("start"), json!(descriptors)])?;
        let tip = found["height"].as_u64().ok_or_else(unexpected)?;
        let mut best: Option<Coin> = None;
        let mut handed_out =
            self.handed_out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for unspent in found["unspents"].as_array().ok_or_else(unexpected)? {
            let coin = parse_unspent(unspent, &scripts).ok_or_else(unexpected)?;
            let height = unspent["height"].as_u64().ok_or_else(unexpected)?;
            // Old versions do not say whether it is a coinbase: then it counts as one.
            let coinbase = unspent["coinbase"].as_bool().unwrap_or(true);
            let mature = !coinbase || tip + 1 >= height + u64::from(MATURITY_BLOCKS);
            let larger = best.as_ref().is_none_or(|best| coin.value_sat > best.value_sat);
            if mature && larger && !handed_out.contains(&coin.outpoint) {
                best = Some(coin);
            }
        }
        if let Some(coin) = &best {
            handed_out.insert(coin.outpoint);
        }
        Ok(best)
    }
}

fn parse_unspent(unspent: &Value, scripts: &[bitcoin::ScriptBuf]) -> Option<Coin> {
    let txid: Txid = unspent["txid"].as_str()?.parse().ok()?;
    let vout = u32::try_from(unspent["vout"].as_u64()?).ok()?;
    let value = Amount::from_btc(unspent["amount"].as_f64()?).ok()?;
    let script_hex = unspent["scriptPubKey"].as_str()?;
    let witness_script = scripts
        .iter()
        .find(|script| Coin::script_pubkey_of(script).to_hex_string() == script_hex)?
        .clone();
    Some(Coin { outpoint: OutPoint { txid, vout }, value_sat: value.to_sat(), witness_script })
}
