//! The API over a store with one of everything, for tools that ask a running server.
//!
//! Prints its address as a line of JSON, and ends with its standard input.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test's tool")]

#[path = "../tests/http/samples.rs"]
mod samples;

use std::sync::Arc;

use api::{Backend, Live, Metrics, NodeView, OwnTemplate, OwnTx, Part, Settings, Token};
use bitcoin::Network;
use store::{Batch, SqliteStore, Store};

struct Recorded;

impl Backend for Recorded {
    fn nodes(&self) -> Vec<NodeView> {
        vec![NodeView {
            name: "local".into(),
            state: "at_tip".into(),
            ready: true,
            active: true,
            height: Some(199),
            tip_hash: Some(samples::prev_hash(200)),
            tip_age_ms: Some(1_500),
            detail: None,
        }]
    }

    fn own_template(&self) -> Option<Arc<OwnTemplate>> {
        let txs = [samples::tx(2), samples::tx(3)];
        let txs = txs.iter().map(|tx| OwnTx { txid: tx.txid(), wtxid: tx.wtxid(), fee_sat: 700 });
        Some(Arc::new(OwnTemplate {
            node: "local".into(),
            prev_hash: samples::prev_hash(200),
            height: 200,
            received_at_ms: samples::NOW_MS,
            txs: txs.collect(),
        }))
    }

    fn live(&self) -> Live {
        Live { tokens: 7, connections: vec![("job_declaration", 3)], ..Live::default() }
    }

    fn readiness(&self) -> Vec<Part> {
        vec![Part::ready("node:local"), Part::ready("listener:job_declaration")]
    }
}

#[tokio::main]
async fn main() {
    let token = std::env::args().nth(1).expect("a token as the argument");
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(store::Settings::new(dir.path())).unwrap());
    let spent = Batch::new(samples::NOW_MS).spend_token(5, u64::MAX >> 1, "alice".into());
    let batches = (200..203)
        .map(|height| samples::accepted("alice", samples::job(height, [1, 2])))
        .chain([samples::rejected("alice"), samples::share("alice"), spent, samples::block(1).1])
        .chain([Batch::of_event(samples::NOW_MS, samples::numbered(1))]);
    for batch in batches {
        store.commit(batch).await.unwrap();
    }
    let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), Network::Regtest);
    settings.token = Some(Token::from_text(&token).expect("a longer token"));
    settings.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    let listener = api::bind(&settings).await.unwrap();
    println!("{{\"api\":\"http://{}\"}}", listener.local_addr().unwrap());
    let input =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let input = async { drop(input.await) };
    api::serve(listener, settings, store, Arc::new(Recorded), Metrics::new(), input).await.unwrap();
}
