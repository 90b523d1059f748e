//! How many of everything there may be at a time: one more is told to come back, and can when one has gone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use api::pool::limits;
use jds_tests::{PATIENCE, Setup, pool};
use signet::wait;

use crate::worlds::{Site, counted, refused, rig};

const STREAM: &str = "GET /v1/pool/stream HTTP/1.1\r\nHost: pool\r\n\r\n";
const SHARES: &str = "POST /v1/pool/shares HTTP/1.1\r\nHost: pool\r\n\
    Transfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\n\r\n";
/// A request whose body does not come.
const HALF: &str = "POST /v1/pool/shares HTTP/1.1\r\nHost: pool\r\nContent-Length: 2\r\n\
    Content-Type: application/json\r\n\r\n";

/// A connection that has sent this head.
fn sends(site: &Site, head: &str) -> BufReader<UnixStream> {
    let mut stream = pool::connect(&site.socket);
    // Whoever is not let in may be told so before anything is read.
    let _ = stream.write_all(head.as_bytes());
    BufReader::new(stream)
}

/// The status that it is answered with.
fn status(stream: &mut BufReader<UnixStream>) -> u16 {
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer in time");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {line:?}"))
}

/// What a request of somebody new is answered with.
fn tip(site: &Site) -> u16 {
    let head = "GET /v1/pool/tip HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n";
    status(&mut sends(site, head))
}

/// So many get in with this head, one more does not, and does when one of them has gone.
fn places(site: &Site, head: &str, max: usize) {
    let mut held = Vec::new();
    for number in 0..max {
        let mut stream = sends(site, head);
        assert_eq!(status(&mut stream), 200, "{number} of {max}");
        held.push(stream);
    }
    assert_eq!(status(&mut sends(site, head)), 503, "there were {max}");
    assert_eq!(tip(site), 200, "others are served");
    held.pop();
    wait::until_true("a place that was given back", PATIENCE, || {
        status(&mut sends(site, head)) == 200
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_streams_of_shares_have_so_many_places() {
    let site = Site::start(Setup::new()).await;
    places(&site, STREAM, limits::STREAM_CLIENTS_MAX);
    places(&site, SHARES, limits::SHARE_STREAMS_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_connections_are_open_and_so_many_requests_under_way() {
    let site = Site::start(Setup::new()).await;
    let mut waiting: Vec<_> = (0..limits::REQUESTS_MAX).map(|_| sends(&site, HALF)).collect();
    wait::until_true("all turns to be taken", PATIENCE, || tip(&site) == 503).unwrap();
    for stream in &mut waiting {
        stream.get_mut().write_all(b"[]").unwrap();
        assert_eq!(status(stream), 200);
    }
    assert_eq!(tip(&site), 200, "all turns are back");
    drop(waiting);

    wait::until_true("all connections to be closed", PATIENCE, || {
        // Silent ones take places as well.
        let mut held: Vec<_> = (0..limits::CONNECTIONS_MAX).map(|_| sends(&site, "")).collect();
        let full = tip(&site) == 503;
        held.pop();
        wait::until_true("a place that was given back", PATIENCE, || tip(&site) == 200).unwrap();
        full
    })
    .unwrap();
}

/// Each is answered, though they are judged in parts.
#[tokio::test(flavor = "multi_thread")]
async fn more_lines_than_are_judged_at_a_time_are_all_answered_in_order() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let share = rig(&mut site.pool(), &receipt).mine(false).json.to_string() + "\n";
    let count = 2 * limits::STREAM_BATCH_SHARES_MAX + 1;
    assert!(count * share.len() > limits::STREAM_PENDING_BYTES_MAX, "{} a share", share.len());
    let mut stream = sends(&site, SHARES);
    let mut sender = stream.get_ref().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let text = share.repeat(count);
        write!(sender, "{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).unwrap();
    });
    assert_eq!(status(&mut stream), 200);
    let results: Vec<serde_json::Value> = stream
        .lines()
        .map(|line| line.expect("a line of the answer in time"))
        .filter(|line| line.starts_with('{'))
        .take(count)
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    sending.join().unwrap();
    assert_eq!(results.len(), count);
    counted(&results[0]);
    results[1..].iter().for_each(|result| refused(result, "duplicate-share"));
}
