//! A peer that floods: its events become one aggregate per kind, exactly counted; the tokens that it
//! used up stay so, and nobody else's events are touched.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds::limits::{FLOOD_EVENTS_PER_INTERVAL, FLOOD_INTERVAL};
use jds_tests::{Miner, World, accepted, kept, rejected};
use jds_wire::Secp256k1PublicKey;
use store::{Event, EventData, EventKind, ValidationResult};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// More than a peer may cause of one kind, as numbers of users, declarations or tokens.
const FLOOD: usize = FLOOD_EVENTS_PER_INTERVAL as usize + 150;
/// The address that the flood comes from.
const FLOODER: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The address of the other one.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How often the other one declares, well and badly each.
const NEIGHBOURLY: usize = 20;

/// Where and whom to connect to.
#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    authority: Secp256k1PublicKey,
}

impl Target {
    fn of(world: &World) -> Self {
        Self { address: world.address(), authority: world.authority }
    }

    async fn connect(self) -> JdClient {
        let options = SetupOptions::default();
        JdClient::connect(self.address, Some(self.authority), &options).await.unwrap()
    }

    /// The same server, for connections that come from another address of this machine.
    async fn seen_from(self, address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let through = listener.local_addr().unwrap();
        let server = self.address;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, address, server));
            }
        });
        Self { address: through, ..self }
    }
}

async fn pass_on(mut client: TcpStream, from: Ipv4Addr, server: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut server = socket.connect(server).await.unwrap();
    // Ends with either side.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A coinbase that nothing can be read from.
fn rubbish(token: &[u8]) -> Declaration<'_> {
    Declaration { token, version: 0x2000_0000, prefix: &[0xff; 3], suffix: &[], wtxids: &[] }
}

#[track_caller]
fn rejected_for(outcome: &DeclareOutcome, code: &str) {
    let DeclareOutcome::Rejected { code: got, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(got, code, "{outcome:?}");
}

/// Connections that ask for a token for ever-new users.
async fn ever_new_users(target: Target) {
    const CONNECTIONS: usize = 10;
    for connection in 0..CONNECTIONS {
        let mut client = target.connect().await;
        for number in 0..FLOOD / CONNECTIONS {
            client.allocate_token(&format!("user-{connection}-{number}")).await.unwrap();
        }
        client.finish().await.unwrap();
    }
}

/// Good tokens, bad declarations. Gives the last token.
async fn rubbish_with_tokens(target: Target) -> Vec<u8> {
    let mut client = target.connect().await;
    let mut last = Vec::new();
    for _ in 0..FLOOD {
        last = client.allocate_token("rubbish").await.unwrap().bytes;
        let outcome = client.declare(rubbish(&last), |_| Vec::new()).await.unwrap();
        rejected_for(&outcome, "invalid-coinbase-tx");
    }
    last
}

/// Tokens that this server never made.
async fn refused_tokens(target: Target) {
    let mut client = target.connect().await;
    for number in 0..FLOOD {
        let token = number.to_le_bytes();
        let outcome = client.declare(rubbish(&token), |_| Vec::new()).await.unwrap();
        rejected_for(&outcome, "invalid-mining-job-token");
    }
}

/// Events of one peer by kind: those of its users, and the users of nobody where `nobodys`.
fn written(events: &[Event], users: impl Fn(&str) -> bool) -> BTreeMap<&'static str, u64> {
    let mut written = BTreeMap::new();
    for event in events {
        if event.data["user"].as_str().is_some_and(&users) {
            *written.entry(event.event.as_str()).or_default() += 1;
        }
    }
    written
}

fn counted(events: &[Event], peer: Ipv4Addr) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for data in kept::payloads(events, EventKind::FloodAggregate) {
        let EventData::FloodAggregate(aggregate) = data else { panic!("{data:?}") };
        assert!(aggregate.first_at <= aggregate.last_at, "{aggregate:?}");
        if aggregate.peer == peer.to_string() {
            *counted.entry(aggregate.kind).or_default() += aggregate.count;
        }
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_becomes_aggregates_and_spent_tokens_stay_spent() {
    let started = Instant::now();
    let world = World::start().await;
    let target = Target::of(&world);
    let floods = (
        tokio::spawn(ever_new_users(target)),
        tokio::spawn(rubbish_with_tokens(target)),
        tokio::spawn(refused_tokens(target)),
    );

    // Meanwhile somebody else mines, from another address.
    let mut client = target.seen_from(NEIGHBOUR).await.connect().await;
    let outputs = client.allocate_token("neighbour").await.unwrap().outputs().unwrap();
    let mut neighbour = Miner { client, user: "neighbour".to_owned(), outputs };
    let template = neighbour.template(&world.work());
    for _ in 0..NEIGHBOURLY {
        accepted(&neighbour.declare(&template).await);
        let token = neighbour.token().await.bytes;
        let outcome = neighbour.client.declare(rubbish(&token), |_| Vec::new()).await.unwrap();
        rejected_for(&outcome, "invalid-coinbase-tx");
    }

    floods.0.await.unwrap();
    let spent = floods.1.await.unwrap();
    floods.2.await.unwrap();
    drop(neighbour);
    // Ends every connection, and tells what is still being counted.
    let world = world.restart(|| {}).await;
    let intervals = 1 + started.elapsed().as_millis() / FLOOD_INTERVAL.as_millis();
    let store = world.store();
    let events = kept::events(&*store);

    let of_neighbour = written(&events, |user| user == "neighbour");
    let of_flood = written(&events, |user| user != "neighbour");
    let flood = FLOOD as u64;
    let sent = [
        ("miner_connected", flood + 1),
        ("miner_disconnected", flood + 1),
        ("template_rejected", 2 * flood),
        ("token_allocated", 2 * flood),
    ];
    let counted_flood = counted(&events, FLOODER);
    for (kind, sent) in sent {
        let (rows, counted) = (of_flood[kind], counted_flood[kind]);
        assert_eq!(rows + counted, sent, "{kind}: {rows} written, {counted} counted");
        let rows_max = u128::from(FLOOD_EVENTS_PER_INTERVAL) * intervals;
        assert!(u128::from(rows) <= rows_max, "{kind}: {rows} rows in {intervals} intervals");
    }
    assert_eq!(counted_flood.len(), sent.len(), "{counted_flood:?}");

    let n = NEIGHBOURLY as u64;
    let expected = [
        ("miner_connected", 1),
        ("miner_disconnected", 1),
        ("template_accepted", n),
        ("template_proposed", n),
        ("template_rejected", n),
        ("token_allocated", 2 * n + 1),
    ];
    assert_eq!(of_neighbour, BTreeMap::from(expected));
    assert!(counted(&events, NEIGHBOUR).is_empty());
    let rows = |user, result| {
        let rows = kept::templates(&*store, user);
        rows.iter().filter(|row| row.result == result).count()
    };
    assert_eq!(rows("neighbour", ValidationResult::Accepted), NEIGHBOURLY);
    assert_eq!(rows("neighbour", ValidationResult::Rejected), NEIGHBOURLY);
    assert!(rows("rubbish", ValidationResult::Rejected) as u64 <= of_flood["template_rejected"]);

    // Tokens are never counted instead of kept.
    assert_eq!(kept::spent_tokens(&*store).len(), FLOOD + 2 * NEIGHBOURLY);
    let mut client = Target::of(&world).connect().await;
    client.allocate_token("rubbish").await.unwrap();
    let outcome = client.declare(rubbish(&spent), |_| Vec::new()).await.unwrap();
    rejected(&outcome, "invalid-mining-job-token", "token-spent");
}
