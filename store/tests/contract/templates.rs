//! Templates and declarations.

use std::path::Path;
use std::sync::Arc;

use store::{
    Batch, Change, PageRequest, RecoverQuery, RejectedTemplate, Store, TemplateFilter, TemplateRef,
    UserTag, ValidationResult,
};

use crate::common::{NOW_MS, assert_same_job, commit, job, template, txs};
use crate::{Open, RECOVER};

pub fn accepted_templates_come_back(open: Open, dir: &Path) {
    let store = open(dir);
    let jobs = [
        job(200, 0, txs(0..50)),
        job(201, 1, txs(10..60)),
        job(201, 2, vec![]),
        job(150, 3, txs(0..5)),
    ];
    for (number, job) in (0..).zip(&jobs) {
        let template = template("alice", job.clone());
        let batch = Batch::new(NOW_MS).spend_token(number, NOW_MS + number, "alice".into());
        commit(&*store, batch.accept_template(template));
    }
    let invalid = jobs[1].template_hash();
    let reason = "bad-blk".to_owned();
    let invalidate = Change::InvalidateTemplate { template_hash: invalid, reason };
    commit(&*store, Batch::new(NOW_MS).change(invalidate));
    drop(store);

    let store = open(dir);
    let recovered = store.recover(&RecoverQuery { min_height: 200, ..RECOVER }).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    assert_eq!(recovered.templates.len(), 3, "those below the height are of no use");
    for (template, job) in recovered.templates.iter().zip(&jobs) {
        assert_same_job(&template.job, job);
        assert_eq!(template.user, "alice");
        assert_eq!(template.user_tag, UserTag(*b"alice\0\0\0\0\0\0\0\0\0\0\0"));
    }
    let withdrawn: Vec<_> =
        recovered.templates.iter().map(|template| template.withdrawn.as_deref()).collect();
    assert_eq!(withdrawn, [None, Some("bad-blk"), None]);
    let (one, other) = (recovered.templates[0].job.txs(), recovered.templates[1].job.txs());
    assert!(Arc::ptr_eq(&one[10], &other[0]), "transactions are shared");
    // Tokens that have expired are of no use either: 0 expires now.
    assert_eq!((&recovered.spent_tokens[..], recovered.spent_floor), (&[3, 2, 1][..], 0));
    let two = store.recover(&RecoverQuery { spent_tokens_max: 2, ..RECOVER }).unwrap();
    assert_eq!((&two.spent_tokens[..], two.spent_floor), (&[3, 2][..], 1));
    let late = RecoverQuery { now_ms: u64::MAX >> 1, ..RECOVER };
    let late = store.recover(&late).unwrap();
    assert_eq!((&late.spent_tokens[..], late.spent_floor), (&[][..], 3), "expired, but spent");
    let newest = store.recover(&RecoverQuery { templates_max: 1, ..RECOVER }).unwrap();
    assert_same_job(&newest.templates[0].job, &jobs[3]);

    let detail = store.template(TemplateRef::Hash(jobs[0].template_hash())).unwrap().unwrap();
    assert_eq!(detail.coinbase_prefix, jobs[0].coinbase().prefix());
    assert_eq!(detail.coinbase_suffix, jobs[0].coinbase().suffix());
    assert_eq!(usize::from(detail.extranonce_bytes), jobs[0].coinbase().extranonce_len());
    let listed = detail.txs.unwrap();
    assert_eq!(listed.len(), 50);
    for (listed, tx) in listed.iter().zip(jobs[0].txs()) {
        assert_eq!((listed.txid, listed.wtxid), (tx.txid(), tx.wtxid()));
        assert_eq!(listed.bytes as usize, tx.raw().len());
        assert_eq!(listed.weight_wu, tx.weight_wu());
    }
    let raw = store.template_transactions(TemplateRef::Id(detail.summary.id)).unwrap().unwrap();
    assert!(raw.iter().zip(jobs[0].txs()).all(|(raw, tx)| raw == tx.raw()));
    assert_eq!(store.template(TemplateRef::Id(99)).unwrap(), None);
}

/// Lists of transactions are written as changes to earlier ones; all of them come back whole.
pub fn many_similar_templates_come_back(open: Open, dir: &Path) {
    let store = open(dir);
    let pool = txs(0..400);
    let mut jobs = Vec::new();
    for turn in 0..200_usize {
        let mut txs = pool.clone();
        txs.rotate_left(turn * 7 % 400);
        txs.truncate(300);
        txs.swap(turn, (turn * 31) % 300);
        let job = job(300, turn as u32, txs);
        let user = ["alice", "bob"][turn % 2];
        let batch = Batch::new(NOW_MS).accept_template(template(user, job.clone()));
        jobs.push((job, store.commit(batch)));
    }
    let jobs: Vec<_> =
        jobs.into_iter().map(|(job, commit)| (job, commit.wait().unwrap())).collect();
    let check = |store: &dyn Store| {
        let recovered = store.recover(&RECOVER).unwrap();
        assert_eq!(recovered.damaged, Vec::<String>::new());
        assert_eq!(recovered.templates.len(), jobs.len());
        for (template, (job, _)) in recovered.templates.iter().zip(&jobs) {
            assert_same_job(&template.job, job);
        }
    };
    check(&*store);
    drop(store);
    let store = open(dir);
    check(&*store);
    let sizes = store.sizes().unwrap();
    let rows = |name| sizes.tables.iter().find(|table| table.table == name).unwrap().rows;
    assert_eq!(rows("transactions"), 400, "each transaction is there once");
    assert_eq!(rows("templates"), 200);
}

pub fn declarations_are_listed_by_filter(open: Open, dir: &Path) {
    let store = open(dir);
    for number in 0..20_u64 {
        let user = ["alice", "bob"][number as usize % 2];
        let batch = Batch::new(NOW_MS + number);
        let batch = if number % 4 == 3 {
            batch.change(Change::RejectTemplate(RejectedTemplate {
                user: user.into(),
                worker: "".into(),
                user_tag: UserTag([1; 16]),
                template_hash: None,
                tx_count: 4,
                height: Some(7),
                error_code: "invalid-job".into(),
                reason: "weight".into(),
                index: Some(3),
                expected: Some("at-most-4000000".into()),
                actual: Some("4000001".into()),
                validation_ms: 0.5,
                request_bytes: 600,
                inputs: store::RejectedInputs::None,
            }))
        } else {
            batch.accept_template(template(user, job(200, number as u32, txs(0..2))))
        };
        commit(&*store, batch);
    }
    let list = |filter: &TemplateFilter| {
        let (mut after, mut times) = (None, Vec::new());
        loop {
            let page = store.templates(filter, PageRequest { after, limit: 3 }).unwrap();
            assert!(page.items.len() <= 3);
            times.extend(page.items.iter().map(|item| item.submitted_at - NOW_MS));
            after = page.next;
            if after.is_none() {
                return times;
            }
        }
    };
    let none = TemplateFilter::default();
    assert_eq!(list(&none), (0..20).rev().collect::<Vec<_>>());
    let bob = TemplateFilter { user: Some("bob".into()), ..none.clone() };
    assert_eq!(list(&bob), (0..20).rev().filter(|number| number % 2 == 1).collect::<Vec<_>>());
    let rejected = TemplateFilter { result: Some(ValidationResult::Rejected), ..bob };
    assert_eq!(list(&rejected), [19, 15, 11, 7, 3]);
    let range =
        TemplateFilter { from_ms: Some(NOW_MS + 4), until_ms: Some(NOW_MS + 6), ..none.clone() };
    assert_eq!(list(&range), [5, 4]);
    let hash = job(200, 8, txs(0..2)).template_hash();
    assert_eq!(list(&TemplateFilter { template_hash: Some(hash), ..none }), [8]);
    let last = store.templates(&rejected, PageRequest { after: None, limit: 1 }).unwrap();
    let last = &last.items[0];
    assert_eq!(last.error_code.as_deref(), Some("invalid-job"));
    assert_eq!((last.index, last.height), (Some(3), Some(7)));
    assert_eq!(store.template(TemplateRef::Id(last.id)).unwrap(), None, "nothing more is kept");
    let summary = store.template_summary(TemplateRef::Id(last.id)).unwrap();
    assert_eq!(summary.as_ref(), Some(last));
}
