//! Blocks of coinbase-only jobs whose template came from the server's own template port: the share
//! tells of the block, the solution of the template brings it.

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};
use jds::client::mining::MinedShare;
use jds::client::template::MinerTemplate;
use jds::client::templates::{OwnedTemplate, Pushed, SolvedTemplate, TemplateClient};
use jds::client::{JdClient, SetupOptions};
use jds_tests::{PATIENCE, Setup, Work, World};
use signet::wait;
use store::{BlockSummary, EventData, EventKind, TemplateSource};
use tokio::time::timeout;

use crate::custom::{Jdc, TIP_GRACE, work_with_transactions};
use crate::{events, shares};

const USER: &str = "alice.farm";
/// Whose shares and blocks these are: a name of a miner without the worker.
const OWNER: &str = "alice";

/// A miner in coinbase-only mode that has its templates from the server.
struct OnOurs {
    world: World,
    work: Work,
    jdc: Jdc,
    _declarer: JdClient,
    templates: TemplateClient,
    ours: OwnedTemplate,
    own: MinerTemplate,
}

impl OnOurs {
    async fn start() -> Self {
        let table = "listen = \"127.0.0.1:0\"\nfee_threshold_sat = 1\nmin_interval_ms = 100";
        let world = Setup::new().job_declaration(TIP_GRACE).table("template_distribution", table);
        let world = world.mining("").start().await;
        let work = work_with_transactions(&world).await;
        let address = world.server.template_addr().expect("a server that gives out templates");
        let options = SetupOptions { timeout: PATIENCE, ..SetupOptions::default() };
        let mut templates =
            TemplateClient::connect(address, Some(world.authority), &options).await.unwrap();
        templates.constrain(200, 0).await.unwrap();
        let value_sat = work.subsidy_sat + work.fees_sat;
        let best = on_tip(&mut templates, work.prev_hash, value_sat);
        let ours = timeout(PATIENCE, best).await.expect("a template with all transactions");
        let txs = templates.transactions(ours.id).await.unwrap().expect("of a template in work");
        let txs: Vec<Transaction> = txs.iter().map(|raw| deserialize(raw).unwrap()).collect();
        assert_eq!(txs.len(), work.txs.len());

        let mut jdc = Jdc::connect(&world).await;
        let options = SetupOptions { full_template: false, ..SetupOptions::default() };
        let mut declarer =
            JdClient::connect(world.address(), Some(world.authority), &options).await.unwrap();
        let token = declarer.allocate_token(USER).await.unwrap();
        let own = jdc.template(&Work { txs, ..work.clone() });
        let job = jdc.job(&token.bytes, &own, &work);
        jdc.set(&job, &own).await;
        Self { world, work, jdc, _declarer: declarer, templates, ours, own }
    }

    async fn share(&mut self, block: &MinedShare) {
        let answer = self.jdc.client.submit(&self.jdc.channel, block).await.unwrap();
        assert_eq!(answer, Ok(()));
    }

    async fn solution(&mut self, block: &MinedShare) {
        let (prefix, suffix) = self.own.halves();
        let coinbase = [&prefix[..], &self.jdc.channel.prefix, &block.extranonce, &suffix].concat();
        let coinbase: Transaction = deserialize(&coinbase).unwrap();
        let (template_id, header) = (self.ours.id, block.header);
        let solved = SolvedTemplate { template_id, header, coinbase };
        self.templates.submit(&solved).await.unwrap();
    }

    /// What is in the store once the node has taken the block.
    fn taken(&self, hash: BlockHash) -> BlockSummary {
        self.world.assert_mined(hash, &self.work.txs);
        let (store, hash) = (self.world.store(), hash.to_string());
        wait::until("the node's answer in the store", PATIENCE, || {
            let block = store.block(&hash).unwrap();
            block.filter(|block| !block.submissions.is_empty() && block.tx_count > 0)
        })
        .unwrap()
    }
}

/// Waits for the template on this block that is worth so much.
async fn on_tip(
    templates: &mut TemplateClient,
    prev_hash: BlockHash,
    value_sat: u64,
) -> OwnedTemplate {
    let (mut on, mut future, mut current) = (None, Vec::new(), None);
    loop {
        match templates.pushed().await.unwrap() {
            Pushed::Template(template) if template.future => future.push(template),
            Pushed::Template(template) => current = Some(template),
            Pushed::PrevHash(next) => {
                on = Some(next.prev_hash);
                current = future.drain(..).find(|template| template.id == next.template_id);
            }
        }
        if let Some(template) = &current
            && on == Some(prev_hash.to_byte_array())
            && template.value_sat == value_sat
        {
            return template.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_a_block_does_not_hold_up_its_solution() {
    let mut miner = OnOurs::start().await;
    let block = miner.jdc.channel.mine_block().expect("a block");
    let hash = block.hash();
    // Acknowledged when the announcement is on the disk.
    miner.share(&block).await;
    let told = miner.world.store().block(&hash.to_string()).unwrap().expect("an announced block");
    assert_eq!((&*told.user, told.tx_count), (OWNER, 0));
    miner.solution(&block).await;
    let row = miner.taken(hash);
    assert_eq!((&*row.user, row.template_source), (OWNER, TemplateSource::Miner));
    let found = events(&miner.world, EventKind::BlockFound);
    assert_eq!(found.len(), 1, "told once: {found:?}");
    let Ok(EventData::BlockFound(found)) = found[0].typed() else { panic!("{found:?}") };
    assert_eq!((&*found.user, found.assembled), (OWNER, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_before_its_share_is_submitted_and_told_once() {
    let mut miner = OnOurs::start().await;
    let block = miner.jdc.channel.mine_block().expect("a block");
    miner.solution(&block).await;
    let row = miner.taken(block.hash());
    assert_eq!(row.template_source, TemplateSource::Pool, "nobody has told whose it is");
    // Whether or not the new tip is known by now.
    let _ = miner.jdc.client.submit(&miner.jdc.channel, &block).await.unwrap();
    let again = miner.taken(block.hash());
    assert_eq!((again.user, again.tx_count), (row.user, row.tx_count));
    assert_eq!(events(&miner.world, EventKind::BlockFound).len(), 1);
    assert!(shares(&miner.world).iter().all(|share| share.user == OWNER));
}
