//! Two ends of one encrypted connection, without a wire between them.
#![expect(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use jds_wire::{AuthorityKeys, ClientHandshake, ServerHandshake, Transport};
use rand::{SeedableRng, rngs::StdRng};

/// Some time in 2026.
pub(crate) const NOW_UNIX: u64 = 1_780_000_000;
pub(crate) const VALIDITY: Duration = Duration::from_secs(3_600);

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// The client's end and the server's end.
pub(crate) fn pair(seed: u64) -> (Transport, Transport) {
    let mut rng = rng(seed);
    let authority = AuthorityKeys::generate(&mut rng);
    let (client, hello) =
        ClientHandshake::start(Some(authority.public()), &mut rng).expect("a hello");
    let (answer, server) = ServerHandshake::new(&authority, VALIDITY, &mut rng)
        .respond(hello, NOW_UNIX, &mut rng)
        .expect("an answer");
    (client.finish(answer, NOW_UNIX).expect("a certificate that is valid"), server)
}
