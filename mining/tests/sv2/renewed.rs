//! A channel whose shares can not be told apart any more gets another extranonce. What is mined on a job
//! of before is worth nothing, unless it is a block.

use bitcoin::block::Header;
use bitcoin::{CompactTarget, Target};
use jds_wire::message::mining::{MiningServerMessage as M, SubmitSharesExtendedOwned};
use mining::limits::SHARES_SEEN_MAX;
use mining::{Action, Input, Settings};

use crate::custom::{FULL, accepted, connected, custom, set, success, works_on};
use crate::support::{Miner, Rig, open_extended, settings, share_code, tip, work};

/// One hash of 4,096 is a block.
const SOME: u32 = 0x1f0f_ffff;

/// The next nonce whose hash meets the target.
fn roll(header: &mut Header, target: Target) {
    header.nonce += 1;
    while !target.is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
}

/// Sends shares on the miner's job until the channel can remember no more of them. Gives the last one.
fn use_up(rig: &mut Rig, miner: &mut Miner) -> (SubmitSharesExtendedOwned, Header) {
    let (mut share, target) = (miner.draft(), miner.target);
    let mut header = miner.header(&share);
    for _ in 0..=SHARES_SEEN_MAX {
        roll(&mut header, target);
        share.nonce = header.nonce;
        let answer = rig.send(&miner.message(share.clone()));
        miner.hear(&answer);
        rig.actions.clear();
        if answer.iter().any(|message| matches!(message, M::SetExtranoncePrefix(_))) {
            return (share, header);
        }
    }
    panic!("{} shares on one extranonce", SHARES_SEEN_MAX + 1);
}

/// Renews the extranonce, and mines a share and a block on the job of before.
fn mines_on(rig: &mut Rig, miner: &mut Miner) {
    let before = miner.clone();
    let (mut share, mut header) = use_up(rig, miner);
    assert_ne!(miner.prefix, before.prefix);
    assert_eq!(rig.close_reason(), None);
    let network = Target::from_compact(CompactTarget::from_consensus(SOME));
    for target in [before.target, network] {
        roll(&mut header, target);
        share.nonce = header.nonce;
        let answer = rig.send(&before.message(share.clone()));
        assert_eq!(share_code(&answer).as_deref(), Some("stale-share"));
    }
    let found = rig.found();
    let found = found.last().expect("the block");
    assert_eq!(found.header, header);
    let extranonce = [&before.prefix, share.extranonce.as_bytes()].concat();
    assert!(found.coinbase.windows(extranonce.len()).any(|bytes| bytes == extranonce));
    assert!(!rig.actions.iter().any(|action| matches!(action, Action::Closed(_))));
}

#[test]
fn a_block_on_a_job_of_before_is_found() {
    let mut rig = Rig::set_up(Settings { share_batch_size: 1_000, ..settings() }, 0);
    rig.input(Input::Work(work(1, tip(1, SOME))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    mines_on(&mut rig, &mut miner);
    let share = miner.mine();
    rig.send(&miner.message(share));
    assert_eq!(rig.shares().last().expect("a share").error_code, None);
}

/// Its client hears of the prefix, and sets its next job for that.
#[test]
fn a_block_on_the_miners_own_job_of_before_is_found_and_the_channel_stays() {
    let (mut rig, mut miner) = connected();
    let on = tip(1, SOME);
    rig.input(Input::Tip(on));
    let set_job = |rig: &mut Rig, miner: &mut Miner, request_id| {
        rig.send(&set(miner.channel_id, request_id, &on));
        let job = accepted(miner.channel_id, request_id, custom(&on, FULL));
        let (.., job_id) = success(&rig.input(job));
        works_on(miner, &on, job_id);
    };
    set_job(&mut rig, &mut miner, 5);
    mines_on(&mut rig, &mut miner);
    set_job(&mut rig, &mut miner, 6);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
}
