//! What a token is good for, once, and for whom.

use super::*;
use crate::limits::{IDENTITIES_PER_USER_MAX, TOKENS_PER_USER_MAX};
use crate::token::UserTag;

#[test]
fn a_token_declares_once() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    assert!(matches!(peer.declare(1, &token)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&peer.declare(2, &token)), details(TokenError::Spent));
}

#[test]
fn unknown_foreign_and_forged_tokens_are_refused_and_the_connection_lives() {
    let shared = deps(true, true);
    let mut alice = Peer::new(Arc::clone(&shared));
    alice.set_up(setup());
    let of_alice = alice.allocate("alice");
    let mut bob = Peer::new(shared);
    bob.set_up(setup());
    let of_bob = bob.allocate("bob");
    assert_eq!(token_error(&bob.declare(1, &of_alice)), details(TokenError::Foreign));
    assert_eq!(token_error(&bob.declare(2, b"")), details(TokenError::Unknown));
    assert_eq!(token_error(&bob.declare(3, &[0; 66])), details(TokenError::Unknown));
    assert!(matches!(bob.declare(4, &of_bob)[..], [Action::Validate(_)]));
    assert!(matches!(alice.declare(4, &of_alice)[..], [Action::Validate(_)]), "not spent by bob");
}

#[test]
fn a_token_of_a_living_connection_never_expires() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let (kept, other) = (peer.allocate("alice"), peer.allocate("alice"));
    let mut second = Peer::new(shared);
    second.set_up(setup());
    second.allocate("alice");

    // A clock that is put right, or days of nothing to declare.
    let days_us = 30 * 86_400_000_000;
    (peer.now.unix_us, second.now.unix_us) =
        (peer.now.unix_us + days_us, second.now.unix_us + days_us);
    assert!(matches!(peer.declare(1, &kept)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&peer.declare(2, &kept)), details(TokenError::Expired), "once only");
    assert_eq!(token_error(&second.declare(3, &other)), details(TokenError::Expired), "elsewhere");
}

#[test]
fn a_token_that_a_mining_connection_used_declares_nothing_however_long_ago_that_was() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let token = peer.allocate("alice");
    let sequence = shared.mint.open(&token).unwrap().sequence;
    assert!(shared.spent.held().take(sequence));
    shared.spent.spend_own(sequence, peer.now.unix_us).unwrap();
    // Spent tokens are forgotten when they would have expired.
    peer.now.unix_us += 30 * 86_400_000_000;
    shared.spent.spend(peer.now.unix_us, peer.now.unix_us).unwrap();
    assert_eq!(token_error(&peer.declare(1, &token)), details(TokenError::Expired));
}

#[test]
fn tokens_are_held_as_long_as_their_connection() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let tokens = [peer.allocate("alice"), peer.allocate("bob")];
    let sequences = tokens.map(|token| shared.mint.open(&token).unwrap().sequence);
    assert!(sequences.iter().all(|sequence| shared.spent.held().holds(*sequence)));
    drop(peer);
    assert!(!sequences.iter().any(|sequence| shared.spent.held().holds(*sequence)));
}

#[test]
fn a_flood_of_spent_tokens_costs_others_nothing() {
    let shared = deps(true, true);
    let mut alice = Peer::new(Arc::clone(&shared));
    alice.set_up(setup());
    let kept = alice.allocate("alice");
    let now_us = alice.now.unix_us;
    for sequence in 1..=SPENT_MAX as u64 * 3 {
        shared.spent.spend(now_us + sequence, now_us).unwrap();
    }
    assert!(matches!(alice.declare(1, &kept)[..], [Action::Validate(_)]));
}

#[test]
fn a_token_used_on_another_connection_of_the_user_is_spent() {
    let shared = deps(true, true);
    let mut first = Peer::new(Arc::clone(&shared));
    first.set_up(setup());
    let token = first.allocate("alice");
    let mut second = Peer::new(shared);
    second.set_up(setup());
    second.allocate("alice");
    assert!(matches!(second.declare(1, &token)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&first.declare(1, &token)), details(TokenError::Spent));
}

/// A user has one name, whatever worker it is for.
#[test]
fn a_token_is_of_the_user_and_an_earlier_one_of_the_very_identity() {
    let shared = deps(true, true);
    let mut one = Peer::new(Arc::clone(&shared));
    one.set_up(setup());
    let token = one.allocate("alice.rig1");
    // Given out when tokens were for whole identities.
    let earlier = |name: &[u8]| shared.mint.allocate(UserTag::of(name), one.now.unix_us).1;
    let [of_one, of_other] = [&b"alice.rig1"[..], b"alice.rig2"].map(earlier);
    let mut other = Peer::new(Arc::clone(&shared));
    other.set_up(setup());
    other.allocate("alice.rig2");
    let declared = other.declare(1, &token);
    let [Action::Validate(declaration)] = &declared[..] else { panic!("{declared:?}") };
    assert_eq!((&*declaration.user.name, &*declaration.user.worker), ("alice", "rig2"));
    assert_eq!(token_error(&other.declare(2, &of_one)), details(TokenError::Foreign));
    assert!(matches!(other.declare(3, &of_other)[..], [Action::Validate(_)]));
    assert!(matches!(one.declare(1, &of_one)[..], [Action::Validate(_)]));
}

/// Behind one connection: their tokens are one user's, and which worker one is for can not be told.
#[test]
fn several_workers_of_a_user_are_none_and_all_their_earlier_tokens_stay_good() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let earlier = |number: usize| {
        let name = format!("alice.rig{number}");
        shared.mint.allocate(UserTag::of(name.as_bytes()), 1_700_000_000_000_000).1
    };
    let first = peer.allocate("alice.rig0");
    let declares = |peer: &mut Peer, request_id: u32, token: &[u8], expected: &str| {
        let declared = peer.declare(request_id, token);
        let [Action::Validate(declaration)] = &declared[..] else { panic!("{declared:?}") };
        let user = &declaration.user;
        assert_eq!((&*user.name, &*user.worker), ("alice", expected));
    };
    declares(&mut peer, 1, &first, "rig0");
    peer.allocate("alice.rig0");
    let [again, of_first] = [peer.allocate("alice.rig0"), earlier(0)];
    let other = peer.allocate("alice.rig1");
    for (request_id, token) in (2..).zip([again, other, of_first, earlier(1)]) {
        declares(&mut peer, request_id, &token, "");
    }
    // Within a bound, the most recent ones.
    for number in 2..=IDENTITIES_PER_USER_MAX {
        peer.allocate(&format!("alice.rig{number}"));
    }
    assert_eq!(token_error(&peer.declare(7, &earlier(0))), details(TokenError::Foreign));
    assert!(matches!(peer.declare(8, &earlier(1))[..], [Action::Validate(_)]));
}

#[test]
fn the_oldest_unused_token_makes_room() {
    let mut peer = Peer::ready();
    let tokens: Vec<Vec<u8>> = (0..=TOKENS_PER_USER_MAX).map(|_| peer.allocate("alice")).collect();
    assert_eq!(token_error(&peer.declare(1, &tokens[0])), details(TokenError::Recycled));
    assert!(matches!(peer.declare(2, &tokens[1])[..], [Action::Validate(_)]));
    assert!(matches!(peer.declare(3, tokens.last().unwrap())[..], [Action::Validate(_)]));
}

#[test]
fn used_tokens_do_not_count_towards_the_cap() {
    let mut peer = Peer::ready();
    let first = peer.allocate("alice");
    for request_id in 0..TOKENS_PER_USER_MAX as u32 * 2 {
        let token = peer.allocate("alice");
        assert!(matches!(peer.declare(request_id, &token)[..], [Action::Validate(_)]));
        let outcome = no_tip();
        peer.input(Input::Validated { request_id, outcome });
    }
    assert!(matches!(peer.declare(0, &first)[..], [Action::Validate(_)]));
}
