//! Transactions of many kinds, all valid by consensus: some relayed by Bitcoin Core's default
//! policy, some refused. A server that does not filter takes every one of them in a block.

use bitcoin::blockdata::opcodes::all as op;
use bitcoin::hashes::Hash;
use bitcoin::key::UntweakedPublicKey;
use bitcoin::opcodes::OP_FALSE;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness,
};

use crate::coin::{Coin, noise, transaction};
use crate::mempool::p2wpkh;

/// A coin must hold at least this for every kind to be built, satoshi.
pub const COIN_VALUE_SAT_MIN: u64 = 2_000_000;
/// Data of the data-carrying kinds, bytes: relayed since Core 30, and never.
const DATA_BYTES_RELAYED: usize = 80_000;
const DATA_BYTES_REFUSED: usize = 120_000;
/// The witness of the heavy kind, bytes: just below the heaviest transaction that relays.
const HEAVY_WITNESS_BYTES: usize = 390_000;
/// Largest push in a script, bytes (consensus).
const PUSH_BYTES_MAX: usize = 520;
/// Outputs of the kind with many.
const MANY_OUTPUTS: u64 = 1_000;
/// Keys of a bare multisig that relays, and of one that does not.
const MULTISIG_KEYS_RELAYED: u8 = 3;
const MULTISIG_KEYS_REFUSED: u8 = 16;
/// A value below every dust limit, satoshi.
const DUST_SAT: u64 = 1;
/// The point without a known logarithm that BIP 341 names.
const NUMS: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e,
    0x07, 0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// A kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One P2WPKH output and change.
    Payment,
    /// To a taproot output.
    Taproot,
    /// To P2SH, and spent from there by a second transaction.
    P2sh,
    /// A thousand outputs.
    ManyOutputs,
    /// A second transaction spends the first.
    ParentChild,
    /// A bare 1-of-3 multisig output.
    BareMultisig,
    /// 80 kB of data in an `OP_RETURN` output.
    Data,
    /// A 390 kB witness: data in a tapscript, committed to by a first transaction.
    HeavyWitness,
    /// No fee.
    ZeroFee,
    /// Outputs of one satoshi.
    Dust,
    /// 120 kB of data in an `OP_RETURN` output.
    OversizedData,
    /// A bare multisig output of 16 keys.
    WideMultisig,
    /// An output script of no known form, and one that can never be spent.
    OddScript,
    /// A version number that nothing uses.
    OddVersion,
    /// Spends a witness program of a version without rules yet.
    FutureWitness,
}

impl Kind {
    /// All kinds: first those that Core's default policy relays.
    pub const ALL: [Self; 15] = [
        Self::Payment,
        Self::Taproot,
        Self::P2sh,
        Self::ManyOutputs,
        Self::ParentChild,
        Self::BareMultisig,
        Self::Data,
        Self::HeavyWitness,
        Self::ZeroFee,
        Self::Dust,
        Self::OversizedData,
        Self::WideMultisig,
        Self::OddScript,
        Self::OddVersion,
        Self::FutureWitness,
    ];

    /// A few words for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Payment => "plain payment",
            Self::Taproot => "taproot output",
            Self::P2sh => "P2SH, paid and spent",
            Self::ManyOutputs => "1,000 outputs",
            Self::ParentChild => "parent and child",
            Self::BareMultisig => "bare 1-of-3 multisig",
            Self::Data => "80 kB of OP_RETURN data",
            Self::HeavyWitness => "390 kB witness",
            Self::ZeroFee => "zero fee",
            Self::Dust => "dust outputs",
            Self::OversizedData => "120 kB of OP_RETURN data",
            Self::WideMultisig => "bare 1-of-16 multisig",
            Self::OddScript => "non-standard scripts",
            Self::OddVersion => "unused version number",
            Self::FutureWitness => "witness version without rules",
        }
    }

    /// True when every transaction of it enters the mempool of a Bitcoin Core 30 or later with
    /// default settings.
    pub fn relayed(self) -> bool {
        !matches!(
            self,
            Self::ZeroFee
                | Self::Dust
                | Self::OversizedData
                | Self::WideMultisig
                | Self::OddScript
                | Self::OddVersion
                | Self::FutureWitness
        )
    }

    /// Builds it from a coin of at least [`COIN_VALUE_SAT_MIN`]; different coins give different
    /// transactions. `None` for a smaller coin.
    pub fn build(self, coin: &Coin) -> Option<Sample> {
        if coin.value_sat < COIN_VALUE_SAT_MIN {
            return None;
        }
        let salt = u64::from_le_bytes(coin.outpoint.txid.as_byte_array()[..8].try_into().ok()?)
            .wrapping_add(u64::from(coin.outpoint.vout) << 32);
        let to = p2wpkh(salt);
        let (txs, fee_sat) = match self {
            Self::Payment => {
                let outputs = [(100_000, to), (0, p2wpkh(!salt))];
                one(coin, outputs, 2_000)
            }
            Self::Taproot => {
                let key = UntweakedPublicKey::from_slice(&NUMS).ok()?;
                let secp = Secp256k1::verification_only();
                one(coin, [(0, ScriptBuf::new_p2tr(&secp, key, None))], 2_000)
            }
            Self::P2sh => paid_and_spent(coin, to, &p2sh_true()),
            Self::ManyOutputs => {
                let outputs = (0..MANY_OUTPUTS).map(|n| (1_000, p2wpkh(salt.wrapping_add(n))));
                one(coin, outputs.chain([(0, p2wpkh(!salt))]), 60_000)
            }
            Self::ParentChild => {
                let (mut txs, fee) = one(coin, [(0, coin.txout().script_pubkey)], 2_000);
                let child = Coin {
                    outpoint: OutPoint { txid: txs.first()?.compute_txid(), vout: 0 },
                    value_sat: coin.value_sat - fee,
                    witness_script: coin.witness_script.clone(),
                };
                let (more, more_fee) = one(&child, [(0, to)], 6_000);
                txs.extend(more);
                (txs, fee + more_fee)
            }
            Self::BareMultisig => {
                one(coin, [(10_000, multisig(MULTISIG_KEYS_RELAYED)?), (0, to)], 2_000)
            }
            Self::WideMultisig => {
                one(coin, [(10_000, multisig(MULTISIG_KEYS_REFUSED)?), (0, to)], 5_000)
            }
            Self::Data => one(coin, [(0, to), (0, data(salt, DATA_BYTES_RELAYED)?)], 200_000),
            Self::OversizedData => {
                one(coin, [(0, to), (0, data(salt, DATA_BYTES_REFUSED)?)], 300_000)
            }
            Self::HeavyWitness => heavy_witness(coin, to, salt)?,
            Self::ZeroFee => one(coin, [(0, to)], 0),
            Self::Dust => {
                one(coin, [(0, to), (DUST_SAT, p2wpkh(!salt)), (DUST_SAT, p2wpkh(salt ^ 1))], 2_000)
            }
            Self::OddScript => {
                let odd = Builder::new().push_opcode(op::OP_ADD).push_int(7).into_script();
                let never = Builder::new().push_opcode(op::OP_VERIF).into_script();
                one(coin, [(0, to), (20_000, odd), (20_000, never)], 2_000)
            }
            Self::OddVersion => {
                let (mut txs, fee) = one(coin, [(0, to)], 2_000);
                txs.iter_mut().for_each(|tx| tx.version = Version(i32::MIN));
                (txs, fee)
            }
            Self::FutureWitness => paid_and_spent(coin, to, &future_witness()),
        };
        Some(Sample { kind: self, txs, fee_sat })
    }
}

/// A kind, built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which kind.
    pub kind: Kind,
    /// The transactions, parents first; all must be in the block, in this order.
    pub txs: Vec<Transaction>,
    /// Fee of all together, satoshi.
    pub fee_sat: u64,
}

/// One transaction. The first output of value zero that is not data takes what the others leave.
fn one(
    coin: &Coin,
    outputs: impl IntoIterator<Item = (u64, ScriptBuf)>,
    fee_sat: u64,
) -> (Vec<Transaction>, u64) {
    let mut output: Vec<TxOut> = outputs
        .into_iter()
        .map(|(sat, script_pubkey)| TxOut { value: Amount::from_sat(sat), script_pubkey })
        .collect();
    let paid: u64 = output.iter().map(|output| output.value.to_sat()).sum();
    let rest = coin.value_sat - paid - fee_sat;
    let change =
        output.iter_mut().find(|o| o.value == Amount::ZERO && !o.script_pubkey.is_op_return());
    if let Some(change) = change {
        change.value = Amount::from_sat(rest);
    }
    (vec![coin.spend(output)], fee_sat)
}

/// How an output without keys is paid to, and spent.
struct Keyless {
    script_pubkey: ScriptBuf,
    script_sig: ScriptBuf,
    witness: Witness,
}

fn p2sh_true() -> Keyless {
    // Two different pushes keep this apart from the empty redeem script.
    let redeem = Builder::new().push_opcode(op::OP_PUSHNUM_1).into_script();
    Keyless {
        script_pubkey: ScriptBuf::new_p2sh(&redeem.script_hash()),
        script_sig: Builder::new().push_slice([op::OP_PUSHNUM_1.to_u8()]).into_script(),
        witness: Witness::new(),
    }
}

fn future_witness() -> Keyless {
    let program = WScriptHash::hash(b"no rules yet").to_byte_array();
    Keyless {
        script_pubkey: Builder::new()
            .push_opcode(op::OP_PUSHNUM_16)
            .push_slice(program)
            .into_script(),
        script_sig: ScriptBuf::new(),
        witness: Witness::from_slice(&[noise(16, 5_000)]),
    }
}

/// A transaction that pays to `keyless`, and one that spends it to `to`.
fn paid_and_spent(coin: &Coin, to: ScriptBuf, keyless: &Keyless) -> (Vec<Transaction>, u64) {
    paid_and_spent_with_fee(coin, to, keyless, 6_000)
}

fn paid_and_spent_with_fee(
    coin: &Coin,
    to: ScriptBuf,
    keyless: &Keyless,
    second_fee_sat: u64,
) -> (Vec<Transaction>, u64) {
    let (mut txs, fee_sat) = one(coin, [(0, keyless.script_pubkey.clone())], 2_000);
    let value = coin.value_sat - fee_sat - second_fee_sat;
    let previous_output =
        txs.first().map_or_else(OutPoint::null, |tx| OutPoint { txid: tx.compute_txid(), vout: 0 });
    let input = TxIn {
        previous_output,
        script_sig: keyless.script_sig.clone(),
        sequence: Sequence::MAX,
        witness: keyless.witness.clone(),
    };
    let output = TxOut { value: Amount::from_sat(value), script_pubkey: to };
    txs.push(transaction(vec![input], vec![output]));
    (txs, fee_sat + second_fee_sat)
}

/// Data in an envelope that a tapscript skips, as inscriptions have it.
fn heavy_witness(coin: &Coin, to: ScriptBuf, salt: u64) -> Option<(Vec<Transaction>, u64)> {
    let mut script = Builder::new().push_opcode(OP_FALSE).push_opcode(op::OP_IF);
    // Each push costs three bytes more.
    for chunk in noise(salt, HEAVY_WITNESS_BYTES * 517 / 520).chunks(PUSH_BYTES_MAX) {
        script = script.push_slice(PushBytesBuf::try_from(chunk.to_vec()).ok()?);
    }
    let script = script.push_opcode(op::OP_ENDIF).push_opcode(op::OP_PUSHNUM_1).into_script();
    let secp = Secp256k1::verification_only();
    let key = UntweakedPublicKey::from_slice(&NUMS).ok()?;
    let spend =
        TaprootBuilder::new().add_leaf(0, script.clone()).ok()?.finalize(&secp, key).ok()?;
    let control = spend.control_block(&(script.clone(), LeafVersion::TapScript))?;
    let mut witness = Witness::new();
    witness.push(script);
    witness.push(control.serialize());
    let keyless = Keyless {
        script_pubkey: ScriptBuf::new_p2tr_tweaked(spend.output_key()),
        script_sig: ScriptBuf::new(),
        witness,
    };
    Some(paid_and_spent_with_fee(coin, to, &keyless, 150_000))
}

/// `OP_RETURN` and one push.
fn data(salt: u64, len: usize) -> Option<ScriptBuf> {
    let push = PushBytesBuf::try_from(noise(salt, len)).ok()?;
    Some(Builder::new().push_opcode(op::OP_RETURN).push_slice(push).into_script())
}

/// Bare 1-of-`n` multisig.
fn multisig(n: u8) -> Option<ScriptBuf> {
    let secp = Secp256k1::signing_only();
    let mut script = Builder::new().push_int(1);
    for index in 1..=n {
        let key = PublicKey::from_secret_key(&secp, &SecretKey::from_slice(&[index; 32]).ok()?);
        script = script.push_key(&key.into());
    }
    Some(script.push_int(i64::from(n)).push_opcode(op::OP_CHECKMULTISIG).into_script())
}
