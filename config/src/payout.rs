//! Output descriptors to output scripts.

use std::str::FromStr;

use bitcoin::address::NetworkUnchecked;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Network, NetworkKind, ScriptBuf};
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::{Descriptor, DescriptorPublicKey, ForEachKey};

/// What [`script`] takes, for messages and the reference.
pub(crate) const FORMS: &str = "addr(ADDRESS), raw(HEX), pk(KEY), pkh(KEY), wpkh(KEY), sh(…), \
                                wsh(…), tr(…) or multi(…), with public keys only, no wildcard, \
                                and optionally #checksum";

/// Bitcoin Core never spends a longer script (`MAX_SCRIPT_SIZE`), bytes.
const SCRIPT_BYTES_MAX: usize = 10_000;

/// Longest descriptor that is looked at, bytes: a raw script in hex, and its wrapping.
const DESCRIPTOR_BYTES_MAX: usize = 2 * SCRIPT_BYTES_MAX + 100;

/// Why a text is not an output script to pay to. Quotes addresses, never descriptors: one that
/// holds a private key by mistake must not end up in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Not a descriptor.
    #[error("is not an output descriptor ({reason}); accepted: {FORMS}")]
    Form {
        /// What did not fit.
        reason: String,
    },
    /// An address where a descriptor is expected.
    #[error("is a bare address; write \"addr({address})\"")]
    BareAddress {
        /// The address.
        address: String,
    },
    /// The checksum of the descriptor does not fit: a character was changed.
    #[error("has the checksum #{found}, expected #{expected}: a character was changed")]
    Checksum {
        /// As written.
        found: String,
        /// As computed.
        expected: String,
    },
    /// An address or extended key of another network.
    #[error("is for {found}, but `network` is \"{network}\"")]
    OtherNetwork {
        /// What was found, with its network.
        found: String,
        /// The network configured.
        network: &'static str,
    },
    /// A private key in the descriptor.
    #[error(
        "holds a private key; only public keys belong here (consider that private key disclosed \
         if others could read the file)"
    )]
    PrivateKey,
    /// A descriptor that stands for many scripts.
    #[error("stands for many scripts (`*` or `<…>`); name one fixed key path instead")]
    ManyScripts,
    /// A script that nobody can ever spend.
    #[error("can never be spent ({reason}); rewards would be lost")]
    Unspendable {
        /// Why.
        reason: String,
    },
}

/// The name of a network as the configuration writes it.
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet3",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}

/// The output script that a descriptor stands for on `network`.
///
/// # Errors
/// [`ScriptError`] says what is wrong, and which forms are accepted.
pub fn script(text: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    if text.len() > DESCRIPTOR_BYTES_MAX {
        return Err(form(format!("longer than {DESCRIPTOR_BYTES_MAX} bytes")));
    }
    let text = text.trim();
    if let Ok(address) = Address::<NetworkUnchecked>::from_str(text) {
        let address = address.assume_checked().to_string();
        return Err(ScriptError::BareAddress { address });
    }
    let body = without_checksum(text)?;
    let script = match (inner(body, "addr("), inner(body, "raw(")) {
        (Some(address), _) => of_address(address, network)?,
        (_, Some(hex)) => ScriptBuf::from_hex(hex).map_err(|_| form("raw() is not hex"))?,
        (None, None) => of_descriptor(body, network)?,
    };
    check_spendable(&script)?;
    Ok(script)
}

/// The descriptor that names `script` for people: its address where it has one.
pub(crate) fn describe(script: &bitcoin::Script, network: Network) -> String {
    match Address::from_script(script, network) {
        Ok(address) => format!("addr({address})"),
        Err(_) => format!("raw({})", script.to_hex_string()),
    }
}

fn form(reason: impl Into<String>) -> ScriptError {
    ScriptError::Form { reason: reason.into() }
}

fn without_checksum(text: &str) -> Result<&str, ScriptError> {
    let Some((body, found)) = text.split_once('#') else { return Ok(text) };
    let expected = desc_checksum(body).map_err(|_| form("it has a character no descriptor has"))?;
    if found != expected {
        // Only something that looks like a checksum is repeated.
        let short = found.len() <= 8 && found.chars().all(|c| c.is_ascii_alphanumeric());
        let found = if short { found.to_owned() } else { "…".to_owned() };
        return Err(ScriptError::Checksum { found, expected });
    }
    Ok(body)
}

fn inner<'a>(body: &'a str, prefix: &str) -> Option<&'a str> {
    body.strip_prefix(prefix)?.strip_suffix(')').map(str::trim)
}

fn of_address(text: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    let address = Address::<NetworkUnchecked>::from_str(text)
        .map_err(|_| form("addr() holds no valid address: a character is wrong or missing"))?;
    if address.is_valid_for_network(network) {
        return Ok(address.assume_checked().script_pubkey());
    }
    let networks: Vec<&str> =
        [Network::Bitcoin, Network::Testnet4, Network::Signet, Network::Regtest]
            .into_iter()
            .filter(|other| address.is_valid_for_network(*other))
            .map(network_name)
            .collect();
    let address = address.assume_checked();
    let found = format!("the address {address} of {}", networks.join(" or "));
    Err(ScriptError::OtherNetwork { found, network: network_name(network) })
}

fn of_descriptor(body: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    let secp = Secp256k1::new();
    // Also understands private keys, which is how they are noticed.
    let (descriptor, private_keys) =
        Descriptor::parse_descriptor(&secp, body).map_err(|error| form(harmless(&error)))?;
    if !private_keys.is_empty() {
        return Err(ScriptError::PrivateKey);
    }
    if descriptor.has_wildcard() || descriptor.is_multipath() {
        return Err(ScriptError::ManyScripts);
    }
    descriptor.sanity_check().map_err(|error| form(harmless(&error)))?;
    // Asked first: the library panics when it is to take such a step.
    if !descriptor.for_each_key(|key| !key.has_hardened_step()) {
        return Err(form("a hardened step can not be taken with a public key"));
    }
    let kind = NetworkKind::from(network);
    let right_kind = descriptor.for_each_key(|key| match key {
        DescriptorPublicKey::XPub(extended) => extended.xkey.network == kind,
        DescriptorPublicKey::MultiXPub(extended) => extended.xkey.network == kind,
        DescriptorPublicKey::Single(_) => true,
    });
    if !right_kind {
        let found = match kind {
            NetworkKind::Main => "an extended key of a test network (tpub)",
            NetworkKind::Test => "an extended key of mainnet (xpub)",
        };
        let (found, network) = (found.to_owned(), network_name(network));
        return Err(ScriptError::OtherNetwork { found, network });
    }
    let definite = descriptor
        .at_derivation_index(0)
        .map_err(|_| form("a hardened step can not be taken with a public key"))?;
    let derived = definite
        .derived_descriptor(&secp)
        .map_err(|_| form("a hardened step can not be taken with a public key"))?;
    Ok(derived.script_pubkey())
}

/// The library's message when it can hold no key: long words are left out.
fn harmless(error: &miniscript::Error) -> String {
    const WORD_CHARS_MAX: usize = 20;
    let message = error.to_string();
    let words = message
        .split_whitespace()
        .map(|word| if word.chars().count() > WORD_CHARS_MAX { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

fn check_spendable(script: &ScriptBuf) -> Result<(), ScriptError> {
    let reason = if script.is_op_return() {
        "it starts with OP_RETURN".to_owned()
    } else if script.len() > SCRIPT_BYTES_MAX {
        format!("{} bytes, at most {SCRIPT_BYTES_MAX} can be spent", script.len())
    } else if script.is_empty() {
        "raw() is empty".to_owned()
    } else {
        return Ok(());
    };
    Err(ScriptError::Unspendable { reason })
}

/// True for scripts that need no signature: `OP_TRUE`, and witness versions without rules yet.
pub(crate) fn anyone_can_spend(script: &bitcoin::Script) -> bool {
    const WITNESS_VERSION_MAX_WITH_RULES: u8 = 1;
    const OP_TRUE: u8 = 0x51;
    script.as_bytes() == [OP_TRUE]
        || script
            .witness_version()
            .is_some_and(|version| version.to_num() > WITNESS_VERSION_MAX_WITH_RULES)
}
