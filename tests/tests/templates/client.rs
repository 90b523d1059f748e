//! A client that holds the server to the protocol, and the world it lives in.

use std::time::Duration;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Transaction, TxOut, Txid};
use jds::client::SetupOptions;
use jds::client::templates::{OwnedTemplate, Pushed, SolvedTemplate, TemplateClient};
use jds_tests::{PATIENCE, Setup, World};
use jds_wire::message::template::SetNewPrevHash;
use tokio::time::timeout;

/// What the demo client of these tests adds to the coinbase, bytes: less than the floor.
pub(crate) const SIZE: u32 = 100;

/// One node, and a server that gives out templates as soon as they are better by a satoshi.
pub(crate) fn setup() -> Setup {
    let lines = "listen = \"127.0.0.1:0\"\nfee_threshold_sat = 1\nmin_interval_ms = 100";
    Setup::new().table("template_distribution", lines)
}

/// As many transactions as there are coins, with different fees; mined blocks come with it.
pub(crate) async fn payments(world: &World, count: usize) -> Vec<Transaction> {
    let script = world.node().mining_script();
    let coins = world.coins(count).await;
    let pay = |(index, coin): (usize, &signet::Coin)| {
        let fee_sat = 5_000 + 1_000 * index as u64;
        let value = Amount::from_sat(coin.value_sat - fee_sat);
        coin.spend(vec![TxOut { value, script_pubkey: script.clone() }])
    };
    coins.iter().take(count).enumerate().map(pay).collect()
}

pub(crate) fn options() -> SetupOptions {
    SetupOptions { timeout: PATIENCE, ..SetupOptions::default() }
}

/// A connection that is set up and has said nothing else.
pub(crate) async fn connect(world: &World) -> TemplateClient {
    let address = world.server.template_addr().expect("a server that gives out templates");
    TemplateClient::connect(address, Some(world.authority), &options()).await.unwrap()
}

/// A client with work.
pub(crate) struct Client {
    pub(crate) wire: TemplateClient,
    /// What it builds on.
    pub(crate) on: SetNewPrevHash,
    /// What it works on.
    pub(crate) template: OwnedTemplate,
    /// The highest template id it was sent.
    last_id: u64,
    /// Future templates since the last SetNewPrevHash.
    future: Vec<OwnedTemplate>,
    /// What it was told to build on, oldest first.
    pub(crate) told: Vec<BlockHash>,
}

impl Client {
    /// Connects, and gets its first work.
    pub(crate) async fn connect(world: &World, size: u32) -> Self {
        let mut wire = connect(world).await;
        wire.constrain(size, 0).await.unwrap();
        Self::start(wire).await
    }

    /// The first work of a connection.
    pub(crate) async fn start(mut wire: TemplateClient) -> Self {
        let Pushed::Template(template) = wire.pushed().await.unwrap() else {
            panic!("the first message is a template")
        };
        assert!(template.future, "the first template waits for its SetNewPrevHash");
        let Pushed::PrevHash(on) = wire.pushed().await.unwrap() else {
            panic!("and that comes next")
        };
        assert_eq!(on.template_id, template.id);
        let last_id = template.id;
        let told = vec![BlockHash::from_byte_array(on.prev_hash)];
        Self { wire, on, template, last_id, future: Vec::new(), told }
    }

    /// Takes the next message in.
    pub(crate) async fn step(&mut self) {
        match self.wire.pushed().await.unwrap() {
            Pushed::Template(template) => {
                assert!(template.id > self.last_id, "ids increase strictly");
                self.last_id = template.id;
                if template.future {
                    self.future.push(template);
                } else {
                    assert!(self.future.is_empty(), "a future template waits for its block");
                    self.template = template;
                }
            }
            Pushed::PrevHash(on) => {
                let named = self.future.drain(..).find(|template| template.id == on.template_id);
                self.template = named.expect("SetNewPrevHash names a future template");
                self.told.push(BlockHash::from_byte_array(on.prev_hash));
                self.on = on;
            }
        }
    }

    /// Takes messages in until its work is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let reached = async {
            while !wanted(self) {
                self.step().await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("waited for {what}; the work is {:?} on {:?}", self.template, self.on);
        }
    }

    /// It works on this block.
    pub(crate) fn is_on(&self, hash: &BlockHash) -> bool {
        self.on.prev_hash == hash.to_byte_array()
    }

    /// Until it works on the node's tip, with so many satoshi to claim.
    pub(crate) async fn until_on_tip(&mut self, world: &World, value_sat: u64) {
        let tip = world.node().tip().unwrap();
        let what = format!("work on {tip} worth {value_sat}");
        self.until(&what, |client| client.is_on(&tip) && client.template.value_sat == value_sat)
            .await;
    }

    /// The transactions of its work, as the server has them.
    pub(crate) async fn transactions(&mut self) -> Vec<Transaction> {
        let transactions = self.wire.transactions(self.template.id).await.unwrap();
        let transactions = transactions.expect("transactions of the template in work");
        transactions.iter().map(|raw| deserialize(raw).unwrap()).collect()
    }

    /// Solves its work, paying the first node. `extra` tells solutions apart.
    pub(crate) fn solve(&self, world: &World, extra: &[u8]) -> SolvedTemplate {
        let coinbase = self.template.coinbase(world.node().mining_script(), extra);
        self.template.solve(&self.on, coinbase).expect("a nonce")
    }

    /// Nothing comes for that long.
    pub(crate) async fn quiet(&mut self, limit: Duration) {
        if let Ok(message) = timeout(limit, self.wire.pushed()).await {
            panic!("expected nothing new, got {message:?}");
        }
    }
}

pub(crate) fn ids(txs: &[Transaction]) -> Vec<Txid> {
    txs.iter().map(Transaction::compute_txid).collect()
}
