//! A server with a pool interface, and what a pool has of a miner's template.

use std::path::PathBuf;

use bitcoin::hex::DisplayHex;
use jds::client::DeclareOutcome;
use jds_tests::pool::Pool;
use jds_tests::rig::Rig;
use jds_tests::{Setup, World, kept};
use serde_json::{Value, json};
use signet::Node;
use signet::kinds::Kind;
use store::{EventData, EventKind, ShareSubmitted};
use tempfile::TempDir;

/// A server whose pool interface is a socket in a directory of its own.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) socket: PathBuf,
    dir: TempDir,
}

impl Site {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_on(setup, vec![Node::regtest().unwrap()]).await.synced().await
    }

    /// On these nodes, some of which may be down; waits for nothing.
    pub(crate) async fn start_on(setup: Setup, nodes: Vec<Node>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pool.sock");
        let setup = setup.table("pool_interface", &format!("socket = {socket:?}"));
        let world = setup.start_on(nodes).await;
        Self { world, socket, dir }
    }

    async fn synced(self) -> Self {
        self.world.synced().await;
        self
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool::at(&self.socket)
    }

    /// Ends the server in order and starts it again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_alone().await.synced().await
    }

    /// The same without waiting for a node.
    pub(crate) async fn restart_alone(self) -> Self {
        let Self { world, socket, dir } = self;
        let world = world.restart(|| {}).await;
        Self { world, socket, dir }
    }

    /// A template of a payment that the user declared, and its receipt. The chain grows for it.
    pub(crate) async fn receipt(&self, user: &str) -> Vec<u8> {
        self.receipts(&[user]).await.remove(0)
    }

    /// The same of several users, on one tip.
    pub(crate) async fn receipts(&self, users: &[&str]) -> Vec<Vec<u8>> {
        let coins = self.world.coins(1).await;
        let txs = Kind::Payment.build(&coins[0]).unwrap().txs;
        let work = self.world.relay(&txs).await;
        let mut receipts = Vec::new();
        for user in users {
            let mut miner = self.world.miner(user).await;
            let template = miner.template(&work);
            receipts.push(receipt_of(miner.declare(&template).await));
        }
        receipts
    }

    /// The accepted shares in the log.
    pub(crate) fn shares(&self) -> Vec<ShareSubmitted> {
        let events = kept::events(&*self.world.store());
        let shares = events.iter().filter(|event| event.event == EventKind::ShareSubmitted);
        shares
            .filter_map(|event| match event.typed().unwrap() {
                EventData::ShareSubmitted(share) if share.accepted => Some(share),
                _ => None,
            })
            .collect()
    }
}

/// The token of an accepted declaration.
#[track_caller]
pub(crate) fn receipt_of(outcome: DeclareOutcome) -> Vec<u8> {
    match outcome {
        DeclareOutcome::Accepted { new_token, .. } => new_token,
        DeclareOutcome::Rejected { code, details, .. } => panic!("{code}: {details}"),
    }
}

/// What `custom-jobs/verify` says of a receipt alone.
#[track_caller]
pub(crate) fn verify(pool: &mut Pool, receipt: &[u8]) -> Value {
    let answer = pool
        .post("/v1/pool/custom-jobs/verify", &json!({ "token": receipt.to_lower_hex_string() }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Work of a receipt.
#[track_caller]
pub(crate) fn rig(pool: &mut Pool, receipt: &[u8]) -> Rig {
    let verdict = verify(pool, receipt);
    assert_eq!(verdict["accepted"], true, "{verdict}");
    Rig::of(&verdict["job"])
}

/// What `shares` says of one share, or of a list.
#[track_caller]
pub(crate) fn submit(pool: &mut Pool, shares: &Value) -> Value {
    let answer = pool.post("/v1/pool/shares", shares);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// A share that counted.
#[track_caller]
pub(crate) fn counted(result: &Value) {
    assert_eq!(result["valid"], true, "{result}");
}

/// A share that did not, with that code.
#[track_caller]
pub(crate) fn refused(result: &Value, code: &str) {
    assert_eq!((&result["valid"], &result["code"]), (&false.into(), &code.into()), "{result}");
}
