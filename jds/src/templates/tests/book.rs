//! What is kept, and for how long.

use super::super::book::{Book, Lookup};
use super::super::{Built, Room};
use super::*;
use crate::limits::{STALE_TEMPLATE_KEPT, TEMPLATE_VIEWS_KEPT_MAX};

const ROOM: Room = Room { weight_wu: 1_000_000, sigop_cost: 80_000 };

fn give_out(book: &mut Book, number: u64, tip: ChainTip, now: Instant) -> Arc<Built> {
    let view = Arc::new(view(number, tip, vec![tx(number, None, 10, None)]));
    book.open(&view, now);
    let (built, _) = view.build(&ROOM, || 999 + number);
    book.add(&built);
    built
}

fn is(book: &Book, built: &Built, now: Instant) -> &'static str {
    match book.get(built.id(), now) {
        Lookup::Kept(kept) => {
            assert_eq!(kept.id(), built.id());
            "kept"
        }
        Lookup::Stale => "stale",
        Lookup::Unknown => "unknown",
    }
}

#[test]
fn templates_stay_as_long_as_their_tip_and_a_moment_longer() {
    let (mut book, start) = (Book::new(1_000), Instant::now());
    let (first, second) = (tip(100, 1), tip(101, 2));
    let old = give_out(&mut book, 1, first, start);
    let newer = give_out(&mut book, 2, first, start);
    assert_eq!((old.id(), newer.id()), (1_000, 1_001));
    let later = start + Duration::from_secs(3_600);
    assert_eq!((is(&book, &old, later), is(&book, &newer, later)), ("kept", "kept"));

    let present = give_out(&mut book, 3, second, later);
    let just = later + STALE_TEMPLATE_KEPT - Duration::from_millis(1);
    book.prune(just);
    assert_eq!((is(&book, &old, just), is(&book, &present, just)), ("kept", "kept"));
    assert_eq!(book.prune_at(), Some(later + STALE_TEMPLATE_KEPT));
    let gone = later + STALE_TEMPLATE_KEPT;
    assert_eq!(is(&book, &old, gone), "stale", "also before it is pruned");
    book.prune(gone);
    assert_eq!((is(&book, &old, gone), is(&book, &present, gone)), ("stale", "kept"));
    assert_eq!(book.prune_at(), None);
    assert!(matches!(book.get(999, gone), Lookup::Unknown));
    assert!(matches!(book.get(1_003, gone), Lookup::Unknown), "not given yet");
}

#[test]
fn a_tip_that_comes_back_brings_its_templates_back() {
    let (mut book, start) = (Book::new(1), Instant::now());
    let old = give_out(&mut book, 1, tip(100, 1), start);
    let other = give_out(&mut book, 2, tip(100, 2), start);
    give_out(&mut book, 3, tip(100, 1), start + Duration::from_secs(5));
    let late = start + Duration::from_secs(3_600);
    book.prune(late);
    assert_eq!((is(&book, &old, late), is(&book, &other, late)), ("kept", "stale"));
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let (mut book, now) = (Book::new(1), Instant::now());
    let all: Vec<_> = (1..=TEMPLATE_VIEWS_KEPT_MAX as u64 + 1)
        .map(|number| give_out(&mut book, number, tip(100, 1), now))
        .collect();
    let ends = (is(&book, all.first().unwrap(), now), is(&book, all.last().unwrap(), now));
    assert_eq!(ends, ("stale", "kept"));
    assert_eq!(is(&book, &all[1], now), "kept");
}

#[test]
fn the_oldest_goes_when_there_are_too_many_bytes_and_the_newest_stays() {
    let view_of =
        |number, pad| Arc::new(view(number, tip(100, 1), vec![tx(number, None, pad, None)]));
    let now = Instant::now();
    let bytes = view_of(1, 10_000).own_bytes();
    assert!(bytes > 10_000);
    let mut book = Book::new(1).with_bytes_max(3 * bytes);
    let give_out = |book: &mut Book, number, pad| {
        let view = view_of(number, pad);
        book.open(&view, now);
        let (built, _) = view.build(&ROOM, || number);
        book.add(&built);
        built
    };
    let all: Vec<_> = (1..=4).map(|number| give_out(&mut book, number, 10_000)).collect();
    let kept: Vec<_> = all.iter().map(|built| is(&book, built, now)).collect();
    assert_eq!(kept, ["stale", "kept", "kept", "kept"]);
    // One that is larger than all may be is what clients work on.
    let huge = give_out(&mut book, 5, 100_000);
    assert_eq!((is(&book, &huge, now), is(&book, &all[3], now)), ("kept", "stale"));
}
