//! Values of JSON as they are meant: hex, hashes, targets, names of bounded length.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, Target};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::limits;

/// A text of the body, borrowed where it has nothing to unescape.
pub(crate) type Text<'a> = Cow<'a, str>;

/// An object, though serde would take a list of fields for one as well.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Only(PhantomData))
    }
}

/// What is wrong with a value: the field, and what was expected.
pub(crate) type Wrong = String;

/// Bytes of hex, at most `max`.
pub(crate) fn bytes(name: &str, text: &str, max: usize) -> Result<Vec<u8>, Wrong> {
    if text.len() > max * 2 {
        return Err(format!("{name}: {} hex digits; expected at most {}", text.len(), max * 2));
    }
    Vec::from_hex(text).map_err(|error| format!("{name}: no hex: {error}"))
}

/// 32 bytes of hex, as hashed.
pub(crate) fn hash(name: &str, text: &str) -> Result<[u8; 32], Wrong> {
    <[u8; 32]>::from_hex(text).map_err(|_| format!("{name}: expected 64 hex digits"))
}

/// The hash of a block, as usually printed.
pub(crate) fn block_hash(name: &str, text: &str) -> Result<BlockHash, Wrong> {
    text.parse().map_err(|_| format!("{name}: expected 64 hex digits"))
}

/// nBits, 8 hex digits.
pub(crate) fn bits(name: &str, text: &str) -> Result<u32, Wrong> {
    let bytes = <[u8; 4]>::from_hex(text).map_err(|_| format!("{name}: expected 8 hex digits"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// A target above zero, 64 hex digits, big endian.
pub(crate) fn target(text: &str) -> Result<Target, Wrong> {
    let target = Target::from_be_bytes(hash("target", text)?);
    if target == Target::ZERO {
        return Err("target: no hash is below zero".to_owned());
    }
    Ok(target)
}

/// A name of a bounded length.
pub(crate) fn name(what: &str, text: &str) -> Result<String, Wrong> {
    let max = limits::NAME_BYTES_MAX;
    if text.len() > max {
        return Err(format!("{what}: {} bytes; expected at most {max}", text.len()));
    }
    Ok(text.to_owned())
}

/// Bytes as hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bitcoin::hex::DisplayHex::to_lower_hex_string(bytes)
}
