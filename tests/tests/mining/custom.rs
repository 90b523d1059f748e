//! Jobs that miners choose (SV2 5.3.18), set over a real socket and mined to blocks.

use bitcoin::{Amount, TxOut};
use jds::client::mining::{Channel, MiningClient};
use jds::client::template::MinerTemplate;
use jds::client::{DeclareOutcome, JdClient, SetupOptions};
use jds_tests::{Miner, Setup, Work, World, rejected};
use jds_wire::message::mining::{SetCustomMiningJobOwned, flags};
use serde_json::Value;
use store::{EventData, EventKind, TemplateSource};

use crate::{HASHRATE, client, shares, wait_event};

const USER: &str = "alice.farm";
const TOKEN: &str = "invalid-mining-job-token";
pub(crate) const STALE: &str = "stale-chain-tip";
/// Long enough for a job that waits for our node, short enough to wait for.
pub(crate) const TIP_GRACE: &str = "tip_grace_ms = 300";

/// A job declaration client: both connections, and a channel.
pub(crate) struct Jdc {
    pub(crate) miner: Miner,
    pub(crate) client: MiningClient,
    pub(crate) channel: Channel,
}

pub(crate) async fn work_selection(world: &World) -> MiningClient {
    client(world, flags::REQUIRES_WORK_SELECTION | flags::REQUIRES_VERSION_ROLLING).await
}

impl Jdc {
    pub(crate) async fn connect(world: &World) -> Self {
        Self::connect_as(world, USER).await
    }

    pub(crate) async fn connect_as(world: &World, user: &str) -> Self {
        let mut client = work_selection(world).await;
        let channel = client.open_extended(user, HASHRATE, 10).await.unwrap();
        Self { miner: world.miner(user).await, client, channel }
    }

    /// The node's transactions, with room for the channel's extranonce.
    pub(crate) fn template(&self, work: &Work) -> MinerTemplate {
        let (value_sat, outputs) = (work.subsidy_sat + work.fees_sat, self.miner.outputs.clone());
        let extranonce_bytes = self.channel.extranonce_bytes();
        MinerTemplate::new(work.height, value_sat, outputs, work.txs.clone(), extranonce_bytes)
    }

    pub(crate) async fn declare(&mut self, template: &MinerTemplate) -> Vec<u8> {
        match self.miner.declare(template).await {
            DeclareOutcome::Accepted { new_token, .. } => new_token,
            refused @ DeclareOutcome::Rejected { .. } => panic!("{refused:?}"),
        }
    }

    pub(crate) fn job(
        &self,
        token: &[u8],
        template: &MinerTemplate,
        work: &Work,
    ) -> SetCustomMiningJobOwned {
        let Work { prev_hash, time, bits, .. } = *work;
        self.channel.custom_job(token, template, prev_hash, time, bits).unwrap()
    }

    /// Sets a job that has to be accepted, and works on it.
    pub(crate) async fn set(
        &mut self,
        job: &SetCustomMiningJobOwned,
        template: &MinerTemplate,
    ) -> u32 {
        let job_id = self.client.set_custom_job(job.clone()).await.unwrap().expect("a good job");
        self.channel.work_on(job_id, job, template).unwrap();
        job_id
    }

    pub(crate) async fn refused(&mut self, job: &SetCustomMiningJobOwned, what: &str) -> String {
        self.client.set_custom_job(job.clone()).await.unwrap().expect_err(what)
    }

    pub(crate) async fn mine_block(&mut self) -> bitcoin::BlockHash {
        let block = self.channel.mine_block().expect("a block");
        assert_eq!(self.client.submit(&self.channel, &block).await.unwrap(), Ok(()));
        block.hash()
    }
}

/// Work with some transactions of the node's.
pub(crate) async fn work_with_transactions(world: &World) -> Work {
    let script = world.node().mining_script();
    let spend = |coin: &signet::Coin| {
        let value = Amount::from_sat(coin.value_sat - 5_000);
        coin.spend(vec![TxOut { value, script_pubkey: script.clone() }])
    };
    let txs: Vec<_> = world.coins(3).await.iter().take(3).map(spend).collect();
    world.relay(&txs).await
}

type Mutation = (&'static str, fn(&mut SetCustomMiningJobOwned));

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_custom_job_is_told_by_its_code() {
    // In coinbase-only mode a token that nothing was declared with makes a job.
    let modes = "modes = [\"full-template\"]";
    let world = Setup::new().job_declaration(TIP_GRACE).job_declaration(modes).mining("");
    let world = world.start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    let mutations: &[Mutation] = &[
        (TOKEN, |job| job.token = [7; 64][..].try_into().unwrap()),
        (TOKEN, |job| job.token = [][..].try_into().unwrap()),
        ("invalid-channel-id", |job| job.channel_id += 1_000),
        (STALE, |job| job.prev_hash = [9; 32].into()),
        ("invalid-nbits", |job| job.nbits -= 1),
        ("invalid-min-ntime", |job| job.min_ntime = 1),
        ("invalid-min-ntime", |job| job.min_ntime += 3 * 60 * 60),
        ("invalid-version", |job| job.version ^= 1 << 30),
        ("invalid-coinbase-tx-version", |job| job.coinbase_tx_version += 1),
        ("invalid-coinbase-prefix", |job| {
            let prefix = [job.coinbase_prefix.as_bytes(), &[0]].concat();
            job.coinbase_prefix = prefix.try_into().unwrap();
        }),
        ("invalid-coinbase-tx-input-n-sequence", |job| job.coinbase_tx_input_n_sequence -= 1),
        ("invalid-coinbase-tx-outputs", |job| {
            let mut outputs = job.coinbase_tx_outputs.to_owned_bytes();
            outputs[1] ^= 1;
            job.coinbase_tx_outputs = outputs.try_into().unwrap();
        }),
        ("invalid-coinbase-tx-locktime", |job| job.coinbase_tx_locktime += 1),
        ("invalid-merkle-path", |job| {
            let path = job.merkle_path.clone().into_inner().into_iter().rev().collect();
            job.merkle_path = binary_sv2::Seq0255Owned::new(path).unwrap();
        }),
    ];
    for (code, mutate) in mutations {
        let mut wrong = job.clone();
        mutate(&mut wrong);
        assert_eq!(jdc.refused(&wrong, code).await, *code);
    }
    let median =
        world.node().call::<Value>("getblockchaininfo", &[]).unwrap()["mediantime"].clone();
    let mut early = job.clone();
    early.min_ntime = u32::try_from(median.as_u64().unwrap()).unwrap();
    assert_eq!(jdc.refused(&early, "at the median").await, "invalid-min-ntime");
    // A longer extranonce than the declared one.
    let other = jdc.client.open_extended(USER, HASHRATE, 20).await.unwrap();
    let mut longer = job.clone();
    longer.channel_id = other.id;
    assert_eq!(jdc.refused(&longer, "another extranonce").await, "invalid-coinbase-tx");
    // Nothing was declared with this one.
    let unused = jdc.miner.token().await;
    let undeclared = jdc.job(&unused.bytes, &template, &work);
    assert_eq!(jdc.refused(&undeclared, "no declaration").await, "job-not-yet-validated");
    // After all that the job is as good as ever.
    jdc.set(&job, &template).await;
    let block = jdc.mine_block().await;
    world.assert_mined(block, &work.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_nothing_on_another_connection() {
    let world = Setup::new().job_declaration(TIP_GRACE).mining("").start().await;
    let work = world.work();
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    // Somebody else's, before its owner used it.
    let mut thief = work_selection(&world).await;
    let stolen = thief.open_extended("mallory", HASHRATE, 10).await.unwrap();
    let theirs = SetCustomMiningJobOwned { channel_id: stolen.id, ..job.clone() };
    assert_eq!(thief.set_custom_job(theirs).await.unwrap(), Err(TOKEN.to_owned()));
    // One for each miner behind the client, and as many channels.
    jdc.set(&job, &template).await;
    jdc.set(&job, &template).await;
    let second = jdc.client.open_extended(USER, HASHRATE, 10).await.unwrap();
    let again = SetCustomMiningJobOwned { channel_id: second.id, ..job.clone() };
    jdc.client.set_custom_job(again).await.unwrap().expect("a good job on another channel");
    // The same bytes from another connection of the same user: whatever channel it names.
    let mut replay = work_selection(&world).await;
    assert_eq!(replay.set_custom_job(job.clone()).await.unwrap(), Err(TOKEN.to_owned()));
    let own = replay.open_extended(USER, HASHRATE, 10).await.unwrap();
    for channel_id in [own.id, own.id + 7] {
        let replayed = SetCustomMiningJobOwned { channel_id, ..job.clone() };
        assert_eq!(replay.set_custom_job(replayed).await.unwrap(), Err(TOKEN.to_owned()));
    }
    let block = jdc.mine_block().await;
    world.assert_mined(block, &work.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_work_selection_there_are_no_custom_jobs() {
    let world = Setup::new().job_declaration(TIP_GRACE).mining("").start().await;
    let work = world.work();
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    let mut plain = client(&world, 0).await;
    let channel = plain.open_extended(USER, HASHRATE, 10).await.unwrap();
    let theirs = SetCustomMiningJobOwned { channel_id: channel.id, ..job.clone() };
    assert_eq!(plain.set_custom_job(theirs).await.unwrap(), Err("jd-not-supported".to_owned()));
    jdc.set(&job, &template).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_job_outlives_a_restart_of_the_server() {
    let world = Setup::new().job_declaration(TIP_GRACE).mining("").start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    jdc.set(&job, &template).await;
    drop(jdc);
    let world = world.restart(|| ()).await;
    world.synced().await;
    let mut jdc = Jdc::connect(&world).await;
    let job = jdc.job(&token, &template, &work);
    jdc.set(&job, &template).await;
    let block = jdc.mine_block().await;
    world.assert_mined(block, &work.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_coinbase_only_mode_a_token_makes_one_miners_jobs() {
    let modes = "modes = [\"full-template\", \"coinbase-only\"]";
    let world = Setup::new().job_declaration(TIP_GRACE).job_declaration(modes).mining("");
    let world = world.start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let options = SetupOptions { full_template: false, ..SetupOptions::default() };
    let mut declarer =
        JdClient::connect(world.address(), Some(world.authority), &options).await.unwrap();
    let token = declarer.allocate_token(USER).await.unwrap();
    let template = jdc.template(&work);
    let job = jdc.job(&token.bytes, &template, &work);

    // The rules of a coinbase alone hold here: this one pays the pool too little.
    let mut cheap = template.clone();
    cheap.coinbase.output[0].value = Amount::from_sat(work.subsidy_sat - 1);
    let unpaid = jdc.job(&token.bytes, &cheap, &work);
    assert_eq!(jdc.refused(&unpaid, "underpaid").await, "invalid-coinbase-tx-outputs");
    jdc.set(&job, &template).await;
    jdc.set(&job, &template).await;
    let mut replay = work_selection(&world).await;
    let own = replay.open_extended(USER, HASHRATE, 10).await.unwrap();
    let replayed = SetCustomMiningJobOwned { channel_id: own.id, ..job.clone() };
    assert_eq!(replay.set_custom_job(replayed).await.unwrap(), Err(TOKEN.to_owned()));
    let declared = jdc.miner.declare_with(&token.bytes, &template).await;
    rejected(&declared, TOKEN, "token-spent");

    let block = jdc.mine_block().await;
    let told = shares(&world);
    let told = told.iter().find(|told| told.share_hash == block.to_string());
    let told = told.expect("an acknowledged share in the log");
    assert_eq!((told.template_source, &told.miner_template_hash), (TemplateSource::Miner, &None));
    let taken_sat = Some(work.subsidy_sat + work.fees_sat);
    assert_eq!((told.pool_payout_sat, told.claimable_sat), (taken_sat, taken_sat));
    let found = wait_event(&world, EventKind::BlockFound, |_| true);
    let EventData::BlockFound(found) = found else { panic!("{found:?}") };
    assert_eq!((&*found.block_hash, found.assembled), (&*block.to_string(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_coinbase_only_mode_is_spent_for_good() {
    let modes = "modes = [\"coinbase-only\"]";
    let world = Setup::new().job_declaration(TIP_GRACE).job_declaration(modes).mining("");
    let world = world.start().await;
    let work = world.work();
    let options = SetupOptions { full_template: false, ..SetupOptions::default() };
    let connect = async |world: &World| {
        let declarer = JdClient::connect(world.address(), Some(world.authority), &options).await;
        let mut client = work_selection(world).await;
        let channel = client.open_extended(USER, HASHRATE, 10).await.unwrap();
        (declarer.unwrap(), client, channel)
    };
    let (mut declarer, mut client, channel) = connect(&world).await;
    let token = declarer.allocate_token(USER).await.unwrap();
    let template = MinerTemplate::new(
        work.height,
        work.subsidy_sat,
        token.outputs().unwrap(),
        Vec::new(),
        channel.extranonce_bytes(),
    );
    let job = |channel: &Channel| {
        let Work { prev_hash, time, bits, .. } = work;
        channel.custom_job(&token.bytes, &template, prev_hash, time, bits).unwrap()
    };
    client.set_custom_job(job(&channel)).await.unwrap().expect("a good job");
    drop((declarer, client));
    let world = world.restart(|| ()).await;
    world.synced().await;
    let (_declarer, mut client, channel) = connect(&world).await;
    assert_eq!(client.set_custom_job(job(&channel)).await.unwrap(), Err(TOKEN.to_owned()));
}
