//! What is on the wire: on the port of Stratum V2 nothing that can be read, on that of Stratum V1
//! all of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bitcoin::hex::DisplayHex;
use jds::client::SetupOptions;
use jds::client::mining::MiningClient;
use jds_tests::sv1::{Sv1Client, is_block};
use jds_tests::{Setup, World};

use crate::{BLOCKS_BEFORE, HASHRATE};

const USER: &str = "alice-of-the-plain-text.rig1";
const VENDOR: &str = "a-vendor-in-plain-text";
const DEVICE: &str = "a-device-in-plain-text";
const POOL_TAG: &str = "a-tag-as-it-is";
/// Bytes that a session has at least in each direction; less is no session.
const SESSION_BYTES_MIN: usize = 200;
const CHUNK_BYTES: usize = 16 * 1024;

/// A connection's bytes: those of the miner, and those of the server.
type Recorded = Arc<[Mutex<Vec<u8>>; 2]>;

/// Passes one connection on and keeps what it says. Ends with it.
fn recorder(server: SocketAddr) -> (SocketAddr, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recorded = Recorded::default();
    let kept = Arc::clone(&recorded);
    thread::spawn(move || {
        let (miner, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let lines = [(&miner, &server), (&server, &miner)];
        for (direction, (from, to)) in lines.into_iter().enumerate() {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let kept = Arc::clone(&kept);
            thread::spawn(move || pass_on(from, to, &kept[direction]));
        }
    });
    (address, recorded)
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        // Before it arrives: what was answered was recorded.
        kept.lock().unwrap().extend(&chunk[..count]);
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Names of what can be read in either direction, as it is or as hexadecimal digits.
fn readable<'a>(recorded: &Recorded, secrets: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
    let sides = recorded.each_ref().map(|side| side.lock().unwrap().clone());
    let long = sides.iter().all(|side| side.len() >= SESSION_BYTES_MIN);
    assert!(long, "no session: {:?} bytes", sides.each_ref().map(Vec::len));
    let has = |what: &[u8]| {
        sides.iter().any(|side| side.windows(what.len()).any(|w| w.eq_ignore_ascii_case(what)))
    };
    let found = |secret: &&(&str, Vec<u8>)| {
        has(&secret.1) || has(secret.1.to_lower_hex_string().as_bytes())
    };
    secrets.iter().filter(found).map(|(name, _)| *name).collect()
}

/// What both protocols say in a session.
fn secrets(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("user", USER.into()),
        ("tag", POOL_TAG.into()),
        ("payout", world.node().mining_script().to_bytes()),
    ]
}

async fn world() -> World {
    let world = Setup::new().mining(&format!("pool_tag = \"{POOL_TAG}\"")).start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_session_of_stratum_v2_can_be_read_on_the_wire() {
    let world = world().await;
    let (address, recorded) = recorder(world.mining());
    let options = SetupOptions {
        vendor: VENDOR.to_owned(),
        device_id: DEVICE.to_owned(),
        ..SetupOptions::default()
    };
    let authority = Some(world.authority);
    let mut client = MiningClient::connect(address, authority, &options).await.unwrap();
    let mut channel = client.open_extended(USER, HASHRATE, 8).await.unwrap();
    client.work(&mut channel).await.unwrap();
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);

    let mut secrets = secrets(&world);
    secrets.extend([
        ("vendor", VENDOR.into()),
        ("device", DEVICE.into()),
        ("a word of the protocol", b"mining".to_vec()),
        ("the tip", AsRef::<[u8]>::as_ref(&block.header.prev_blockhash).to_vec()),
        (
            "the nonce and its time",
            [block.header.nonce, block.header.time]
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect(),
        ),
        ("the extranonce", [&[8], &block.extranonce[..]].concat()),
    ]);
    assert_eq!(readable(&recorded, &secrets), Vec::<&str>::new());
}

/// The same search where nothing is hidden: it finds all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_stratum_v1_can_be_read_by_everybody() {
    let world = world().await;
    let (address, recorded) = recorder(world.mining_v1());
    let mut client = Sv1Client::mining(address, USER).await;
    let block = client.mine(1, is_block);
    let id = client.submit(USER, &block).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(true.into()));
    world.assert_mined(block.header.block_hash(), &[]);

    let mut secrets = secrets(&world);
    secrets.extend([("a word of the protocol", b"mining".to_vec())]);
    let all: Vec<_> = secrets.iter().map(|(name, _)| *name).collect();
    assert_eq!(readable(&recorded, &secrets), all);
}
