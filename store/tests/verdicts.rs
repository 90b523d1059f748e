//! What a verdict was given on comes back from the disk so that the verdict can be had again, within a
//! bound that nobody fills for others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(unreachable_pub, reason = "tests have no other users")]

#[path = "../../validation/tests/common/mod.rs"]
mod common;
#[path = "../../validation/tests/common/mutations.rs"]
mod mutations;
#[path = "../../validation/tests/common/random.rs"]
mod random;
#[path = "common/mod.rs"]
mod shared;

use std::path::Path;
use std::sync::Arc;

use common::{Template, Wire, assert_same, child, simple};
use mutations::{mutated, mutations};
use proptest::strategy::{Strategy, ValueTree};
use random::{Spec, build, spec};
use shared::{KEEP_ALL, NOW_MS, assert_counted, commit};
use store::limits::VERDICT_INPUTS_BYTES_MAX;
use store::{
    AcceptedTemplate, Batch, Change, EventLog, Keep, NoInputs, RejectedInputs, RejectedTemplate,
    Retention, Settings, SqliteStore, Store, StoredVerdict, TemplateRef, UserTag, VerdictLookup,
    VerdictRef,
};
use validation::replay::{VerdictInputs, replay};
use validation::{AcceptedJob, NodeFacts, Rejection};

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(Settings { retention: KEEP_ALL, ..Settings::new(dir) }).unwrap()
}

type Verdict = Result<AcceptedJob, Rejection>;

fn accepted(user: &str, job: AcceptedJob, inputs: &VerdictInputs) -> Batch {
    Batch::new(NOW_MS).accept_template(AcceptedTemplate {
        rules: Arc::clone(&inputs.rules),
        ..shared::template(user, job)
    })
}

fn rejected(user: u8, rejection: &Rejection, inputs: RejectedInputs) -> Batch {
    Batch::new(NOW_MS).change(Change::RejectTemplate(RejectedTemplate {
        user: format!("user {user}").into(),
        worker: "".into(),
        user_tag: UserTag([user; 16]),
        error_code: rejection.code.as_str().to_owned(),
        reason: rejection.reason.as_str().to_owned(),
        index: rejection.index.map(u64::from),
        expected: rejection.expected.clone(),
        actual: rejection.actual.clone(),
        inputs,
        ..shared::rejected(1)
    }))
}

fn batch((verdict, inputs): (Verdict, VerdictInputs)) -> (Verdict, Batch) {
    let batch = match &verdict {
        Ok(job) => accepted("alice", job.clone(), &inputs),
        Err(rejection) => rejected(1, rejection, RejectedInputs::Kept(Arc::new(inputs))),
    };
    (verdict, batch)
}

fn found(log: &EventLog, which: VerdictRef) -> StoredVerdict {
    match log.verdict(which, None).unwrap() {
        VerdictLookup::Found(verdict) => *verdict,
        other => panic!("{which:?}: {other:?}"),
    }
}

fn by_id(log: &EventLog, id: u64) -> StoredVerdict {
    found(log, VerdictRef::Template(TemplateRef::Id(id)))
}

#[track_caller]
fn check(log: &EventLog, id: u64, verdict: &Verdict) {
    let stored = by_id(log, id);
    assert_same(&replay(&stored.inputs.unwrap()), verdict);
}

/// Every way to break a rule, and random good ones, in one database.
#[test]
fn verdicts_of_every_kind_come_out_of_the_database_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut verdicts = Vec::new();
    let mut write = |wire: Wire| {
        let (verdict, batch) = batch(wire.judged());
        commit(&store, batch);
        verdicts.push(verdict);
    };
    for (_, _, mutation) in &mutations() {
        let spec = spec().new_tree(&mut runner).unwrap().current();
        write(build(&spec).declare());
        let tip_height = spec.tip_height.min(3_000);
        let plain = Spec { commit: true, share_bp: 10_000, tip_height, ..spec };
        write(mutated(&plain, mutation));
    }
    assert_counted(dir.path(), &store.sizes().unwrap());
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    for (id, verdict) in (1..).zip(&verdicts) {
        check(&log, id, verdict);
    }
    let refused = verdicts.iter().filter(|verdict| verdict.is_err()).count();
    assert!(refused >= 50 && verdicts.len() >= 2 * refused, "{refused}");
}

/// Two transactions, one of them unknown to any node.
fn half_known() -> Template {
    let mut template = Template::new(1_000, vec![simple(1), simple(2)]);
    template.facts = vec![Some(NodeFacts { fee_sat: 7, sigop_cost: 4 }), None];
    template.rules = common::pool_rules(9_000);
    template
}

#[test]
fn what_nodes_told_is_what_they_had_told_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let unknown = half_known().declare().judged();
    let mut template = half_known();
    template.facts[1] = Some(NodeFacts { fee_sat: 9, sigop_cost: 8 });
    let known = template.declare().judged();
    // The same with another coinbase, so that it has a list of its own; then refused for its values.
    template.set_script(1_001, b"/other/");
    let other = template.declare().judged();
    template.coinbase.output[0].value += bitcoin::Amount::from_sat(17);
    let greedy = template.declare().judged();
    template.facts[1] = None;
    let unsure = template.declare().judged();
    let all = [unknown, known, other, greedy, unsure];
    let verdicts: Vec<Verdict> = all
        .into_iter()
        .map(|judged| {
            let (verdict, batch) = batch(judged);
            commit(&store, batch);
            verdict
        })
        .collect();
    let fees: Vec<_> =
        verdicts.iter().map(|verdict| verdict.as_ref().ok().map(|job| job.fees())).collect();
    assert_eq!(fees[0].unwrap().total_sat, None);
    assert_eq!(fees[1].unwrap().total_sat, Some(16));
    assert_eq!(fees[3], None, "17 sat are more than 16");
    assert!(fees[4].is_some(), "nobody can say");
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    for (id, verdict) in (1..).zip(&verdicts) {
        check(&log, id, verdict);
    }
}

#[test]
fn a_change_of_what_is_stored_shows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut template = half_known();
    commit(&store, batch(template.declare().judged()).1);
    template.version = 3;
    commit(&store, batch(template.declare().judged()).1);
    store.close();
    let meddle = |sql: &str| {
        let database = rusqlite::Connection::open(dir.path().join("jds.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
        drop(database);
        EventLog::open(dir.path()).unwrap()
    };
    let log = meddle(
        "UPDATE verdict_inputs SET facts = replace(facts, '\"version\":3', '\"version\":4')",
    );
    let again = replay(&by_id(&log, 2).inputs.unwrap());
    assert_ne!(again.result.unwrap_err().reason, validation::Reason::Version);
    let log = meddle("UPDATE miner_templates SET version = 3 WHERE id = 1");
    assert!(replay(&by_id(&log, 1).inputs.unwrap()).result.is_err());
    let log = meddle("UPDATE verdict_inputs SET wtxids = zeroblob(64)");
    assert!(replay(&by_id(&log, 2).inputs.unwrap()).result.is_err());
    let log = meddle("UPDATE verdict_inputs SET wtxids = zeroblob(96)");
    let inputs = by_id(&log, 2).inputs;
    assert!(matches!(inputs, Err(NoInputs::Damaged(_))), "{inputs:?}");
    let log = meddle("UPDATE miner_templates SET rules = NULL WHERE id = 1");
    assert_eq!(by_id(&log, 1).inputs.err(), Some(NoInputs::OlderVersion));
}

#[test]
fn an_event_names_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (good, batch_of_good) = batch(half_known().declare().judged());
    let of_good = commit(&store, batch_of_good).first_event_id.unwrap();
    commit(&store, Batch::of_event(NOW_MS, shared::numbered(1)));
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    let stored = found(&log, VerdictRef::Event(of_good));
    assert_same(&replay(&stored.inputs.unwrap()), &good);
    let look = |id| log.verdict(VerdictRef::Event(id), None).unwrap();
    assert!(matches!(look(of_good + 1), VerdictLookup::OtherEvent(_)));
    assert!(matches!(look(of_good + 2), VerdictLookup::EventGone));
    let other = Some("0123456789abcdef".parse().unwrap());
    let look = log.verdict(VerdictRef::Event(of_good), other).unwrap();
    assert!(matches!(look, VerdictLookup::EventGone), "of another epoch");
}

#[test]
fn retention_says_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention {
        transactions: Keep { age_ms: 1_000, bytes: u64::MAX },
        rejected: Keep { age_ms: 100_000, bytes: u64::MAX },
        ..KEEP_ALL
    };
    let store = SqliteStore::open(Settings { retention, ..Settings::new(dir.path()) }).unwrap();
    let parent = simple(1);
    let template = Template::new(1_000, vec![parent.clone(), child(&parent, 0)]).with_fees(0);
    commit(&store, batch(template.declare().judged()).1);
    let mut twice = template.clone();
    let (stored, mut own) = (twice.txs[0].clone(), twice.txs[0].clone());
    own.output[0].value = bitcoin::Amount::from_sat(1);
    twice.txs = vec![stored, own];
    let (refused, refusal) = batch(twice.declare().judged());
    assert_eq!(refused.as_ref().unwrap_err().reason, validation::Reason::DoubleSpend);
    commit(&store, refusal);
    let look = |id| by_id(&EventLog::open(dir.path()).unwrap(), id).inputs;
    store.retain(NOW_MS).unwrap();
    store.close();
    assert_same(&replay(&look(2).unwrap()), &refused);

    let again = || SqliteStore::open(Settings { retention, ..Settings::new(dir.path()) }).unwrap();
    let store = again();
    store.retain(NOW_MS + 2_000).unwrap();
    assert_counted(dir.path(), &store.sizes().unwrap());
    store.close();
    assert_eq!(look(1).err(), Some(NoInputs::TransactionsGone { gone: 2, of: 2 }));
    assert_eq!(look(2).err(), Some(NoInputs::TransactionsGone { gone: 1, of: 1 }));

    let store = again();
    store.retain(NOW_MS + 200_000).unwrap();
    assert_counted(dir.path(), &store.sizes().unwrap());
    assert_eq!(shared::size(&store.sizes().unwrap(), "verdict_inputs"), (0, 0));
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    let look = log.verdict(VerdictRef::Template(TemplateRef::Id(2)), None).unwrap();
    assert!(matches!(look, VerdictLookup::Absent), "{look:?}");
}

/// A refusal with about so many bytes of inputs.
fn large(bytes: usize) -> (Verdict, VerdictInputs) {
    let mut wire = half_known().declare();
    wire.prefix = vec![0; bytes];
    wire.judged()
}

#[test]
fn who_is_refused_much_displaces_only_what_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let put = |user: u8, bytes: usize| {
        let (verdict, inputs) = large(bytes);
        let inputs = RejectedInputs::Kept(Arc::new(inputs));
        commit(&store, rejected(user, &verdict.unwrap_err(), inputs));
        let (_, held) = shared::size(&store.sizes().unwrap(), "verdict_inputs");
        assert!(held <= VERDICT_INPUTS_BYTES_MAX, "{held}");
    };
    for _ in 0..3 {
        put(1, 1_000_000);
    }
    for _ in 0..100 {
        put(2, 1_000_000);
    }
    put(3, 9_000_000);
    assert_counted(dir.path(), &store.sizes().unwrap());
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    (1..=3).for_each(|id| check(&log, id, &large(1_000_000).0));
    assert_eq!(by_id(&log, 4).inputs.err(), Some(NoInputs::Displaced));
    check(&log, 103, &large(1_000_000).0);
    assert_eq!(by_id(&log, 104).inputs.err(), Some(NoInputs::TooLarge));
}

#[test]
fn what_was_not_kept_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let rejection = large(10).0.unwrap_err();
    let all = [
        (RejectedInputs::None, NoInputs::NoFunction),
        (RejectedInputs::TooMany, NoInputs::TooMany),
        (RejectedInputs::Stalled, NoInputs::Stalled),
    ];
    for (inputs, _) in &all {
        commit(&store, rejected(1, &rejection, inputs.clone()));
    }
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    for (id, (_, why)) in (1..).zip(all) {
        assert_eq!(by_id(&log, id).inputs.err(), Some(why));
    }
}
