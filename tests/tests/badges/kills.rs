//! Nothing is awarded twice and nothing is missed when reader and server are killed, and when
//! connections break.

use std::time::Duration;

use rand::Rng;

use crate::feed::Feed;
use crate::link::Link;
use crate::reader::Reader;
use crate::site::{End, Site};

/// Rounds of events with a kill in each.
const ROUNDS: usize = 42;

/// Batches of events in a round, at most.
const BATCHES_MAX: usize = 60;

/// Kills of the reader while it has much to award.
const KILLS: usize = 60;

/// A kill comes within so many microseconds after an award: about as long as a few events take.
const AFTER_AWARD_US: u64 = 1_500;

/// What is left to compare when all events were read.
#[track_caller]
fn assert_exact(reader: &mut Reader, feed: &Feed) {
    reader.wait_told(feed.earned.len());
    reader.kill();
    assert_eq!(reader.awards(), feed.earned, "awards are not those that were earned");
    assert_eq!(reader.told(), feed.earned, "what was told is not what was awarded");
    let again = reader.told_again();
    assert!(again <= reader.kills, "{again} awards told again after {} kills", reader.kills);
    assert!(!reader.logged("GAP"), "a gap where there was none{}", reader.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn awards_are_exact_whatever_is_killed() {
    let (mut site, mut feed) = (Site::start().await, Feed::new());
    let mut reader = Reader::new(site.url());
    reader.start();
    let mut ends = 0;
    for round in 0..ROUNDS {
        let batches = feed.rng.gen_range(1..=BATCHES_MAX);
        let events = feed.events(batches);
        site.commit(events).await;
        // A moment at random: after so many of the awards that are due, not after the last event.
        let due = feed.rng.gen_range(reader.told().len()..=feed.earned.len());
        reader.wait_told(due);
        if round % 2 == 0 {
            reader.kill();
        }
        if round % 3 != 1 {
            let how = [End::Api, End::ApiCut, End::Killed][ends % 3];
            ends += 1;
            site.end(how).await;
            // Events go on while nobody can read them.
            let events = feed.events(batches / 4);
            site.commit(events).await;
            site.serve().await;
        }
        if round % 2 == 0 {
            reader.start();
        }
    }
    assert!(reader.kills >= 20 && ends >= 20, "{} and {ends}", reader.kills);
    assert!(feed.earned.len() > 300, "only {} awards in all", feed.earned.len());
    assert_exact(&mut reader, &feed);

    let (status, told) = reader.run("--once");
    assert!(status.success(), "{status}{}", reader.log());
    assert_eq!(told, [], "after the last event there is nothing to tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_award_and_its_cursor_move_together() {
    let (site, mut feed) = (Site::start().await, Feed::new());
    let batches = (0..6 * KILLS).map(|user| feed.earns_all(&format!("user {user}"))).collect();
    site.commit(batches).await;
    let mut reader = Reader::new(site.url());
    while reader.kills < KILLS {
        reader.start();
        let awards = feed.rng.gen_range(1..=feed.earned.len() / KILLS);
        reader.wait_told(reader.told().len() + awards);
        // Not to wait for something: this is what makes the moment a random one.
        std::thread::sleep(Duration::from_micros(feed.rng.gen_range(0..AFTER_AWARD_US)));
        reader.kill();
    }
    reader.start();
    assert_exact(&mut reader, &feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_cut_off_in_the_middle_count_once() {
    let (site, mut feed) = (Site::start().await, Feed::new());
    let link = Link::to(site.address());
    let mut reader = Reader::new(link.url());
    reader.start();
    for _ in 0..25 {
        // From inside of the head of the answer to somewhere in its fifth event, of ten at least.
        link.cut_after(feed.rng.gen_range(1..2_000));
        let events = feed.events(30);
        site.commit(events).await;
        link.wait_cut();
        // Some attempts get through for as long as it takes.
        link.cut_after(usize::MAX);
        let due = feed.rng.gen_range(reader.told().len()..=feed.earned.len());
        reader.wait_told(due);
    }
    assert_exact(&mut reader, &feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_read_page_by_page() {
    let (site, mut feed) = (Site::start().await, Feed::new());
    for _ in 0..12 {
        let events = feed.events(60);
        site.commit(events).await;
    }
    let mut reader = Reader::new(site.url());
    let (status, told) = reader.run("--once");
    assert!(status.success(), "{status}{}", reader.log());
    assert_eq!(told.len(), feed.earned.len());
    assert_eq!(reader.awards(), feed.earned);
    // The stream goes on where the pages ended, and the other way round.
    let events = feed.events(60);
    site.commit(events).await;
    reader.start();
    reader.wait_told(feed.earned.len() - told.len());
    reader.kill();
    let events = feed.events(60);
    site.commit(events).await;
    let (status, _) = reader.run("--once");
    assert!(status.success(), "{status}{}", reader.log());
    assert_eq!(reader.awards(), feed.earned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_others_can_reach_is_shown_the_token() {
    const TOKEN: &str = "0123456789abcdef-token";
    let (site, mut feed) = (Site::listening("0.0.0.0:0", Some(TOKEN)).await, Feed::new());
    let batch = feed.earns_all("alice");
    site.commit(vec![batch]).await;
    let mut reader = Reader::new(site.url());
    let (status, _) = reader.run("--once");
    assert!(!status.success() && reader.logged("401"), "{status}{}", reader.log());
    let file = reader.file("token", &format!("{TOKEN}\n"));
    reader.options = vec!["--token-file".to_owned(), file];
    reader.start();
    assert_exact(&mut reader, &feed);
}
