//! What the API is told at start, and what it refuses to start with.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bitcoin::Network;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};

use crate::limits;
use crate::net::{DenyList, IpRange};

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on, `[api] listen`.
    pub listen: SocketAddr,
    /// What a request must show to write, and on a public address to read. Without one writes are
    /// refused.
    pub token: Option<Token>,
    /// A token that may read and not write, for readers on a public address.
    pub read_token: Option<Token>,
    /// True when reads on a public address need no token.
    pub open_reads: bool,
    /// Names, besides those of loopback, under which a server on loopback may be asked: what a
    /// reverse proxy in front of it puts in `Host`.
    pub hosts: Vec<String>,
    /// Ranges that webhooks may reach although they are private.
    pub webhook_allow: Vec<IpRange>,
    /// Addresses that webhooks never reach, whatever `webhook_allow` says: the nodes, and where the
    /// server itself listens. Copies of the settings share it.
    pub webhook_deny: DenyList,
    /// The network, for addresses in decoded coinbases.
    pub network: Network,
}

impl Settings {
    /// Settings without tokens, names and ranges.
    pub fn new(listen: SocketAddr, network: Network) -> Self {
        Self {
            listen,
            token: None,
            read_token: None,
            open_reads: false,
            hosts: Vec::new(),
            webhook_allow: Vec::new(),
            webhook_deny: DenyList::default(),
            network,
        }
    }

    /// Whether these settings are safe on that address.
    ///
    /// # Errors
    /// [`StartError::PublicWithoutToken`].
    pub fn check(&self, address: SocketAddr) -> Result<(), StartError> {
        if is_loopback(address.ip()) || self.token.is_some() {
            return Ok(());
        }
        Err(StartError::PublicWithoutToken { address })
    }

    /// True when only this machine can connect.
    pub(crate) fn is_local(&self, address: SocketAddr) -> bool {
        is_loopback(address.ip())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Anybody on the network could use it.
    #[error(
        "[api] listen = \"{address}\" can be reached from other machines, which needs a token: set \
         token_file in [api] to a file with at least {min} random characters, or listen on \
         127.0.0.1",
        min = limits::TOKEN_CHARS_MIN
    )]
    PublicWithoutToken {
        /// The address.
        address: SocketAddr,
    },
    /// The address can not be had.
    #[error("[api] listen = \"{address}\" can not be used: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// Why a token file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can not be read.
    #[error("the token file {path} can not be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others can read it.
    #[error(
        "the token file {path} can be read by everybody (mode {mode:03o}); run: chmod o-r {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is too short, or holds what can not be sent.
    #[error(
        "the token file {path} must hold at least {min} characters (letters, digits, -._~+/=) on one \
         line; it has {actual} that can be used",
        min = limits::TOKEN_CHARS_MIN
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Characters that can be used, before the first that can not.
        actual: usize,
    },
}

/// A bearer token. Never printed; compared in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is kept is a MAC of the token under a key that is drawn at start: neither length nor
    /// content of a guess shows in the time of a comparison.
    key: [u8; 32],
    mac: [u8; 32],
}

impl Token {
    /// Reads the token: the first line of the file, without white space around it.
    ///
    /// # Errors
    /// [`TokenError`]: the file, its permissions, or what is in it.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let failed = |error| TokenError::File { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(failed)?;
        if let Some(mode) = mode_for_everybody(&file).map_err(failed)? {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(limits::TOKEN_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > limits::TOKEN_FILE_BYTES_MAX {
            // A part of it would be a token that nobody has.
            let reason = format!("it has more than {} bytes", limits::TOKEN_FILE_BYTES_MAX);
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Self::from_text(text.trim())
            .map_err(|actual| TokenError::Unusable { path: path.to_owned(), actual })
    }

    /// From its text.
    ///
    /// # Errors
    /// How many characters can be used, when they are too few or followed by others.
    pub fn from_text(text: &str) -> Result<Self, usize> {
        let usable = text.bytes().take_while(|byte| is_token_byte(*byte)).count();
        if usable < text.len() || usable < limits::TOKEN_CHARS_MIN {
            return Err(usable);
        }
        let key = rand::random();
        Ok(Self { key, mac: mac(&key, text.as_bytes()) })
    }

    /// Whether a request showed this token.
    pub(crate) fn matches(&self, shown: &[u8]) -> bool {
        fixed_time_eq(&mac(&self.key, shown), &self.mac)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// RFC 6750 2.1.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    engine.input(text);
    Hmac::from_engine(engine).to_byte_array()
}

/// The permission bits, when they let everybody read. A group may: that is how secrets are handed
/// to a service.
fn mode_for_everybody(file: &std::fs::File) -> io::Result<Option<u32>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        Ok((mode & 0o004 != 0).then_some(mode))
    }
    #[cfg(not(unix))]
    {
        file.metadata().map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdefXYZ-._~+/=";

    #[test]
    fn a_public_address_needs_a_token() {
        let public: SocketAddr = "0.0.0.0:9332".parse().unwrap();
        let mut settings = Settings::new(public, Network::Regtest);
        let message = settings.check(public).unwrap_err().to_string();
        assert!(message.contains("[api] listen") && message.contains("token_file"), "{message}");
        for local in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            settings.check(local.parse().unwrap()).unwrap();
        }
        settings.token = Some(Token::from_text(TEXT).unwrap());
        settings.check(public).unwrap();
    }

    #[test]
    fn a_token_matches_itself_alone_and_does_not_print() {
        let token = Token::from_text(TEXT).unwrap();
        assert!(token.matches(TEXT.as_bytes()));
        assert!(!token.matches(&TEXT.as_bytes()[1..]));
        assert!(!token.matches(b""));
        assert!(!format!("{token:?}").contains("0123"));
        assert_eq!(Token::from_text("short"), Err(5));
        assert_eq!(Token::from_text("0123456789abcdef 0123"), Err(16));
    }

    #[test]
    fn a_token_has_a_least_length_and_its_file_a_largest() {
        let least = "a".repeat(limits::TOKEN_CHARS_MIN);
        Token::from_text(&least).unwrap();
        assert_eq!(Token::from_text(&least[1..]), Err(limits::TOKEN_CHARS_MIN - 1));
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut largest = "a".repeat(limits::TOKEN_FILE_BYTES_MAX as usize);
        std::fs::write(file.path(), &largest).unwrap();
        assert!(Token::from_file(file.path()).unwrap().matches(largest.as_bytes()));
        largest.push('a');
        std::fs::write(file.path(), &largest).unwrap();
        let error = Token::from_file(file.path()).unwrap_err();
        assert!(error.to_string().contains("more than 4096 bytes"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_token_file_is_private_and_holds_a_token() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{TEXT}\n")).unwrap();
        assert!(Token::from_file(file.path()).unwrap().matches(TEXT.as_bytes()));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Token::from_file(file.path()).unwrap_err();
        assert!(matches!(error, TokenError::Exposed { mode: 0o644, .. }), "{error}");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file.path(), "").unwrap();
        let error = Token::from_file(file.path()).unwrap_err();
        assert!(matches!(error, TokenError::Unusable { actual: 0, .. }), "{error}");
        assert!(matches!(
            Token::from_file(Path::new("/does/not/exist")),
            Err(TokenError::File { .. })
        ));
    }
}
