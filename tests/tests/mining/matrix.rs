//! The six configurations that the reference project has its stack tried in: who mines, what stands
//! in front of the pool, over which kind of channel, and who makes the templates. Each runs until its
//! shares are attributed to whom they belong and the transactions that wait are in the chain, in blocks
//! that were found on the right templates.
//!
//! | | miners | in front of us | channels with us | templates |
//! |---|---|---|---|---|
//! | 1 | device of Stratum V2 | nothing | standard, header-only | pool |
//! | 2 | devices of Stratum V2 | a proxy | standard, in a group | pool |
//! | 3 | Stratum V1 | translator | one extended for all | pool |
//! | 4 | Stratum V1 | translator | an extended for each | pool |
//! | 5 | device of Stratum V2 | Job Declaration Client | extended | miner |
//! | 6 | Stratum V1 | translator at a Job Declaration Client | extended | miner |
//!
//! Devices, translator and client are the reference's programs, but for row 2: its device has one mode,
//! standard channels with header-only jobs (it sets `REQUIRES_STANDARD_JOBS` always, and has no option about
//! it), and its proxy for devices of Stratum V2 is published no more, so what speaks there is our own client.
//! Nothing of the reference that mines by itself opens an extended channel: that is done by its translator
//! (rows 3 and 4) and its Job Declaration Client (5 and 6), and with nothing in front by our own client, in
//! [`crate::mixed`] and `scenarios`.

use std::net::SocketAddr;

use bitcoin::{Amount, BlockHash, TxOut};
use jds_tests::jd_client::{JdClient, JdClientSetup};
use jds_tests::reference::{Running, mining_device, translator_with};
use jds_tests::{PATIENCE, Setup, World};
use jds_wire::message::mining::flags;
use signet::wait;
use store::{EventData, EventKind, Protocol, Role, ShareSubmitted, TemplateSource};

use crate::rigs::{self, Rig};
use crate::{BLOCKS_BEFORE, HASHRATE, client, events, jdc, shares, wait_event};

/// A row of the table.
struct Configuration {
    miners: Miners,
    front: Front,
    templates: TemplateSource,
    /// Flags of SetupConnection that whoever stands before us sends.
    flags: u32,
    /// Whose shares are to come: user and workers.
    user: &'static str,
    workers: &'static [&'static str],
}

enum Miners {
    /// The reference's device.
    Device,
    /// Standard channels on one connection that takes jobs for the group.
    Group,
    /// Two of Stratum V1.
    Sv1,
}

enum Front {
    Nothing,
    Translator { aggregate: bool },
    JdClient,
    TranslatorAndJdClient,
}

/// What runs for a row.
#[derive(Default)]
struct Stack {
    programs: Vec<Running>,
    client: Option<JdClient>,
    rigs: Vec<Rig>,
}

impl Stack {
    fn logs(&self) -> String {
        let clients = self.client.iter().map(|client| &client.program);
        let logs: Vec<_> = self.programs.iter().chain(clients).map(Running::log_end).collect();
        logs.join("\n")
    }

    async fn start(world: &World, row: &Configuration) -> Self {
        let mut stack = Self::default();
        let (mut address, mut key) = (world.mining(), world.authority.to_string());
        if let Front::JdClient | Front::TranslatorAndJdClient = row.front {
            let client = JdClientSetup::new("carol.farm").start(world);
            (address, key) = (client.address, client.key.clone());
            stack.client = Some(client);
        }
        let (user, aggregate, extensions) = match row.front {
            Front::Translator { aggregate } => (row.user, aggregate, "[2]"),
            // Whose they are is between the client and its own miners.
            Front::TranslatorAndJdClient => ("farm", true, "[]"),
            Front::Nothing | Front::JdClient => {
                return stack.mine_sv2(world, row, address, &key).await;
            }
        };
        let (translator, listens) = translator_with(address, &key, user, aggregate, extensions);
        translator.wait_listening(listens);
        stack.programs.push(translator);
        let Miners::Sv1 = row.miners else { panic!("a translator is for Stratum V1") };
        stack.rigs.extend(["alice.rig1", "alice.rig2"].map(|user| rigs::sv1(listens, user)));
        stack
    }

    async fn mine_sv2(
        mut self,
        world: &World,
        row: &Configuration,
        address: SocketAddr,
        key: &str,
    ) -> Self {
        match row.miners {
            Miners::Device => self.programs.push(mining_device(address, key, "alice.rig1")),
            Miners::Group => {
                let mut client = client(world, row.flags).await;
                let mut channels = Vec::new();
                for user in ["alice.rig1", "alice.rig2"] {
                    channels.push(client.open_standard(user, HASHRATE).await.unwrap());
                }
                assert_eq!(channels[0].group_id, channels[1].group_id);
                self.rigs.push(rigs::sv2(client, channels));
            }
            Miners::Sv1 => panic!("miners of Stratum V1 need a translator here"),
        }
        self
    }
}

/// Mines until accepted shares of all workers are stored.
fn wait_shares(world: &World, row: &Configuration, stack: &Stack) {
    let accepted = |share: &ShareSubmitted, worker: &str| share.accepted && share.worker == worker;
    for worker in row.workers {
        let what = format!("an accepted share of {worker}");
        wait::until_true(&what, PATIENCE, || {
            shares(world).iter().any(|share| accepted(share, worker))
        })
        .unwrap_or_else(|error| panic!("{error}; {:?}; {}", shares(world), stack.logs()));
    }
    for event in events(world, EventKind::ShareSubmitted) {
        assert_eq!(event.protocol, Protocol::StratumV2, "{event:?}");
    }
    for share in shares(world) {
        assert_eq!((&*share.user, share.template_source), (row.user, row.templates), "{share:?}");
        assert!(row.workers.contains(&&*share.worker), "{share:?}");
        if share.accepted {
            let of_miner = row.templates == TemplateSource::Miner;
            assert_eq!(share.miner_template_hash.is_some(), of_miner, "{share:?}");
        }
    }
}

/// Blocks that were found, each on a template of whom the row says.
fn blocks_found(world: &World, row: &Configuration) -> Vec<BlockHash> {
    let hash = |event: &store::Event| {
        let EventData::BlockFound(found) = event.typed().unwrap() else { panic!("{event:?}") };
        assert_eq!((found.template_source, found.assembled), (row.templates, true), "{found:?}");
        found.block_hash.parse().unwrap()
    };
    events(world, EventKind::BlockFound).iter().map(hash).collect()
}

async fn runs(row: Configuration) {
    let world = jdc::with_templates(Setup::new()).mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    let script = world.node().mining_script();
    let pay = |coin: &signet::Coin| {
        let value = Amount::from_sat(coin.value_sat - 5_000);
        coin.spend(vec![TxOut { value, script_pubkey: script.clone() }])
    };
    let txs: Vec<_> = world.coins(3).await.iter().take(3).map(pay).collect();
    world.relay(&txs).await;
    let stack = Stack::start(&world, &row).await;

    wait_shares(&world, &row, &stack);
    let job_negotiation = row.templates == TemplateSource::Miner;
    wait_event(&world, EventKind::MinerConnected, |event| match event {
        EventData::MinerConnected(event) if event.role == Role::Mining => {
            assert_eq!((event.flags, event.job_negotiation), (row.flags, job_negotiation));
            event.user.as_deref() == Some(row.user)
        }
        _ => false,
    });

    let mut rest = jdc::ids(&txs);
    wait::until_true("all transactions in blocks of the chain", PATIENCE, || {
        for hash in blocks_found(&world, &row) {
            let Ok(block) = world.node().block(&hash) else { continue };
            let height = block.bip34_block_height().unwrap();
            if world.node().block_hash(height as u32).ok() == Some(hash) {
                rest.retain(|txid| !jdc::ids(&block.txdata).contains(txid));
            }
        }
        rest.is_empty()
    })
    .unwrap_or_else(|error| panic!("{error}: {rest:?}; {}", stack.logs()));
    let first = blocks_found(&world, &row)[0].to_string();
    let stored = world.store().block(&first).unwrap().expect("the block's record");
    assert_eq!((&*stored.user, stored.template_source), (row.user, row.templates));
    assert_eq!(stored.miner_template_hash.is_some(), job_negotiation);
}

macro_rules! matrix {
    ($($name:ident: $row:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                runs($row).await;
            }
        )*
    };
}

matrix! {
    configuration_1_a_header_only_device: Configuration {
        miners: Miners::Device,
        front: Front::Nothing,
        templates: TemplateSource::Pool,
        flags: flags::REQUIRES_STANDARD_JOBS,
        user: "alice",
        workers: &["rig1"],
    };
    configuration_2_standard_channels_in_a_group: Configuration {
        miners: Miners::Group,
        front: Front::Nothing,
        templates: TemplateSource::Pool,
        flags: 0,
        user: "alice",
        workers: &["rig1", "rig2"],
    };
    configuration_3_a_translator_with_one_channel: Configuration {
        miners: Miners::Sv1,
        front: Front::Translator { aggregate: true },
        templates: TemplateSource::Pool,
        flags: flags::REQUIRES_VERSION_ROLLING,
        user: "alice",
        workers: &["rig1", "rig2"],
    };
    configuration_4_a_translator_with_a_channel_for_each: Configuration {
        miners: Miners::Sv1,
        front: Front::Translator { aggregate: false },
        templates: TemplateSource::Pool,
        flags: flags::REQUIRES_VERSION_ROLLING,
        user: "alice",
        workers: &["rig1", "rig2"],
    };
    configuration_5_a_device_at_a_job_declaration_client: Configuration {
        miners: Miners::Device,
        front: Front::JdClient,
        templates: TemplateSource::Miner,
        flags: flags::REQUIRES_WORK_SELECTION | flags::REQUIRES_VERSION_ROLLING,
        user: "carol",
        workers: &["farm"],
    };
    configuration_6_a_translator_at_a_job_declaration_client: Configuration {
        miners: Miners::Sv1,
        front: Front::TranslatorAndJdClient,
        templates: TemplateSource::Miner,
        flags: flags::REQUIRES_WORK_SELECTION | flags::REQUIRES_VERSION_ROLLING,
        user: "carol",
        workers: &["farm"],
    };
}
