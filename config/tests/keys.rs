//! Keys and key files.

use std::fs;

mod setup;

use config::keys::{self, KeyFileError, KeyTextError};
use config::{PublicKey, SecretKey};

#[test]
fn a_generated_key_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.key");
    let (secret, public) = keys::generate().unwrap();
    keys::write_new(&path, &secret).unwrap();
    let read = keys::read(&path).unwrap();
    assert_eq!(read.expose_bytes(), secret.expose_bytes());
    assert_eq!(read.public_key(), public);
    assert_eq!(PublicKey::parse(&public.to_string()).unwrap(), public);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (other, _) = keys::generate().unwrap();
    assert_ne!(other.expose_bytes(), secret.expose_bytes(), "the generator repeats itself");
    let error = keys::write_new(&path, &other).unwrap_err();
    assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");
    assert_eq!(keys::read(&path).unwrap().expose_bytes(), secret.expose_bytes(), "overwritten");
}

#[test]
fn the_texts_are_those_of_the_ecosystem() {
    // The pair that the SV2 reference implementation ships in its example configurations.
    let secret = SecretKey::parse("mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n").unwrap();
    assert_eq!(
        secret.public_key().to_string(),
        "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72"
    );
    assert_eq!(secret.expose_text().as_str(), "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n");
    assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
}

#[test]
fn the_public_key_is_two_version_bytes_and_the_x_coordinate() {
    let (_, public) = keys::generate().unwrap();
    let decoded = bitcoin::base58::decode_check(&public.to_string()).unwrap();
    assert_eq!(decoded[..2], [1, 0]);
    assert_eq!(decoded[2..], public.to_bytes());
}

#[test]
fn texts_that_are_no_keys_are_refused_without_quoting_them() {
    let encode = bitcoin::base58::encode_check;
    let zero = encode(&[0; 32]);
    assert_eq!(SecretKey::parse(&zero).unwrap_err(), KeyTextError::NotOnCurve);
    assert_eq!(SecretKey::parse("0OIl").unwrap_err(), KeyTextError::NotBase58Check);
    assert!(SecretKey::parse(&encode(&[1; 31])).is_err());
    assert!(SecretKey::parse(&encode(&[1; 33])).is_err());
    let mut version_2 = [0u8; 34];
    version_2[0] = 2;
    assert_eq!(
        PublicKey::parse(&encode(&version_2)).unwrap_err(),
        KeyTextError::Version { found: 2 }
    );
    assert!(matches!(PublicKey::parse(&encode(&[1, 0])), Err(KeyTextError::Length { .. })));
    assert!(PublicKey::parse(&encode(&[1; 40])).is_err());
    let (secret, _) = keys::generate().unwrap();
    let text = secret.expose_text();
    assert!(!PublicKey::parse(&text).unwrap_err().to_string().contains(text.as_str()));
}

#[test]
fn files_that_are_no_key_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k");
    assert!(keys::read(&path).unwrap_err().to_string().contains("cannot read"));
    let (secret, _) = keys::generate().unwrap();
    keys::write_new(&path, &secret).unwrap();
    fs::write(&path, "x".repeat(2000)).unwrap();
    assert!(matches!(keys::read(&path), Err(KeyFileError::TooLong { .. })));
    fs::write(&path, "not a key").unwrap();
    assert!(matches!(keys::read(&path), Err(KeyFileError::Text { .. })));
    fs::write(&path, format!("  {}\n\n", *secret.expose_text())).unwrap();
    assert_eq!(keys::read(&path).unwrap().expose_bytes(), secret.expose_bytes());
}

#[test]
fn a_key_of_its_own_may_sign_receipts_and_old_ones_stay_known() {
    let setup = setup::Setup::new();
    assert!(setup.ok().receipts.key.is_none() && setup.ok().receipts.retired_keys.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receipts.key");
    let (secret, public) = keys::generate().unwrap();
    keys::write_new(&path, &secret).unwrap();
    let with = |lines: &str| setup::Setup::new().plus(&format!("[receipts]\n{lines}\n"));
    let lines = format!("key_file = {path:?}\nretired_keys = [\"{public}\"]");
    let checked = with(&lines).ok();
    let (from, key) = checked.receipts.key.as_ref().unwrap();
    assert_eq!((from, key.public_key()), (&path, public));
    assert_eq!(checked.receipts.retired_keys, [public]);
    let printed = checked.to_redacted_toml();
    assert!(printed.contains(&lines) && !printed.contains(secret.expose_text().as_str()));
    with("key_file = \"absent.key\"").refused(&["receipts.key_file", "absent.key"]);
    with("retired_keys = [\"9auq\"]").refused(&["receipts.retired_keys", "base58check"]);
    let secret_there = format!("retired_keys = [\"{}\"]", secret.expose_text().as_str());
    with(&secret_there).refused(&["receipts.retired_keys"]);
}
