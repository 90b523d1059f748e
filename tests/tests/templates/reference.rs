//! The reference implementation's pool and Job Declaration Client get their templates here, over a
//! node with nothing but RPC, and what is mined through them lands in the chain.

use bitcoin::{Address, BlockHash, Network};
use jds_tests::reference::{JD_CLIENT, MINING_DEVICE, POOL, Program, Running, free_address};
use jds_tests::{PATIENCE, World};
use signet::wait;

use crate::client::{ids, payments, setup};

/// Blocks before the miner begins, so that the chain has left its initial download.
const BLOCKS_BEFORE: u32 = 20;

struct Peer {
    running: Running,
    device: Running,
}

/// What both kinds of configuration have in common.
fn common(world: &World) -> (String, String) {
    let (secret, public) = config::keys::generate().unwrap();
    let script = world.node().mining_script();
    let reward = Address::from_script(script.as_script(), Network::Regtest).unwrap();
    let text = format!(
        "authority_public_key = \"{public}\"\n\
         authority_secret_key = \"{secret}\"\n\
         cert_validity_sec = 3600\n\
         coinbase_reward_script = \"addr({reward})\"\n\
         shares_per_minute = 60.0\n\
         share_batch_size = 10\n\
         supported_extensions = []\n\
         required_extensions = []\n",
        secret = secret.expose_text().as_str(),
    );
    (text, public.to_string())
}

/// Our server as the template provider.
fn provider(world: &World) -> String {
    format!(
        "[template_provider_type.Sv2Tp]\naddress = \"{}\"\npublic_key = \"{}\"\n",
        world.server.template_addr().unwrap(),
        world.authority,
    )
}

/// Runs the program with our templates, and a miner at it.
fn run(world: &World, program: Program, own: impl Fn(std::net::SocketAddr) -> String) -> Peer {
    let (common, key) = common(world);
    let address = free_address();
    let config = format!("{common}{}{}", own(address), provider(world));
    let running = Running::with_config(program, &config);
    running.wait_listening(address);
    let args = ["--address-pool", &address.to_string(), "--pubkey-pool", &key].map(str::to_owned);
    let more = ["--id-user", "miner", "--id-device", "device", "--cores", "1"].map(str::to_owned);
    let device = Running::with_args(MINING_DEVICE, &[&args[..], &more[..]].concat());
    Peer { running, device }
}

/// Waits for a block that the miner made, which is one that nobody else can have.
fn wait_block(world: &World, peer: &Peer, height: u32) -> BlockHash {
    let node = world.node();
    let what = format!("a block at height {height}");
    wait::until(&what, PATIENCE, || node.block_hash(height).ok()).unwrap_or_else(|error| {
        panic!("{error}; {}\n{}", peer.running.log_end(), peer.device.log_end())
    })
}

async fn mined_through(program: Program, own: impl Fn(std::net::SocketAddr) -> String) {
    let world = setup().start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    let txs = payments(&world, 3).await;
    let work = world.relay(&txs).await;
    let before = world.node().height().unwrap();
    let peer = run(&world, program, own);
    let mut rest = ids(&work.txs);
    // Two: the second shows that a new tip reached the miner. A first block may come before the
    // transactions do.
    let mut height = before + 1;
    while height <= before + 2 || !rest.is_empty() {
        let hash = wait_block(&world, &peer, height);
        let block = world.node().block(&hash).unwrap();
        let mined = ids(&block.txdata[1..]);
        rest.retain(|txid| !mined.contains(txid));
        let stored = wait::until("our server to know its block", PATIENCE, || {
            world.store().block(&hash.to_string()).unwrap()
        });
        let stored = stored.unwrap_or_else(|error| panic!("{error}: {}", peer.running.log_end()));
        assert_eq!(stored.user, "template-distribution");
        height += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_mined_through_the_reference_pool_is_in_the_chain() {
    mined_through(POOL, |address| {
        format!("listen_address = \"{address}\"\nserver_id = 1\npool_signature = \"test\"\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_mined_through_the_reference_client_is_in_the_chain() {
    mined_through(JD_CLIENT, |address| {
        format!(
            "listening_address = \"{address}\"\nmax_supported_version = 2\n\
             min_supported_version = 2\nmode = \"SOLOMINING\"\njdc_signature = \"test\"\n\
             upstreams = []\n"
        )
    })
    .await;
}
