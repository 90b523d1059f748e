//! Who the coinbase pays, and whether it takes more than there is.

use bitcoin::{Amount, Script, ScriptBuf, TxOut};

use crate::coinbase::CoinbaseParts;
use crate::job::Fees;
use crate::rejection::{Reason, Rejection};
use crate::rules::{BP_WHOLE, Payout, Rules, subsidy};

/// What the coinbase of a job pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// To the pool's script, or in solo mode to the operator's, satoshi.
    pub pool_sat: u64,
    /// In solo mode to the miner's own script, satoshi.
    pub miner_sat: u64,
    /// What it could have claimed, satoshi: subsidy and fees. Where the fees are not known that is
    /// unverified: what the coinbase takes, at least the subsidy.
    pub claimable_sat: u64,
}

/// The rules about outputs that hold whatever the fees are: the imposed outputs are there, and
/// the payout covers its share of the subsidy, which is the least that can be claimable.
///
/// In coinbase-only mode nothing more can be checked.
///
/// # Errors
/// `invalid-coinbase-tx` with the first rule that is broken.
pub fn check_outputs(coinbase: &CoinbaseParts, rules: &Rules) -> Result<(), Rejection> {
    for (index, imposed) in rules.imposed_outputs.iter().enumerate() {
        let script = &imposed.script_pubkey;
        let present = coinbase.outputs().iter().any(|output| output.script_pubkey == *script);
        let due: Amount = rules
            .imposed_outputs
            .iter()
            .filter(|output| output.script_pubkey == *script)
            .map(|output| output.value)
            .fold(Amount::ZERO, |sum, value| sum.checked_add(value).unwrap_or(Amount::MAX));
        let paid = coinbase.paid_to(script);
        if !present || paid < due {
            return Err(Rejection::new(Reason::ImposedOutput)
                .at(index)
                .expected(format_args!("{}:{}", due.to_sat(), script.to_hex_string()))
                .actual(paid.to_sat()));
        }
    }
    let subsidy_sat = subsidy(rules.network, coinbase.height()).to_sat();
    check_shares(coinbase, &rules.payout, subsidy_sat, subsidy_sat == 0)
}

/// The rules about values once the transactions are known as far as they will be.
///
/// # Errors
/// `invalid-coinbase-tx`: the coinbase takes too much, or does not pay who it must.
pub(crate) fn check_values(
    coinbase: &CoinbaseParts,
    rules: &Rules,
    fees: Fees,
) -> Result<Paid, Rejection> {
    let subsidy_sat = subsidy(rules.network, coinbase.height()).to_sat();
    let taken_sat = coinbase.output_total().to_sat();
    let claimable_sat = match fees.total_sat {
        Some(fees_sat) => {
            let claimable_sat = subsidy_sat.saturating_add(fees_sat);
            if taken_sat > claimable_sat {
                return Err(Rejection::new(Reason::CoinbaseValue)
                    .expected(format_args!("at-most-{claimable_sat}"))
                    .actual(taken_sat));
            }
            claimable_sat
        }
        // Unverified. Its own total is at most 21 million BTC: that was checked at parse.
        None => subsidy_sat.max(taken_sat),
    };
    let nothing_to_claim = claimable_sat == 0 && fees.total_sat.is_some();
    check_shares(coinbase, &rules.payout, claimable_sat, nothing_to_claim)?;
    let paid_sat = |script: &Script| coinbase.paid_to(script).to_sat();
    let (pool_sat, miner_sat) = match &rules.payout {
        Payout::Pool { script, .. } => (paid_sat(script), 0),
        Payout::Solo { script, operator } => {
            (operator.as_ref().map_or(0, |(script, _)| paid_sat(script)), paid_sat(script))
        }
    };
    Ok(Paid { pool_sat, miner_sat, claimable_sat })
}

/// Whether the coinbase pays the shares of `claimable_sat` that are due. Paying nothing is enough
/// only where there is surely nothing.
fn check_shares(
    coinbase: &CoinbaseParts,
    payout: &Payout,
    claimable_sat: u64,
    may_be_nothing: bool,
) -> Result<(), Rejection> {
    let least_sat = u64::from(!may_be_nothing);
    let claimable_sat = claimable_sat.max(least_sat);
    let demand = |script: &Script, due_sat: u64, reason: Reason| {
        let paid_sat = coinbase.paid_to(script).to_sat();
        if paid_sat >= due_sat {
            return Ok(());
        }
        Err(Rejection::new(reason).expected(format_args!("at-least-{due_sat}")).actual(paid_sat))
    };
    match payout {
        Payout::Pool { script, min_share_bp } => {
            let due_sat = share(claimable_sat, *min_share_bp).rounded_up.max(least_sat);
            demand(script, due_sat, Reason::PoolUnderpaid)
        }
        Payout::Solo { script, operator: Some((operator, fee_bp)) } if script != operator => {
            // A satoshi that does not divide may go either way.
            let fee = share(claimable_sat, *fee_bp);
            let own_sat = claimable_sat.saturating_sub(fee.rounded_up);
            demand(script, own_sat, Reason::MinerUnderpaid)?;
            demand(operator, fee.rounded_down, Reason::OperatorUnderpaid)
        }
        Payout::Solo { script, .. } => demand(script, claimable_sat, Reason::MinerUnderpaid),
    }
}

/// What a coinbase of the pool's own work pays of `value_sat`, in this order: all of it, to the
/// satoshi, so that the rules above hold. In solo mode an operator's fee is rounded down, and its
/// output is there even if that leaves nothing, as tokens state it.
pub fn split(payout: &Payout, value_sat: u64) -> Vec<TxOut> {
    let output = |script: &ScriptBuf, sat| TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: script.clone(),
    };
    match payout {
        Payout::Solo { script, operator: Some((operator, fee_bp)) } if script != operator => {
            let fee_sat = share(value_sat, *fee_bp).rounded_down;
            vec![output(script, value_sat.saturating_sub(fee_sat)), output(operator, fee_sat)]
        }
        Payout::Pool { script, .. } | Payout::Solo { script, .. } => {
            vec![output(script, value_sat)]
        }
    }
}

struct Share {
    rounded_down: u64,
    rounded_up: u64,
}

/// `bp` hundredths of a percent of a value, at most all of it.
fn share(value_sat: u64, bp: u16) -> Share {
    let product = u128::from(value_sat) * u128::from(bp).min(u128::from(BP_WHOLE));
    let whole = u128::from(BP_WHOLE);
    Share { rounded_down: (product / whole) as u64, rounded_up: product.div_ceil(whole) as u64 }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Network, consensus::serialize};
    use proptest::prelude::*;

    use super::*;

    /// A coinbase for block 1 that pays these outputs.
    fn coinbase(outputs: &[TxOut]) -> CoinbaseParts {
        let prefix = [&[2, 0, 0, 0, 1][..], &[0; 32], &[0xff; 4], &[5, 0x51]].concat();
        let suffix = [&[0xff; 4][..], &serialize(&outputs.to_vec()), &[0; 4]].concat();
        CoinbaseParts::parse(&prefix, &suffix).unwrap()
    }

    fn payout() -> impl Strategy<Value = Payout> {
        let script = |byte| ScriptBuf::from_bytes(vec![byte; 22]);
        prop_oneof![
            (0..=10_000_u16)
                .prop_map(move |min_share_bp| Payout::Pool { script: script(1), min_share_bp }),
            Just(Payout::Solo { script: script(1), operator: None }),
            (0..=10_000_u16, 1..3_u8).prop_map(move |(fee_bp, operator)| Payout::Solo {
                script: script(1),
                operator: Some((script(operator), fee_bp)),
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_split_sums_up_and_keeps_the_rules(
            payout in payout(),
            fees_sat in prop_oneof![0..3_u64, 0..100_000_000_000_u64],
        ) {
            let imposed = split(&payout, 0);
            let rules = Rules { network: Network::Regtest, payout, imposed_outputs: imposed };
            let subsidy_sat = subsidy(rules.network, 1).to_sat();
            let value_sat = subsidy_sat + fees_sat;
            let outputs = split(&rules.payout, value_sat);
            let sum_sat: u64 = outputs.iter().map(|output| output.value.to_sat()).sum();
            prop_assert_eq!(sum_sat, value_sat);
            let coinbase = coinbase(&outputs);
            check_outputs(&coinbase, &rules).unwrap();
            let known = Fees { total_sat: Some(fees_sat), known_sat: fees_sat };
            let paid = check_values(&coinbase, &rules, known).unwrap();
            prop_assert_eq!(paid.claimable_sat, value_sat);
            let unknown = Fees { total_sat: None, known_sat: 0 };
            check_values(&coinbase, &rules, unknown).unwrap();
        }

        /// One satoshi of a split in any other pocket breaks a rule, except where one may go
        /// either way.
        #[test]
        fn a_split_leaves_no_satoshi_to_take_away(
            fee_bp in 0..=10_000_u16, fees_sat in 0..100_000_000_000_u64,
        ) {
            let script = |byte| ScriptBuf::from_bytes(vec![byte; 22]);
            let payout = Payout::Solo { script: script(1), operator: Some((script(2), fee_bp)) };
            let rules = Rules { network: Network::Regtest, payout, imposed_outputs: Vec::new() };
            let value_sat = subsidy(rules.network, 1).to_sat() + fees_sat;
            let known = Fees { total_sat: Some(fees_sat), known_sat: fees_sat };
            let divides = u128::from(value_sat) * u128::from(fee_bp) % 10_000 == 0;
            for (index, may) in [(0, !divides), (1, false)] {
                let mut outputs = split(&rules.payout, value_sat);
                let Some(less) = outputs[index].value.checked_sub(Amount::ONE_SAT) else {
                    continue;
                };
                outputs[index].value = less;
                let result = check_values(&coinbase(&outputs), &rules, known);
                prop_assert_eq!(result.is_ok(), may, "output {}: {:?}", index, result);
            }
        }
    }
}
