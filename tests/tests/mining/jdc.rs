//! The reference implementation's Job Declaration Client: it declares to us, sets custom jobs on our
//! mining port, and its miner's shares and blocks are the miner's own.

use bitcoin::{Amount, BlockHash, Target, Transaction, TxOut, Txid};
use jds_tests::jd_client::{JdClient, JdClientSetup};
use jds_tests::reference::Running;
use jds_tests::{PATIENCE, Setup, World};
use signet::wait;
use store::{EventData, EventKind, Role, ShareSubmitted, TemplateSource};

use crate::{BLOCKS_BEFORE, events, mixed, shares, wait_event};

/// Client and miner.
pub(crate) struct Peer {
    pub(crate) client: JdClient,
    pub(crate) device: Running,
}

impl Peer {
    pub(crate) fn logs(&self) -> String {
        format!("{}\n{}", self.client.program.log_end(), self.device.log_end())
    }
}

/// Has the server serve templates, fresh ones soon.
pub(crate) fn with_templates(setup: Setup) -> Setup {
    let templates = "listen = \"127.0.0.1:0\"\nfee_threshold_sat = 1\nmin_interval_ms = 1000";
    setup.table("template_distribution", templates)
}

/// Everything that the client needs is ours: templates, tokens, channels.
pub(crate) async fn world() -> World {
    let world = with_templates(Setup::new()).mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    world
}

/// Starts a client for `user`, and a miner at it.
pub(crate) fn run(world: &World, user: &str) -> Peer {
    let client = JdClientSetup::new(user).start(world);
    let device = client.device(&[]);
    Peer { client, device }
}

pub(crate) fn ids(txs: &[Transaction]) -> Vec<Txid> {
    txs.iter().map(Transaction::compute_txid).collect()
}

/// The first accepted share on a miner's template that is wanted.
pub(crate) fn wait_share(
    world: &World,
    peer: &Peer,
    wanted: impl Fn(&ShareSubmitted) -> bool,
) -> ShareSubmitted {
    let good = |share: &ShareSubmitted| {
        share.accepted && share.template_source == TemplateSource::Miner && wanted(share)
    };
    let found = wait::until("an accepted share on a miner's template", PATIENCE, || {
        shares(world).into_iter().find(good)
    });
    found.unwrap_or_else(|error| panic!("{error}; {}", peer.logs()))
}

/// Blocks of the miner's until its transactions are in one of them.
const BLOCKS_MAX: usize = 100;

/// Waits for a block of the miner's own template.
pub(crate) fn wait_block(world: &World, peer: &Peer, known: &[BlockHash]) -> BlockHash {
    let found = wait::until("a block on the miner's template", PATIENCE, || {
        events(world, EventKind::BlockFound).iter().find_map(|event| {
            let EventData::BlockFound(found) = event.typed().unwrap() else { return None };
            let hash: BlockHash = found.block_hash.parse().unwrap();
            let is_new = found.template_source == TemplateSource::Miner && !known.contains(&hash);
            is_new.then_some(hash)
        })
    });
    found.unwrap_or_else(|error| panic!("{error}; {}", peer.logs()))
}

/// SV2-C-01, -05 and -08 with the reference client: declared, negotiated, mined, told.
#[tokio::test(flavor = "multi_thread")]
async fn shares_and_blocks_through_the_reference_client_are_the_miners() {
    let world = world().await;
    let coins = world.coins(3).await;
    let script = world.node().mining_script();
    let pay = |coin: &signet::Coin| {
        let value = Amount::from_sat(coin.value_sat - 5_000);
        coin.spend(vec![TxOut { value, script_pubkey: script.clone() }])
    };
    let txs: Vec<_> = coins.iter().take(3).map(pay).collect();
    let work = world.relay(&txs).await;
    let peer = run(&world, "carol.rig1");

    let share = wait_share(&world, &peer, |share| share.first_for_user == Some(true));
    assert_eq!((share.user.as_str(), share.worker.as_str()), ("carol", "rig1"));
    let hash = share.miner_template_hash.clone().expect("the miner's template");
    assert!(share.miner_tx_count.is_some() && share.miner_template_fees_sat.is_some());
    assert!(share.pool_payout_sat.is_some() && share.claimable_sat.is_some());
    let accepted = wait_event(
        &world,
        EventKind::TemplateAccepted,
        |event| matches!(event, EventData::TemplateAccepted(event) if event.template_hash == hash),
    );
    let EventData::TemplateAccepted(accepted) = accepted else { panic!("{accepted:?}") };
    assert_eq!(share.miner_tx_count, Some(accepted.tx_count));
    assert_eq!(share.miner_template_fees_sat, Some(accepted.total_fees_sat));
    wait_event(&world, EventKind::JobNegotiated, |event| match event {
        EventData::JobNegotiated(job) => {
            job.template_hash.as_deref() == Some(&hash)
                && (job.channel_id, job.job_id) == (share.channel_id, share.job_id)
        }
        _ => false,
    });
    wait_event(&world, EventKind::MinerConnected, |event| match event {
        EventData::MinerConnected(event) => {
            event.role == Role::Mining
                && event.job_negotiation
                && event.user.as_deref() == Some("carol")
        }
        _ => false,
    });

    // Blocks until all of the transactions are in the chain: more than one, so over tip changes.
    let (mut rest, mut known) = (ids(&work.txs), Vec::new());
    while !rest.is_empty() || known.len() < 3 {
        let hash = wait_block(&world, &peer, &known);
        known.push(hash);
        assert!(known.len() < BLOCKS_MAX, "{rest:?} are in none of {known:?}; {}", peer.logs());
        let block =
            wait::until("the block in the chain", PATIENCE, || world.node().block(&hash).ok());
        let block = block.unwrap_or_else(|error| panic!("{error}; {}", peer.logs()));
        let mined = ids(&block.txdata);
        rest.retain(|txid| !mined.contains(txid));
        let stored = world.store().block(&hash.to_string()).unwrap().expect("the block's record");
        assert!(stored.miner_template_hash.is_some(), "{stored:?}");
    }
    let firsts = shares(&world).iter().filter(|share| share.first_for_user == Some(true)).count();
    assert_eq!(firsts, 1);
}

/// The same where a block takes work. The challenge of this signet is `OP_TRUE`, so its blocks need no
/// signature. On a signet whose blocks are signed (BIP 325) no miner of a pool finds a block at all: the
/// signature is in the coinbase and covers the time and all of the coinbase but itself, so whoever has
/// the key would have to sign each extranonce.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_through_the_reference_client_is_in_the_signets_chain() {
    let world = mixed::signet().await;
    let waiting: Vec<Txid> = world.node().mempool().unwrap();
    assert!(!waiting.is_empty());
    let client = JdClientSetup::new("carol.farm").start(&world);
    // Says that it is slower than it is: shares that are no blocks come before one that is.
    let device = client.device(&["--nominal-hashrate-multiplier", "0.01"]);
    let peer = Peer { client, device };

    let target = Target::from_compact(world.work().bits);
    let is_block = |share: &ShareSubmitted| target.is_met_by(share.share_hash.parse().unwrap());
    let share = wait_share(&world, &peer, |share| !is_block(share));
    assert_eq!((&*share.user, &*share.worker), ("carol", "farm"));
    let of = share.miner_template_hash.clone().expect("the miner's template");
    let accepted = wait_event(
        &world,
        EventKind::TemplateAccepted,
        |event| matches!(event, EventData::TemplateAccepted(event) if event.template_hash == of),
    );
    let EventData::TemplateAccepted(accepted) = accepted else { panic!("{accepted:?}") };
    assert_eq!(share.miner_tx_count, Some(accepted.tx_count));

    let mut known = Vec::new();
    let mut rest = waiting;
    while !rest.is_empty() {
        let hash = wait_block(&world, &peer, &known);
        known.push(hash);
        assert!(target.is_met_by(hash), "a block without work, {hash}");
        let block =
            wait::until("the block in the chain", PATIENCE, || world.node().block(&hash).ok());
        let block = block.unwrap_or_else(|error| panic!("{error}; {}", peer.logs()));
        rest.retain(|txid| !ids(&block.txdata).contains(txid));
    }
    // And it goes on.
    let before = shares(&world).len();
    wait::until_true("a share after the block", PATIENCE, || {
        shares(&world).iter().skip(before).any(|share| share.accepted)
    })
    .unwrap_or_else(|error| panic!("{error}; {}", peer.logs()));
}
