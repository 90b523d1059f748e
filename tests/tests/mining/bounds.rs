//! Peers who take more than they give: what is held for them is bounded, and each harms only itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jds::client::SetupOptions;
use jds::client::mining::MiningClient;
use jds::limits::{FLOOD_EVENTS_PER_INTERVAL, FLOOD_INTERVAL};
use jds_tests::sv1::{Sv1Client, is_share};
use jds_tests::{PATIENCE, Setup, World, kept};
use jds_wire::message::mining::{MiningClientMessage, MiningServerMessage};
use serde_json::json;
use store::{EventData, EventKind};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};

use crate::custom::{Jdc, TIP_GRACE, work_with_transactions};
use crate::{HASHRATE, client, events, extended};

/// Bytes of a window: little is under way that the server does not see as unread.
const WINDOW_BYTES: u32 = 4_096;
/// Requests that are sent together.
const BATCH: u32 = 200;
/// More refused shares than one peer may have written in an interval.
const FLOOD: u32 = FLOOD_EVENTS_PER_INTERVAL + 150;

/// Passes one connection on, until it is deaf: then nothing of the server is read any more.
async fn deaf_line(server: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let deaf = Arc::new(AtomicBool::new(false));
    let is_deaf = Arc::clone(&deaf);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(WINDOW_BYTES).unwrap();
        let (mut from_server, mut to_server) = socket.connect(server).await.unwrap().into_split();
        let (mut from_client, mut to_client) = client.into_split();
        let up = async {
            // Ends when the server has closed.
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        };
        let down = async {
            let mut chunk = vec![0; 1_024];
            while !is_deaf.load(Ordering::Relaxed) {
                let Ok(bytes @ 1..) =
                    tokio::io::AsyncReadExt::read(&mut from_server, &mut chunk).await
                else {
                    return;
                };
                if to_client.write_all(&chunk[..bytes]).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    });
    (address, deaf)
}

/// Why a user was sent away, if so.
fn gone(world: &World, user: &str) -> Option<String> {
    events(world, EventKind::MinerDisconnected).iter().find_map(|event| {
        match event.typed().unwrap() {
            EventData::MinerDisconnected(event) => {
                event.reason.filter(|_| event.user.as_deref() == Some(user))
            }
            other => panic!("nobody left: {other:?}"),
        }
    })
}

/// A miner of each protocol who does nothing wrong, each with a share.
async fn others_mine(world: &World) {
    let (mut sv2, mut channel) = extended(world, "bob").await;
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(sv2.submit(&channel, &share).await.unwrap(), Ok(()));
    let mut sv1 = Sv1Client::mining(world.mining_v1(), "dan").await;
    let share = sv1.mine(1, is_share);
    let id = sv1.submit("dan", &share).await;
    assert_eq!(sv1.answer(id).await.unwrap(), Ok(json!(true)));
}

fn assert_gone_for_not_reading(world: &World, user: &str) {
    let reason = gone(world, user).expect("a reason");
    assert!(reason.contains("unread") || reason.contains("did not read"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_on_the_port_of_stratum_v2_is_left() {
    let world = Setup::new().mining("").start().await;
    let (address, deaf) = deaf_line(world.mining()).await;
    let options = SetupOptions::default();
    let mut eve = MiningClient::connect(address, Some(world.authority), &options).await.unwrap();
    let mut channel = eve.open_extended("eve", HASHRATE, 8).await.unwrap();
    eve.work(&mut channel).await.unwrap();
    let mut share = channel.mine_share_only().expect("a share");
    // Of no job: each is answered with an error, and none is hashed.
    share.job_id = u32::MAX;
    let message = channel.message(&share).unwrap();
    deaf.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let mut mined = false;
    while gone(&world, "eve").is_none() {
        assert!(began.elapsed() < PATIENCE, "a miner who does not read is still there");
        for _ in 0..BATCH {
            eve.queue(&message).unwrap();
        }
        // The line is closed at the end.
        if eve.flush().await.is_ok() && !mined {
            others_mine(&world).await;
            mined = true;
        }
    }
    assert_gone_for_not_reading(&world, "eve");
    others_mine(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_on_the_port_of_stratum_v1_is_left() {
    let world = Setup::new().mining("").start().await;
    let (address, deaf) = deaf_line(world.mining_v1()).await;
    let mut eve = Sv1Client::mining(address, "eve").await;
    deaf.store(true, Ordering::Relaxed);
    let began = Instant::now();
    while gone(&world, "eve").is_none() {
        assert!(began.elapsed() < PATIENCE, "a miner who does not read is still there");
        for _ in 0..BATCH {
            eve.request("mining.extranonce.subscribe", json!([])).await;
        }
    }
    assert_gone_for_not_reading(&world, "eve");
    others_mine(&world).await;
}

/// Refused shares are counted when they are very many; accepted ones never.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_shares_is_counted_and_no_accepted_one_is_lost() {
    const ACCEPTED: usize = 20;
    let began = Instant::now();
    let world = Setup::new().mining("").start().await;
    let mut eve = client(&world, 0).await;
    let mut channel = eve.open_extended("eve", HASHRATE, 8).await.unwrap();
    eve.work(&mut channel).await.unwrap();
    let mut none = channel.mine_share_only().expect("a share");
    none.job_id = u32::MAX;
    let mut good = Vec::new();
    for number in 0..FLOOD {
        none.sequence_number = number;
        eve.queue(&channel.message(&none).unwrap()).unwrap();
        if number % 64 == 0 {
            eve.flush().await.unwrap();
        }
        if number as usize % (FLOOD as usize / ACCEPTED) == 1 && good.len() < ACCEPTED {
            let share = channel.mine_share_only().expect("a share");
            let message: MiningClientMessage<'_> = channel.message(&share).unwrap();
            eve.send(&message).await.unwrap();
            good.push(share.hash().to_string());
        }
    }
    eve.flush().await.unwrap();
    let (mut refused, mut acknowledged) = (0, 0);
    while (refused, acknowledged) != (FLOOD, ACCEPTED as u32) {
        match eve.recv().await.unwrap() {
            MiningServerMessage::SubmitSharesError(_) => refused += 1,
            MiningServerMessage::SubmitSharesSuccess(success) => {
                acknowledged += success.new_submits_accepted_count;
            }
            _ => {}
        }
    }
    drop(eve);
    // Tells what is still being counted.
    let world = world.restart(|| {}).await;
    let intervals = 1 + began.elapsed().as_millis() / FLOOD_INTERVAL.as_millis();
    let all = kept::events(&*world.store());
    let (mut rows, mut counted) = (0, 0);
    for data in kept::payloads(&all, EventKind::ShareSubmitted) {
        let EventData::ShareSubmitted(share) = data else { panic!("{data:?}") };
        if share.accepted {
            good.retain(|hash| *hash != share.share_hash);
        } else {
            rows += 1;
        }
    }
    for data in kept::payloads(&all, EventKind::FloodAggregate) {
        let EventData::FloodAggregate(aggregate) = data else { panic!("{data:?}") };
        assert_eq!(aggregate.kind, "share_submitted");
        counted += aggregate.count;
    }
    assert_eq!(good, Vec::<String>::new(), "accepted shares that are nowhere");
    assert_eq!(rows + counted, u64::from(FLOOD), "{rows} written, {counted} counted");
    let rows_max = u128::from(FLOOD_EVENTS_PER_INTERVAL) * intervals;
    assert!(u128::from(rows) <= rows_max, "{rows} rows in {intervals} intervals");
}

/// Who negotiates jobs is known by the first one of each user: no flood of another takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_job_of_a_user_is_told_whatever_others_of_its_address_set() {
    let began = Instant::now();
    let world = Setup::new().job_declaration(TIP_GRACE).mining("").start().await;
    let work = work_with_transactions(&world).await;
    let set = async |user: &str, times: u32| {
        let mut jdc = Jdc::connect_as(&world, user).await;
        let template = jdc.template(&work);
        let token = jdc.declare(&template).await;
        let job = jdc.job(&token, &template, &work);
        for _ in 0..times {
            jdc.set(&job, &template).await;
        }
    };
    set("eve", FLOOD).await;
    set("alice.farm", 1).await;
    // All that was handed over is written.
    let world = world.restart(|| {}).await;
    let intervals = 1 + began.elapsed().as_millis() / FLOOD_INTERVAL.as_millis();
    let all = kept::events(&*world.store());
    let (mut of_eve, mut of_alice) = (0_u128, 0);
    for data in kept::payloads(&all, EventKind::JobNegotiated) {
        let EventData::JobNegotiated(negotiated) = data else { panic!("{data:?}") };
        match &*negotiated.user {
            "eve" => of_eve += 1,
            "alice" => of_alice += 1,
            other => panic!("{other} set nothing"),
        }
    }
    assert_eq!(of_alice, 1);
    let most = u128::from(FLOOD_EVENTS_PER_INTERVAL) * intervals + 1;
    assert!(of_eve <= most, "{of_eve} of one user in {intervals} intervals");
}
