//! Fields of messages.
#![deny(clippy::indexing_slicing)]

use bitcoin::hex::FromHex;
use serde_json::Value;

/// A 32-bit number: hex digits, big endian, leading zeros may be missing; or a JSON number.
pub(super) fn u32_field(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => u32_hex(text),
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        _ => None,
    }
}

/// 1 to 8 hex digits, big endian, with `0x` or without.
pub(super) fn u32_hex(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if hex { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes as hex digits, two each. At most `max` bytes.
pub(super) fn bytes_hex(text: &str, max: usize) -> Option<Vec<u8>> {
    if text.len() > 2 * max { None } else { Vec::from_hex(text).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(u32_field(&json!("1a")), Some(0x1a));
        assert_eq!(u32_field(&json!("ffffffff")), Some(u32::MAX));
        assert_eq!(u32_field(&json!("0x20000000")), Some(0x2000_0000));
        assert_eq!(u32_field(&json!("00000001ff")), Some(0x1ff));
        assert_eq!(u32_field(&json!(7)), Some(7));
        for bad in [json!(""), json!("+1"), json!("-1"), json!("1ffffffff"), json!(1.5), json!(-1)]
        {
            assert_eq!(u32_field(&bad), None, "{bad}");
        }
        assert_eq!(u32_field(&json!(4_294_967_296_u64)), None);
        assert_eq!(u32_field(&json!("é")), None);
    }

    #[test]
    fn bytes() {
        assert_eq!(bytes_hex("00Ff", 2), Some(vec![0, 255]));
        assert_eq!(bytes_hex("00ff", 1), None);
        assert_eq!(bytes_hex("0", 1), None);
        assert_eq!(bytes_hex("zz", 1), None);
        assert_eq!(bytes_hex("", 1), Some(vec![]));
    }
}
