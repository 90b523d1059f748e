//! What one connection may have of everything.

use super::*;
use crate::limits::USERS_PER_CONNECTION_MAX;

#[test]
fn users_of_a_connection_are_bounded_and_the_least_recent_makes_room() {
    let mut peer = Peer::ready();
    let gone = peer.allocate("gone");
    let kept = peer.allocate("kept");
    for number in 2..USERS_PER_CONNECTION_MAX {
        peer.allocate(&format!("user{number}"));
    }
    peer.allocate("kept");
    peer.allocate("one-more");
    assert_eq!(peer.session.users.all().count(), USERS_PER_CONNECTION_MAX);
    assert_eq!(token_error(&peer.declare(1, &gone)), details(TokenError::Foreign));
    assert!(matches!(peer.declare(2, &kept)[..], [Action::Validate(_)]));
    // Who was forgotten comes again like anybody else.
    let again = peer.allocate("gone");
    assert!(matches!(peer.declare(3, &again)[..], [Action::Validate(_)]));
}
