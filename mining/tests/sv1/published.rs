//! The byte orders, against headers that real miners found.

use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, hex::DisplayHex};
use mining::Input;
use mining::job::Job;
use mining::sv1::notify_params;
use serde_json::{Value, json};
use validation::CoinbaseParts;
use validation::merkle::branch_of_first;
use validation::tip::{ChainTip, NextBits};

use crate::miner::settings;
use crate::miner::{Rig, Rolled, difficulty_of, header, hex, notify};
use crate::support::{deps, work_of};

/// The work and the share of the first description of the protocol (Stratum mining protocol,
/// slush, 2012): whoever builds another header of it gets a hash without 32 zero bits.
#[test]
fn the_published_example_is_a_share_of_difficulty_1() {
    let job = notify(&json!([
        "bf",
        "4d16b6f85af6e2198f44ae2a6de67f78487ae5611b77c6c0440b921e00000000",
        "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff2002\
         0862062f503253482f04b8864e5008",
        "072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048e\
         d988ac00000000",
        [],
        "00000002",
        "1c2ac4af",
        "504e86b9",
        false
    ]));
    let rolled = Rolled {
        extranonce2: hex("00000001"),
        version: job.version.0,
        ntime: 0x504e_86ed,
        nonce: 0xb295_7c02,
    };
    let header = header(&job, &hex("08000002"), &rolled);
    assert_eq!(
        header.block_hash().to_string(),
        "000000002076870fe65a2b6eeed84fa892c0db924f1482243a6247d931dcab32"
    );
    assert!(difficulty_of(&header) >= 1.0);
}

/// A real block as a job: its coinbase is cut so that the last 16 bytes of the script are the
/// extranonce. A miner that reads the job and rolls what the finder rolled has the block's header.
fn rebuild(raw: &[u8]) {
    let block: Block = deserialize(raw).unwrap();
    let coinbase = &block.txdata[0];
    let bytes = serialize(coinbase);
    let script = coinbase.input[0].script_sig.as_bytes();
    // Version, marker and flag, count, outpoint, the script's length of one byte, the script.
    let suffix_at = 4 + 2 + 1 + 36 + 1 + script.len();
    let extranonce = bytes[suffix_at - 16..suffix_at].to_vec();
    let parts = CoinbaseParts::parse(&bytes[..suffix_at - 16], &bytes[suffix_at..]).unwrap();

    let mask = 0x1fff_ffe0;
    let version = block.header.version.to_consensus() as u32;
    let beside =
        branch_of_first(block.txdata[1..].iter().map(|tx| tx.compute_txid().to_byte_array()));
    let tip = ChainTip {
        hash: block.header.prev_blockhash,
        height: block.bip34_block_height().unwrap() as u32 - 1,
        time: block.header.time - 600,
        median_time_past: block.header.time - 3_600,
        next_bits: NextBits::fixed(block.header.bits),
    };
    let mut work = work_of(1, tip);
    work.template.version = version & !mask;
    work.template.merkle_path =
        beside.into_iter().map(Into::into).collect::<Vec<_>>().try_into().unwrap();
    let job = Job::of_work(7, Arc::new(work), Arc::new(parts), block.header.time - 30);

    let params = notify_params(&job, true);
    let told = notify(&params);
    assert_eq!((told.job_id.as_str(), told.clean_jobs), ("7", true));
    assert_eq!(told.time.0, block.header.time - 30);
    let rolled = Rolled {
        extranonce2: extranonce[8..].to_vec(),
        version: (told.version.0 & !mask) | (version & mask),
        ntime: block.header.time,
        nonce: block.header.nonce,
    };
    assert_eq!(header(&told, &extranonce[..8], &rolled), block.header);
    // Neither marker and flag nor the witness are told.
    let whole =
        [told.coin_base1.as_ref().as_slice(), &extranonce, told.coin_base2.as_ref()].concat();
    assert_eq!(whole.len(), coinbase.base_size());
    // The words of prev_hash: the hash as people write it, in words from its end.
    let shown = block.header.prev_blockhash.to_string();
    let words: Vec<&str> = (0..8).rev().map(|word| &shown[word * 8..word * 8 + 8]).collect();
    assert_eq!(params[1], Value::from(words.concat()));
}

#[test]
fn a_main_network_block_comes_out_of_its_job() {
    rebuild(include_bytes!("../../../validation/tests/data/mainnet_segwit_block.raw"));
}

#[test]
fn a_test_network_block_comes_out_of_its_job() {
    rebuild(include_bytes!("../../../validation/tests/data/testnet_segwit_block.raw"));
}

/// The same through a session: what it announces is what it judges by.
#[test]
fn what_a_session_announces_is_what_it_judges_by() {
    let mut rig = Rig::new(deps(settings()));
    rig.input(Input::Work(Arc::new(work_of(1, crate::support::tip(3, crate::support::HARD)))));
    rig.subscribe();
    rig.ask("mining.authorize", json!(["alice", ""])).0.unwrap();
    let job = rig.job.clone().unwrap();
    let branch: Vec<String> =
        job.merkle_branch.iter().map(|hash| hash.as_ref().to_lower_hex_string()).collect();
    assert_eq!(branch, ["01".repeat(32), "01".repeat(32), "02".repeat(32)]);
    let (rolled, _) = rig.share(0);
    let fields = rig.fields("alice", &rolled);
    assert_eq!(rig.submit(fields), Ok(json!(true)));
}
