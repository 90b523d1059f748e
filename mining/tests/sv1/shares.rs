//! What comes of a share.

use bitcoin::consensus::deserialize;
use bitcoin::{Transaction, block::Header};
use mining::{Action, FoundShare, Input, JobSource, ShareRecord};
use serde_json::json;

use crate::miner::settings;
use crate::miner::{Rig, difficulty_of};
use crate::support::{EASY, HARD, script, tip};

fn is_block(header: &Header) -> bool {
    header.target().is_met_by(header.block_hash())
}

fn share(actions: &[Action]) -> &ShareRecord {
    match actions {
        [Action::Share(share)] => share,
        other => panic!("{other:?}"),
    }
}

fn found(actions: &[Action]) -> &FoundShare {
    match actions {
        [Action::Found(found), ..] => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_share_is_recorded_and_then_acknowledged() {
    let mut rig = Rig::easy();
    rig.ask("mining.authorize", json!(["alice.two", ""])).0.unwrap();
    rig.take_actions();
    let (rolled, header) = rig.share(0);
    let fields = rig.fields("alice.two", &rolled);
    let (line, after) = rig.ask_line("mining.submit", fields.into());
    assert_eq!((&line.value["result"], line.durable), (&json!(true), true));
    assert_eq!(after, []);
    let actions = rig.take_actions();
    let share = share(&actions);
    assert_eq!((&*share.user, &*share.worker, share.channel_id), ("alice", "two", 2));
    assert_eq!(share.error_code, None);
    assert_eq!(share.share_hash, Some(header.block_hash()));
    assert!((share.difficulty / rig.difficulty.unwrap() - 1.0).abs() < 1e-9);
    assert!(matches!(share.source, Some(JobSource::Pool(_))));
}

#[test]
fn a_refusal_has_its_number_and_does_not_wait_for_the_disk() {
    let mut rig = Rig::easy();
    let (rolled, _) = rig.share(0);
    let good = rig.fields("alice.one", &rolled);
    rig.submit(good.clone()).unwrap();
    let (low, _) = {
        let difficulty = rig.difficulty.unwrap();
        rig.mine_from(0, 0x2000_0000, |header| difficulty_of(header) < difficulty * 0.5)
    };
    let with = |index: usize, text: &str| {
        let mut fields = good.clone();
        fields[index] = text.into();
        fields
    };
    let early = format!("{:08x}", rolled.ntime - 1);
    let late = format!("{:08x}", rolled.ntime + 7_201);
    let cases = [
        (good.clone(), 22, "Duplicate share"),
        (rig.fields("alice.one", &low), 23, "Low difficulty share"),
        (with(0, "mallory"), 24, "Unauthorized worker"),
        (with(1, "ffff"), 21, "Job not found"),
        (with(1, "no job of ours"), 21, "Job not found"),
        (with(2, "00000000000000"), 20, "Invalid length of extranonce2"),
        (with(2, "xx"), 20, "Invalid extranonce2"),
        (with(3, &early), 20, "Invalid ntime"),
        (with(3, &late), 20, "Invalid ntime"),
        (with(4, "100000000"), 20, "Invalid nonce"),
        (vec![json!("alice.one")], 20, "mining.submit takes 5 or 6 fields"),
    ];
    for (fields, code, message) in cases {
        rig.take_actions();
        let (line, _) = rig.ask_line("mining.submit", fields.clone().into());
        assert_eq!(line.value["error"], json!([code, message, null]), "{fields:?}");
        assert!(!line.durable);
        for action in rig.take_actions() {
            let Action::Share(share) = action else { panic!("{action:?}") };
            assert!(share.error_code.is_some(), "{share:?}");
        }
    }
}

#[test]
fn shares_come_after_subscription_and_name() {
    let mut rig = Rig::new(crate::support::deps(settings()));
    rig.work(1, 1, HARD);
    let fields = json!(["alice", "1", "00".repeat(8), "00", "00"]);
    assert_eq!(rig.ask("mining.submit", fields.clone()).0.unwrap_err().0, 25);
    rig.subscribe();
    assert_eq!(rig.ask("mining.submit", fields).0.unwrap_err().0, 24);
}

#[test]
fn version_bits_count_within_the_mask_that_was_agreed_on() {
    let mut rig = Rig::easy();
    let submit = |rig: &mut Rig, version: u32, bits: &str| {
        let difficulty = rig.difficulty.unwrap();
        let (rolled, _) = rig.mine_from(0, version, |header| difficulty_of(header) >= difficulty);
        let mut fields = rig.fields("alice.one", &rolled);
        fields.push(bits.into());
        rig.submit(fields)
    };
    // Without an agreement the version is the job's; some miners send zero bits all the same.
    assert_eq!(submit(&mut rig, 0x2000_0000, "00000000"), Ok(json!(true)));
    let refused = submit(&mut rig, 0x2000_2000, "00002000").unwrap_err();
    assert_eq!(refused, (20, "Version bits without mining.configure".into()));

    let asked = json!([["version-rolling"], {"version-rolling.mask": "1fffe000"}]);
    let (_, after) = rig.ask("mining.configure", asked);
    assert_eq!(after.last().unwrap().method(), "mining.notify", "a job with the mask");
    assert_eq!(submit(&mut rig, 0x2000_2000, "00002000"), Ok(json!(true)));
    assert_eq!(submit(&mut rig, 0x3fff_e000, "1fffe000"), Ok(json!(true)));
    assert_eq!(submit(&mut rig, 0x3fff_c000, "0x1fffc000"), Ok(json!(true)));
    let outside = submit(&mut rig, 0x2000_0020, "00000020").unwrap_err();
    assert_eq!(outside, (20, "Version bits outside of the mask".into()));
    // Five fields: the version of the job.
    let (rolled, _) = rig.share(5_000_000);
    let fields = rig.fields("alice.one", &rolled);
    assert_eq!(rig.submit(fields), Ok(json!(true)));
}

/// The version of a job may have bits set inside of the mask: what the miner sends takes their place.
#[test]
fn version_bits_replace_those_of_the_job() {
    let mut rig = Rig::new(crate::support::deps(settings()));
    let mut work = crate::support::work_of(1, tip(1, HARD));
    work.template.version = 0x3000_4004;
    rig.input(Input::Work(work.into()));
    rig.subscribe();
    let asked = json!([["version-rolling"], {"version-rolling.mask": "1000e000"}]);
    rig.ask("mining.configure", asked).0.unwrap();
    rig.ask("mining.authorize", json!(["alice.one", ""])).0.unwrap();
    let difficulty = rig.difficulty.unwrap();
    let version = (0x3000_4004 & !0x1000_e000) | 0x0000_2000;
    let (rolled, _) = rig.mine_from(0, version, |header| difficulty_of(header) >= difficulty);
    let mut fields = rig.fields("alice.one", &rolled);
    fields.push("00002000".into());
    assert_eq!(rig.submit(fields), Ok(json!(true)));
}

#[test]
fn a_block_is_handed_over_before_anything_else() {
    let mut rig = Rig::mining(settings(), EASY);
    rig.take_actions();
    let (rolled, header) = rig.mine_from(0, 0x2000_0000, is_block);
    let fields = rig.fields("alice.one", &rolled);
    assert_eq!(rig.submit(fields.clone()), Ok(json!(true)));
    let actions = rig.take_actions();
    assert!(matches!(&actions[..], [Action::Found(_), Action::Share(_)]), "{actions:?}");
    let block = found(&actions);
    assert_eq!((block.header, block.height, &*block.user), (header, 102, "alice"));
    let coinbase: Transaction = deserialize(&block.coinbase).unwrap();
    let job = rig.job.as_ref().unwrap();
    assert_eq!(
        crate::miner::header(job, &rig.extranonce1, &rolled).merkle_root,
        header.merkle_root
    );
    assert_eq!(coinbase.output[0].script_pubkey, script("alice"));
    assert_eq!(coinbase.input[0].witness.len(), 1);

    assert_eq!(rig.submit(fields).unwrap_err().0, 22);
    let again = rig.take_actions();
    assert!(matches!(&again[..], [Action::Share(_)]), "found once: {again:?}");
}

/// Whatever else is wrong with a share: a block is a block.
#[test]
fn a_refused_share_may_be_a_block() {
    let solved = |rig: &Rig, version| rig.mine_from(0, version, is_block);

    let mut rig = Rig::mining(settings(), EASY);
    let (rolled, _) = solved(&rig, 0x2000_0000);
    let fields = rig.fields("mallory", &rolled);
    rig.take_actions();
    assert_eq!(rig.submit(fields).unwrap_err().0, 24);
    let actions = rig.take_actions();
    assert_eq!(&*found(&actions).user, "alice", "the coinbase pays alice");

    let mut rig = Rig::mining(settings(), EASY);
    let (rolled, _) = solved(&rig, 0x2000_0000);
    let fields = rig.fields("alice.one", &rolled);
    rig.input(Input::Tip(tip(2, EASY)));
    rig.take_actions();
    assert_eq!(rig.submit(fields).unwrap_err().0, 21);
    let actions = rig.take_actions();
    assert!(is_block(&found(&actions).header));

    let mut rig = Rig::mining(settings(), EASY);
    let asked = json!([["version-rolling"], {"version-rolling.mask": "00004000"}]);
    rig.ask("mining.configure", asked).0.unwrap();
    let (rolled, solved) = solved(&rig, 0x2000_2000);
    let mut fields = rig.fields("alice.one", &rolled);
    fields.push("00002000".into());
    rig.take_actions();
    assert_eq!(rig.submit(fields).unwrap_err().0, 20);
    let actions = rig.take_actions();
    assert_eq!(found(&actions).header, solved);
}
