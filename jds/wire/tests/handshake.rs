//! The handshake: who is let in, who is not, and what the error says.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{NOW_UNIX, VALIDITY, rng};
use jds_wire::{
    AuthorityKeys, CLIENT_HELLO_BYTES, CLOCK_LEEWAY_S, ClientHandshake, HandshakeError,
    SERVER_HELLO_BYTES, Secp256k1PublicKey, ServerHandshake, Transport,
};
use proptest::prelude::*;

/// A handshake in which the client's clock and key may differ from the server's, and in which
/// `on_the_way` may change the server's answer.
fn shake(
    authority: &AuthorityKeys,
    trusted: Option<Secp256k1PublicKey>,
    client_clock_unix: u64,
    on_the_way: impl FnOnce(&mut [u8; SERVER_HELLO_BYTES]),
) -> Result<Transport, HandshakeError> {
    let mut rng = rng(1);
    let (client, hello) = ClientHandshake::start(trusted, &mut rng)?;
    let server = ServerHandshake::new(authority, VALIDITY, &mut rng);
    let (mut answer, _) = server.respond(hello, NOW_UNIX, &mut rng)?;
    on_the_way(&mut answer);
    client.finish(answer, client_clock_unix)
}

#[test]
fn the_right_key_and_no_key_are_let_in() {
    let authority = AuthorityKeys::generate(&mut rng(7));
    assert!(shake(&authority, Some(authority.public()), NOW_UNIX, |_| ()).is_ok());
    assert!(shake(&authority, None, NOW_UNIX, |_| ()).is_ok());
}

#[test]
fn another_key_is_refused_with_both_causes_named() {
    let authority = AuthorityKeys::generate(&mut rng(7));
    let other = AuthorityKeys::generate(&mut rng(8)).public();
    let error = shake(&authority, Some(other), NOW_UNIX, |_| ()).unwrap_err();
    assert!(matches!(error, HandshakeError::Certificate { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("clocks") && text.contains("authority public key"), "{text}");
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let authority = AuthorityKeys::generate(&mut rng(7));
    let at = |clock_unix| shake(&authority, Some(authority.public()), clock_unix, |_| ());
    let leeway = u64::from(CLOCK_LEEWAY_S);
    let end = NOW_UNIX + VALIDITY.as_secs();
    assert!(at(NOW_UNIX - leeway).is_ok());
    assert!(at(end + leeway).is_ok());
    for outside in [NOW_UNIX - leeway - 1, end + leeway + 1] {
        let error = at(outside).unwrap_err();
        assert!(matches!(error, HandshakeError::Certificate { .. }), "{outside}: {error:?}");
    }
    assert_eq!(at(1 << 32).unwrap_err(), HandshakeError::Clock { now_unix: 1 << 32 });
}

#[test]
fn keys_that_are_no_pair_are_named() {
    let secret = "zmBEmPhqo3A92FkiLVvyCz6htc3e53ph3ZbD4ASqGaLjwnFLi".parse().unwrap();
    let public: Secp256k1PublicKey =
        "9bDuixKmZqAJnrmP746n8zU1wyAQRrus7th9dxnkPg6RzQvCnan".parse().unwrap();
    assert_eq!(AuthorityKeys::checked(secret, public).unwrap().public().0, public.0);
    let other = AuthorityKeys::generate(&mut rng(3)).public();
    let text = AuthorityKeys::checked(secret, other).unwrap_err().to_string();
    assert!(text.contains(&public.to_string()) && text.contains(&other.to_string()), "{text}");
}

#[test]
fn the_secret_key_is_not_shown() {
    let secret: jds_wire::Secp256k1SecretKey =
        "zmBEmPhqo3A92FkiLVvyCz6htc3e53ph3ZbD4ASqGaLjwnFLi".parse().unwrap();
    let keys = AuthorityKeys::new(secret);
    assert_eq!(format!("{keys:?}"), format!("AuthorityKeys({})", keys.public()));
}

#[test]
fn extreme_hellos_are_answered() {
    for byte in [0x00, 0xff] {
        let authority = AuthorityKeys::generate(&mut rng(7));
        let server = ServerHandshake::new(&authority, VALIDITY, &mut rng(9));
        assert!(server.respond([byte; CLIENT_HELLO_BYTES], NOW_UNIX, &mut rng(9)).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_hello_is_answered(hello in prop::array::uniform32(prop::array::uniform2(any::<u8>()))) {
        let mut bytes = [0; CLIENT_HELLO_BYTES];
        bytes.copy_from_slice(hello.as_flattened());
        let authority = AuthorityKeys::generate(&mut rng(7));
        let server = ServerHandshake::new(&authority, VALIDITY, &mut rng(9));
        prop_assert!(server.respond(bytes, NOW_UNIX, &mut rng(9)).is_ok());
    }

    #[test]
    fn an_answer_changed_anywhere_is_refused(
        position in 0..SERVER_HELLO_BYTES,
        flip in 1_u8..,
    ) {
        let authority = AuthorityKeys::generate(&mut rng(7));
        let trusted = Some(authority.public());
        let result = shake(&authority, trusted, NOW_UNIX, |answer| answer[position] ^= flip);
        prop_assert_eq!(result.unwrap_err(), HandshakeError::Cipher);
    }
}
