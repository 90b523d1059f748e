//! Solo mode: each user names the address that is paid.

use bitcoin::{Address, Network, ScriptBuf};
use jds::client::ClientError;
use jds_tests::{PATIENCE, Setup};
use signet::wait;

use crate::{HASHRATE, client, extended};

/// An address nobody can spend from, and its script.
fn user() -> (String, ScriptBuf) {
    let script = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![0x51]).wscript_hash());
    (Address::from_script(&script, Network::Regtest).unwrap().to_string(), script)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_address_gets_the_reward_and_the_operator_the_fee() {
    let operator = "mode = \"solo\"\nfee_percent = 2\nscript = \"raw(6a5151)\"";
    let operator = operator.replace("6a5151", "0014000000000000000000000000000000000000aaaa");
    let world = Setup::new().payout(&operator).mining("").start().await;
    let (address, script) = user();
    let (mut client, mut channel) = extended(&world, &format!("{address}.rig1")).await;
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
    let coinbase = world.node().block(&block.hash()).unwrap().txdata.remove(0);
    let paid = |script: &ScriptBuf| -> u64 {
        let to = coinbase.output.iter().filter(|output| output.script_pubkey == *script);
        to.map(|output| output.value.to_sat()).sum()
    };
    let all: u64 = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(paid(&script), all - all * 2 / 100, "{coinbase:?}");
    let stored = wait::until("our server to know its block", PATIENCE, || {
        world.store().block(&block.hash().to_string()).unwrap()
    });
    let stored = stored.unwrap();
    assert_eq!((stored.user, stored.reward_sat), (address, all));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_address_of_the_network_gets_no_channel() {
    let world = Setup::new().payout("mode = \"solo\"").mining("").start().await;
    let mut client = client(&world, 0).await;
    for user in ["alice", "", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig1"] {
        let refused = client.open_extended(user, HASHRATE, 8).await;
        let Err(ClientError::ChannelRefused(code)) = refused else { panic!("{refused:?}") };
        assert_eq!(code, "invalid-user-identity");
    }
    let (address, _) = self::user();
    client.open_extended(&address, HASHRATE, 8).await.unwrap();
}
