//! What every query of the store gives, as text to compare.

use std::collections::BTreeMap;
use std::fmt::Debug;

use store::{
    BlockState, PageRequest, Period, RecoverQuery, Recovered, SharesQuery, Store, TemplateFilter,
    TemplateRef, ValidationResult,
};
use validation::declared::TemplateHash;

use crate::common::{all_events, assert_same_job};
use crate::history::{LATER, USERS};

const ALL: PageRequest = PageRequest { after: None, limit: 0 };
const RECOVER: RecoverQuery = RecoverQuery::ALL;

/// Answers by the name of the query.
pub type View = BTreeMap<String, String>;

/// Asks everything.
pub fn of(store: &dyn Store) -> View {
    let mut view = View::new();
    let mut put = |query: String, answer: &dyn Debug| {
        view.insert(query, format!("{answer:#?}"));
    };
    let events = all_events(store);
    for event in &events {
        // The bytes stay those of their time, without the fields that came later.
        let envelope = store::Event { data: serde_json::Value::Null, ..event.clone() };
        put(format!("event {}", event.id), &(envelope, event.typed().unwrap()));
    }
    put("events".to_owned(), &events.len());
    let templates = store.templates(&TemplateFilter::default(), ALL).unwrap();
    for summary in &templates.items {
        let which = TemplateRef::Id(summary.id);
        let id = summary.id;
        put(format!("template {id}"), summary);
        put(format!("template {id} by id"), &store.template_summary(which).unwrap());
        put(format!("template {id} in detail"), &store.template(which).unwrap());
        put(format!("template {id}, bytes"), &store.template_transactions(which).unwrap());
        if let Some(hash) = &summary.template_hash {
            let filter =
                TemplateFilter { template_hash: Some(hash_of(hash)), ..Default::default() };
            assert!(!store.templates(&filter, ALL).unwrap().items.is_empty(), "{hash}");
            put(format!("template {id} by hash"), &store.templates(&filter, ALL).unwrap());
        }
    }
    for result in
        [ValidationResult::Accepted, ValidationResult::Rejected, ValidationResult::Invalidated]
    {
        let filter = TemplateFilter { result: Some(result), ..Default::default() };
        put(format!("templates {result:?}"), &store.templates(&filter, ALL).unwrap());
    }
    put("spent tokens".to_owned(), &store.spent_tokens(ALL).unwrap());
    put("blocks".to_owned(), &store.blocks(ALL).unwrap());
    for block in store.blocks(ALL).unwrap().items {
        put(format!("block {}", block.block_hash), &store.block(&block.block_hash).unwrap());
    }
    for user in USERS.iter().map(|user| Some(*user)).chain([None]) {
        for period in [Period::Hour, Period::Day] {
            let query = SharesQuery {
                user: user.map(str::to_owned),
                period,
                from_ms: 0,
                until_ms: i64::MAX as u64,
            };
            put(format!("shares {user:?} {period:?}"), &store.shares_summary(&query).unwrap());
        }
        if let Some(user) = user {
            put(format!("miner {user}"), &store.miner(user).unwrap());
            let filter = TemplateFilter { user: Some(user.to_owned()), ..Default::default() };
            put(format!("templates of {user}"), &store.templates(&filter, ALL).unwrap());
        }
    }
    put("webhooks".to_owned(), &store.webhooks().unwrap());
    // So are the sizes of events and templates, and what only later versions keep; that all are counted
    // right is a test of its own.
    let mut sizes = store.sizes().unwrap().tables;
    sizes.retain(|size| !["verdict_inputs", "accounting"].contains(&size.table));
    let grown = |table: &str| ["events", "templates"].contains(&table);
    sizes.iter_mut().filter(|size| grown(size.table)).for_each(|size| size.bytes = 0);
    put("sizes".to_owned(), &sizes);
    let recovered = store.recover(&RECOVER).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    put("recovered tokens".to_owned(), &recovered.spent_tokens);
    put("recovered blocks".to_owned(), &recovered.blocks);
    for template in &recovered.templates {
        let rest = (&template.user, template.user_tag, template.submitted_at, &template.withdrawn);
        put(format!("recovered template {}", template.id), &rest);
    }
    view
}

/// The history has something for every query: an empty answer would prove nothing.
pub fn assert_nothing_empty(store: &dyn Store) {
    let kinds =
        all_events(store).iter().map(|event| event.event).collect::<std::collections::HashSet<_>>();
    assert_eq!(kinds.len(), store::EventKind::ALL.len() - LATER.len(), "an event of every kind");
    let Recovered { spent_tokens, templates, blocks, .. } = store.recover(&RECOVER).unwrap();
    assert!(!spent_tokens.is_empty() && !blocks.is_empty() && templates.len() > 3);
    assert!(templates.iter().any(|template| template.withdrawn.is_some()));
    let states: Vec<_> = store.blocks(ALL).unwrap().items.iter().map(|block| block.state).collect();
    assert!(states.contains(&BlockState::Found) && states.contains(&BlockState::Confirmed));
    assert!(!store.webhooks().unwrap().is_empty());
    for table in store.sizes().unwrap().tables {
        assert!(table.rows > 0, "{} is empty", table.table);
    }
}

/// Accepted jobs can be made into blocks as before.
pub fn assert_same_jobs(left: &dyn Store, right: &dyn Store) {
    let jobs = |store: &dyn Store| store.recover(&RECOVER).unwrap().templates;
    let (left, right) = (jobs(left), jobs(right));
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_same_job(&left.job, &right.job);
    }
}

fn hash_of(hex: &str) -> TemplateHash {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    let bytes: Vec<_> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    TemplateHash::from_bytes(bytes.try_into().unwrap())
}
