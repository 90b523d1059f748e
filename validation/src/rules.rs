//! What the server's owner may demand of a job.
//!
//! Invariant: nothing in [`Rules`] can express a preference about the transactions of a block.
//! There is the network, and there is who gets the block reward; a new field that knows of fees,
//! scripts, addresses or data of transactions does not belong here.

use bitcoin::{Amount, Network, ScriptBuf, TxOut};

/// Everything that a verdict depends on besides the job, its transactions and the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Decides the subsidy: it halves every 210,000 blocks, every 150 on regtest.
    pub network: Network,
    /// Who gets the reward.
    pub payout: Payout,
    /// Outputs given with the token: each script must be there, with at least that value in sum
    /// (the token's values are 0). Order and additions are free.
    pub imposed_outputs: Vec<TxOut>,
}

/// Who gets the claimable value: subsidy plus fees when all fees are known, else the greater of
/// the subsidy and what the coinbase takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payout {
    /// To the pool's script, all or a stated share of it.
    Pool {
        /// The pool's script. Several outputs to it are summed.
        script: ScriptBuf,
        /// Least share of the claimable value, in hundredths of a percent (10,000 is all).
        min_share_bp: u16,
    },
    /// To the miner's own script.
    Solo {
        /// The miner's script. Several outputs to it are summed.
        script: ScriptBuf,
        /// The operator's script and fee, in hundredths of a percent of the claimable value.
        operator: Option<(ScriptBuf, u16)>,
    },
}

/// Basis points in a whole.
pub(crate) const BP_WHOLE: u64 = 10_000;

/// Subsidy of the block at `height`, before fees.
pub fn subsidy(network: Network, height: u32) -> Amount {
    let interval = if network == Network::Regtest { 150 } else { 210_000 };
    let halvings = height / interval;
    // Beyond 63 halvings a shift by that much would be undefined; Bitcoin Core says zero.
    Amount::from_sat(Amount::from_int_btc(50).to_sat().checked_shr(halvings).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidy_halves() {
        let sat = |network, height| subsidy(network, height).to_sat();
        assert_eq!(sat(Network::Bitcoin, 0), 5_000_000_000);
        assert_eq!(sat(Network::Bitcoin, 209_999), 5_000_000_000);
        assert_eq!(sat(Network::Bitcoin, 840_000), 312_500_000);
        assert_eq!(sat(Network::Testnet4, 210_000), 2_500_000_000);
        assert_eq!(sat(Network::Signet, 209_999), 5_000_000_000);
        assert_eq!(sat(Network::Regtest, 149), 5_000_000_000);
        assert_eq!(sat(Network::Regtest, 150), 2_500_000_000);
        assert_eq!(sat(Network::Bitcoin, 6_930_000), 0);
        assert_eq!(sat(Network::Regtest, u32::MAX), 0);
    }
}
