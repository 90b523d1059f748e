//! Events that the reader never gets: gone by retention, or with a backup that was restored.

use std::fs;

use store::Store;

use crate::Awards;
use crate::feed::Feed;
use crate::reader::Reader;
use crate::site::{DAY_MS, End, Site};

fn names(awards: &Awards) -> Vec<&(String, String)> {
    awards.keys().collect()
}

/// Makes every event but the newest go.
fn forget(site: &Site, feed: &mut Feed) {
    feed.now_ms += 2 * DAY_MS;
    site.store().retain(feed.now_ms).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_earned_in_a_gap_is_awarded_from_the_totals() {
    let (site, mut feed) = (Site::start().await, Feed::new());
    let mut reader = Reader::new(site.url());
    // Known before the gap, with one badge.
    let mut before = feed.batch();
    for user in ["alice", "%2e%2e", "a/b?c#d%20e&f", "o'brien\"; --", "Grüße 矿工"] {
        before = feed.connects(before, Some(user), true);
    }
    site.commit(vec![before]).await;
    reader.start();
    reader.wait_told(feed.earned.len());
    reader.kill();

    let mut gone: Vec<_> = ["alice", "%2e%2e", "a/b?c#d%20e&f", "o'brien\"; --", "Grüße 矿工"]
        .map(|user| feed.earns_all(user))
        .into();
    // Never seen before the gap; one of them comes back, with an event that earns nothing.
    gone.push(feed.earns_all("bob"));
    let without_carol = feed.earned.clone();
    gone.push(feed.earns_all("carol"));
    let end = feed.batch();
    gone.push(feed.connects(end, None, true));
    site.commit(gone).await;
    forget(&site, &mut feed);
    let back = feed.batch();
    let back = feed.connects(back, Some("bob"), false);
    site.commit(vec![back]).await;

    reader.start();
    reader.wait_told(without_carol.len());
    reader.wait_logged("GAP after cursor");
    assert_eq!(names(&reader.awards()), names(&without_carol));
    // Whoever comes back later gets everything then, and at the time of the badge where it is known.
    let back = feed.batch();
    let back = feed.connects(back, Some("carol"), false);
    site.commit(vec![back]).await;
    reader.wait_told(feed.earned.len());
    reader.kill();
    let awards = reader.awards();
    assert_eq!(names(&awards), names(&feed.earned));
    for ((user, badge), at) in &awards {
        if badge != "Template Crafter" {
            assert_eq!(feed.earned[&(user.clone(), badge.clone())], *at, "{badge} of {user}");
        }
    }
    assert!(reader.told_again() <= reader.kills);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_begins_when_the_beginning_is_gone_says_so() {
    let (site, mut feed) = (Site::start().await, Feed::new());
    let batches = vec![feed.earns_all("alice"), feed.earns_all("bob")];
    site.commit(batches).await;
    forget(&site, &mut feed);
    let batch = feed.batch();
    let batch = feed.connects(batch, Some("alice"), false);
    let batch = feed.connects(batch, Some("bob"), false);
    site.commit(vec![batch]).await;
    let reader = Reader::new(site.url());
    let (status, told) = reader.run("--once");
    assert!(status.success() && reader.logged("the log begins with event"), "{}", reader.log());
    assert_eq!(told.len(), 6);
    assert_eq!(names(&reader.awards()), names(&feed.earned));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_while_it_reads_and_kills_in_it_change_nothing() {
    let (mut site, mut feed) = (Site::start().await, Feed::new());
    let mut reader = Reader::new(site.url());
    let users: Vec<_> = (0..20).map(|user| format!("user/{user}")).collect();
    let mut known = feed.batch();
    for user in &users {
        known = feed.connects(known, Some(user), true);
    }
    site.commit(vec![known]).await;
    reader.start();
    reader.wait_told(users.len());
    for round in 0..4 {
        // The reader has lost its connection when the events come and go.
        site.end(End::ApiCut).await;
        let mut batches = Vec::new();
        for user in users.iter().skip(round * 5).take(5) {
            batches.push(feed.earns_all(user));
        }
        let end = feed.batch();
        batches.push(feed.connects(end, None, true));
        site.commit(batches).await;
        forget(&site, &mut feed);
        site.serve().await;
        // In the middle of looking up totals.
        reader.wait_told(feed.earned.len() - 7);
        reader.kill();
        reader.start();
    }
    reader.wait_told(feed.earned.len());
    reader.kill();
    assert_eq!(names(&reader.awards()), names(&feed.earned));
    assert!(reader.told_again() <= reader.kills);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_awards_nothing_twice() {
    let (mut site, mut feed) = (Site::start().await, Feed::new());
    let mut reader = Reader::new(site.url());
    reader.start();
    let batch = feed.earns_all("alice");
    site.commit(vec![batch]).await;
    let epoch = site.store().epoch();
    site.end(End::Api).await;
    site.take_store().close();
    let (database, backup) = (site.dir.path().join("jds.sqlite"), site.dir.path().join("backup"));
    fs::copy(&database, &backup).unwrap();
    site.open();
    site.serve().await;
    // Bob's events are lost with the backup that comes back; the reader has seen them.
    let batch = feed.earns_all("bob");
    site.commit(vec![batch]).await;
    reader.wait_told(feed.earned.len());

    site.end(End::Api).await;
    site.take_store().close();
    fs::copy(&backup, &database).unwrap();
    site.open();
    assert_ne!(site.store().epoch(), epoch, "a restored backup begins a new epoch");
    site.serve().await;
    // The server has forgotten all about Bob, who earns the same again, and Carol is new.
    let mut again = Feed::new();
    again.now_ms = feed.now_ms;
    let batches = vec![again.earns_all("bob"), feed.earns_all("carol")];
    site.commit(batches).await;
    reader.wait_told(feed.earned.len());
    reader.wait_logged("GAP after cursor");
    reader.kill();
    assert_eq!(reader.awards(), feed.earned);
    assert!(reader.told_again() <= reader.kills);
    let (_, told) = reader.run("--once");
    assert_eq!(told, []);
}
