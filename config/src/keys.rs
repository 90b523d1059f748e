//! The authority key pair and its file.
//!
//! Texts are base58check as the SV2 ecosystem writes them (SV2 4.5, 4.7): a public key is the
//! version 1 (u16, little endian) and the 32-byte x-only key, a secret key its 32 bytes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bitcoin::base58;
use key_utils::{Secp256k1PublicKey, Secp256k1SecretKey};
use rand::RngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::secret::REDACTED;

/// A key file holds about 50 bytes; a longer one is some other file.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// An x-only secp256k1 public key (BIP 340): what miners pin.
#[derive(Clone, Copy)]
pub struct PublicKey(Secp256k1PublicKey);

impl PublicKey {
    /// Parses the base58check form.
    ///
    /// # Errors
    /// [`KeyTextError`] says what is wrong with the text and never quotes it.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        text.parse().map(Self).map_err(|error| KeyTextError::new(&error, 34))
    }

    /// The 32-byte x-only key.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.into_bytes()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for PublicKey {}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The secret half of the authority key. Prints as [`REDACTED`]; wiped on drop.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// Parses the base58check form.
    ///
    /// # Errors
    /// [`KeyTextError`] says what is wrong with the text and never quotes it.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let key: Secp256k1SecretKey = text.parse().map_err(|e| KeyTextError::new(&e, 32))?;
        Ok(Self(Zeroizing::new(key.into_bytes())))
    }

    /// The base58check form, for the key file.
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(base58::encode_check(self.0.as_slice()))
    }

    /// The 32 bytes, for the Noise responder.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> PublicKey {
        // The bytes were accepted as a key before; the text round trip only reaches the type.
        #[expect(clippy::expect_used, reason = "the bytes came out of this same parser")]
        let key: Secp256k1SecretKey = self.expose_text().parse().expect("a key that parsed once");
        PublicKey(key.into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Why a text is not a key. Never quotes the text, which may be the secret one in a wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not base58, or the checksum does not fit.
    #[error("is not base58check (a character is wrong, or the checksum does not fit)")]
    NotBase58Check,
    /// Base58check of something else.
    #[error("has the wrong length (expected base58check of {expected_bytes} bytes)")]
    Length {
        /// Bytes expected before base58check.
        expected_bytes: usize,
    },
    /// A public key of another version.
    #[error("has key version {found} (expected version 1)")]
    Version {
        /// The version found.
        found: u16,
    },
    /// 32 bytes that are no key on secp256k1.
    #[error("is not a key on secp256k1 (or has the wrong length)")]
    NotOnCurve,
}

impl KeyTextError {
    fn new(error: &key_utils::Error, expected_bytes: usize) -> Self {
        match error {
            key_utils::Error::Bs58Decode(_) => Self::NotBase58Check,
            key_utils::Error::KeyVersion(found) => Self::Version { found: *found },
            key_utils::Error::KeyLength => Self::Length { expected_bytes },
            key_utils::Error::Secp256k1(_) | key_utils::Error::Custom(_) => Self::NotOnCurve,
        }
    }
}

/// What can go wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file exists: a key is never overwritten.
    #[error(
        "{path} exists already; a key is never overwritten (move it away or name another file)"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `create`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Other users can read the file.
    #[error(
        "{path} can be read by other users (mode {mode:03o}, expected 600); run: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Everybody can read the file.
    #[error("{path} can be read by everybody (mode {mode:03o}); run: chmod o-r {path}")]
    Public {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More bytes than a key file has.
    #[error("{path} is longer than {KEY_FILE_BYTES_MAX} bytes; it is not a key file")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The content is not a secret key.
    #[error("the key in {path} {source}")]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyTextError,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {reason}")]
    Random {
        /// The cause.
        reason: String,
    },
}

/// A new key pair from the operating system's random number generator.
///
/// # Errors
/// [`KeyFileError::Random`] when the operating system has no random bytes to give.
pub fn generate() -> Result<(SecretKey, PublicKey), KeyFileError> {
    // Fewer than one in 2^127 draws is not a key; a second such draw means a broken generator.
    const DRAWS_MAX: usize = 2;
    let mut bytes = Zeroizing::new([0u8; 32]);
    for _ in 0..DRAWS_MAX {
        OsRng
            .try_fill_bytes(bytes.as_mut_slice())
            .map_err(|error| KeyFileError::Random { reason: error.to_string() })?;
        let text = Zeroizing::new(base58::encode_check(bytes.as_slice()));
        if let Ok(secret) = SecretKey::parse(&text) {
            let public = secret.public_key();
            return Ok((secret, public));
        }
    }
    Err(KeyFileError::Random { reason: "its bytes are not random".to_owned() })
}

/// Writes the secret key to a new file (mode 0600) and waits until it is on disk.
///
/// # Errors
/// [`KeyFileError::Exists`] when the file exists, [`KeyFileError::Io`] for anything else. A file
/// that could not be written whole is removed again.
pub fn write_new(path: &Path, secret: &SecretKey) -> Result<(), KeyFileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::Io { action: "create", path: path.to_owned(), source },
    })?;
    let mut line = secret.expose_text();
    line.push('\n');
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // Half a key is worse than none: it would be refused later, by a restart.
        let _ = std::fs::remove_file(path);
        return Err(KeyFileError::Io { action: "write", path: path.to_owned(), source });
    }
    sync_directory_of(path)
}

/// Makes the new directory entry durable as well.
fn sync_directory_of(path: &Path) -> Result<(), KeyFileError> {
    if !cfg!(unix) {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| KeyFileError::Io { action: "write", path: parent.to_owned(), source })
}

/// Reads a secret key file; on unix it must not be readable by group or others.
///
/// # Errors
/// [`KeyFileError`] names the file and says what was expected.
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let io_error = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    // Asked of the open file: the path could be swapped between a look and a read.
    if let Some(mode) = exposed_mode(&file).map_err(io_error)? {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io_error)?;
    if text.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    SecretKey::parse(text.trim())
        .map_err(|source| KeyFileError::Text { path: path.to_owned(), source })
}

/// That a file with a token can be opened and that not everybody can read it, without a look into
/// it. A group may: that is how secrets are handed to a service, and to those who use it.
pub(crate) fn check_not_public(path: &Path) -> Result<(), KeyFileError> {
    let io_error = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    match mode_within(&file, 0o004).map_err(io_error)? {
        Some(mode) => Err(KeyFileError::Public { path: path.to_owned(), mode }),
        None => Ok(()),
    }
}

/// The permission bits, when they let anybody but the owner use the file.
pub(crate) fn exposed_mode(file: &File) -> io::Result<Option<u32>> {
    mode_within(file, 0o077)
}

/// The permission bits, when there are some of `bits` among them.
fn mode_within(file: &File, bits: u32) -> io::Result<Option<u32>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        Ok((mode & bits != 0).then_some(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, bits);
        Ok(None)
    }
}
