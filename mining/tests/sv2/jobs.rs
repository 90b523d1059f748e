//! Jobs of the pool: who gets which, when, and what a share on them is worth.

use bitcoin::Target;
use jds_wire::message::mining::MiningServerMessage as M;
use mining::Input;

use crate::support::{EASY, HARD, Miner, Rig, STANDARD_JOBS, open_extended, open_standard};
use crate::support::{settings, tip, work};

#[test]
fn an_extended_channel_gets_a_future_job_and_its_shares_count() {
    let mut rig = Rig::set_up(settings(), 0);
    assert!(rig.input(Input::Work(work(1, tip(1, HARD)))).is_empty());
    let opened = rig.send(&open_extended(7, "alice.rig", 4));
    assert!(matches!(
        &opened[..],
        [M::OpenExtendedMiningChannelSuccess(_), M::NewExtendedMiningJob(_), M::SetNewPrevHash(_)]
    ));
    let mut miner = Miner::opened(&opened);
    let share = miner.mine();
    let answer = rig.send(&miner.message(share.clone()));
    let [M::SubmitSharesSuccess(success)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(success.last_sequence_number, share.sequence_number);
    assert_eq!(success.new_submits_accepted_count, 1);
    assert!(rig.found().is_empty());
}

#[test]
fn a_standard_channel_hashes_headers_only() {
    let mut rig = Rig::set_up(settings(), STANDARD_JOBS);
    rig.input(Input::Work(work(1, tip(1, EASY))));
    let opened = rig.send(&open_standard(7, "alice.rig"));
    assert!(matches!(
        &opened[..],
        [M::OpenStandardMiningChannelSuccess(_), M::NewMiningJob(_), M::SetNewPrevHash(_)]
    ));
    let mut miner = Miner::opened(&opened);
    let share = miner.mine();
    let header = miner.header(&share);
    let answer = rig.send(&miner.message(share));
    assert!(matches!(&answer[..], [M::SubmitSharesSuccess(_)]), "{answer:?}");
    assert_eq!(rig.found().len(), 1);
    assert_eq!(rig.found()[0].header, header);
    assert!(Target::from_compact(header.bits).is_met_by(header.block_hash()));
}
