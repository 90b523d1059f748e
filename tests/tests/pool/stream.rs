//! The stream of tips and withdrawn jobs: what is told, to whom, and once.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use jds::jobs::Job;
use jds::token::UserTag;
use jds_tests::{Setup, pool};
use serde_json::Value;

use crate::worlds::{Site, refused, rig, submit};

/// A reader of the stream.
struct Reader {
    stream: BufReader<UnixStream>,
    last_id: String,
}

impl Reader {
    /// Opens it; from behind `last_id` on, if that is not empty. HTTP/1.0: without chunks.
    fn open(site: &Site, last_id: &str) -> Self {
        let mut stream = BufReader::new(pool::connect(&site.socket));
        let head = format!(
            "GET /v1/pool/stream HTTP/1.0\r\nHost: pool\r\nLast-Event-ID: {last_id}\r\n\r\n"
        );
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        Self { stream, last_id: last_id.to_owned() }
    }

    /// The next event: its name and what it says.
    fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            let bytes = self.stream.read_line(&mut line).expect("an event of the stream in time");
            assert_ne!(bytes, 0, "the stream ended");
            match line.trim_end().split_once(": ") {
                Some(("event", of)) => of.clone_into(&mut name),
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("data", data)) => return (name, serde_json::from_str(data).unwrap()),
                _ => {}
            }
        }
    }

    /// The next event of that name; none of another may come before it but tips.
    #[track_caller]
    fn expect(&mut self, name: &str) -> Value {
        loop {
            match self.next() {
                (found, data) if found == name => return data,
                (found, _) if found == "tip" => {}
                (found, data) => panic!("{found} before {name}: {data}"),
            }
        }
    }
}

fn tip(site: &Site) -> Value {
    site.world.node().tip().unwrap().to_string().into()
}

/// The newest job of a user.
fn job_of(site: &Site, user: &str) -> Arc<Job> {
    Arc::clone(&site.world.server.shared().jobs.of_user(&UserTag::of(user.as_bytes()))[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn tips_and_withdrawn_jobs_are_told_as_they_come() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let rig = rig(&mut site.pool(), &receipt);
    let mut reader = Reader::open(&site, "");
    assert_eq!(reader.expect("tip")["prev_hash"], tip(&site));
    job_of(&site, "alice").withdraw("bad-txns".into());
    let withdrawn = reader.expect("withdrawn");
    assert_eq!((&withdrawn["job"], &withdrawn["user"]), (&rig.name.into(), &"alice".into()));
    assert_eq!(withdrawn["reason"], "bad-txns");
    site.world.node().mine_block(&[]).unwrap();
    let now = tip(&site);
    let told =
        std::iter::repeat_with(|| reader.expect("tip")).find(|told| told["prev_hash"] == now);
    assert!(told.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_kept_any_more_is_told_where_it_is_let_go() {
    let site = Site::start(Setup::new()).await;
    let receipts = site.receipts(&["alice", "bob"]).await;
    let mut pool = site.pool();
    let mut work: Vec<_> = receipts.iter().map(|receipt| rig(&mut pool, receipt)).collect();
    let mut reader = Reader::open(&site, "");
    reader.expect("tip");
    // Somebody still holds one of them: it is as gone as the other.
    let held = job_of(&site, "alice");
    let height = held.accepted.height();
    site.world.server.shared().jobs.prune(height + jds::limits::JOB_DEPTH_KEPT_BLOCKS);
    let mut told = [reader.expect("withdrawn"), reader.expect("withdrawn")];
    told.sort_by_key(|job| job["user"].to_string());
    for (told, rig) in told.iter().zip(&mut work) {
        assert_eq!(told["job"], Value::from(rig.name.clone()));
        assert!(told["reason"].as_str().unwrap().contains("not kept"), "{told}");
        refused(&submit(&mut pool, &rig.mine(false).json), "invalid-job-id");
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_it_missed_or_that_it_missed_something() {
    let site = Site::start(Setup::new()).await;
    let mut first = Reader::open(&site, "");
    first.expect("tip");
    for receipt in site.receipts(&["alice", "bob"]).await {
        rig(&mut site.pool(), &receipt);
    }
    job_of(&site, "alice").withdraw("bad-txns".into());
    assert_eq!(first.expect("withdrawn")["user"], "alice");
    let last_id = first.last_id.clone();
    drop(first);
    job_of(&site, "bob").withdraw("bad-txns".into());
    assert_eq!(Reader::open(&site, &last_id).expect("withdrawn")["user"], "bob");
    // One that was never here is told all that is remembered; one from elsewhere that it missed some.
    assert_eq!(Reader::open(&site, "").expect("withdrawn")["user"], "alice");
    let mut stranger = Reader::open(&site, "0000000000000000-2");
    assert!(stranger.expect("resync")["reason"].is_string());
    assert_eq!(stranger.expect("withdrawn")["user"], "alice");
    assert_eq!(stranger.expect("withdrawn")["user"], "bob");
    let last_id = stranger.last_id.clone();
    drop(stranger);
    for id in ["7", "-", "x-1", "000000000000000g-1", "0000000000000000-", &"1".repeat(40)] {
        let answer = site.pool().request("GET", "/v1/pool/stream", &[("Last-Event-ID", id)], b"");
        let problem = answer.json();
        assert_eq!(
            (answer.status, &problem["type"]),
            (400, &"/docs#problem-bad-parameter".into()),
            "{id}"
        );
    }
    let site = site.restart().await;
    Reader::open(&site, &last_id).expect("resync");
}
