//! `mining.configure` (BIP 310).
#![deny(clippy::indexing_slicing)]

use channels_sv2::VERSION_ROLLING_MASK;
use serde_json::{Map, Value};

use super::difficulty::from_json;
use super::fields::u32_field;
use super::refusal::Refusal;

/// Mask that a miner asks for when it names none (BIP 310).
const MASK_DEFAULT: u32 = u32::MAX;

/// What a miner asked for, as far as it was granted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Configuration {
    /// Bits of nVersion that the miner may change; absent when it did not ask.
    pub(super) version_mask: Option<u32>,
    /// Least difficulty that the miner takes.
    pub(super) minimum_difficulty: Option<f64>,
    /// The miner takes `mining.set_extranonce`.
    pub(super) extranonce: bool,
    /// The answer.
    pub(super) result: Value,
}

/// Reads a request.
///
/// A miner that asks for more bits than there are gets those that there are: BIP 310 leaves it to the
/// miner whether that is enough.
///
/// # Errors
/// A refusal: the extensions are no array of names.
pub(super) fn configure(params: &[Value]) -> Result<Configuration, Refusal> {
    let Some(extensions) = params.first().and_then(Value::as_array) else {
        return Err(Refusal::other("mining.configure takes an array of extensions"));
    };
    let none = Map::new();
    let values = params.get(1).and_then(Value::as_object).unwrap_or(&none);
    let mut granted = Configuration {
        version_mask: None,
        minimum_difficulty: None,
        extranonce: false,
        result: Value::Null,
    };
    let mut result = Map::new();
    for extension in extensions {
        let Some(name) = extension.as_str() else {
            return Err(Refusal::other("the name of an extension is no string"));
        };
        let answer = match name {
            "version-rolling" => match mask(values) {
                Ok(mask) => {
                    granted.version_mask = Some(mask);
                    result.insert(format!("{name}.mask"), format!("{mask:08x}").into());
                    Value::Bool(mask != 0)
                }
                Err(problem) => problem.into(),
            },
            "minimum-difficulty" => {
                match values.get("minimum-difficulty.value").and_then(from_json) {
                    Some(value) => {
                        granted.minimum_difficulty = Some(value);
                        true.into()
                    }
                    None => "minimum-difficulty.value is no number above 0".into(),
                }
            }
            "subscribe-extranonce" => {
                granted.extranonce = true;
                true.into()
            }
            "info" => true.into(),
            _ => false.into(),
        };
        result.insert(name.to_owned(), answer);
    }
    granted.result = Value::Object(result);
    Ok(granted)
}

fn mask(values: &Map<String, Value>) -> Result<u32, &'static str> {
    let asked = match values.get("version-rolling.mask") {
        None | Some(Value::Null) => MASK_DEFAULT,
        Some(value) => u32_field(value).ok_or("version-rolling.mask is no mask of 32 bits")?,
    };
    Ok(asked & VERSION_ROLLING_MASK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use sv1_api::Message;
    use sv1_api::json_rpc::Response;
    use sv1_api::server_to_client;

    use super::*;

    fn asked(params: Value) -> Configuration {
        configure(params.as_array().unwrap()).unwrap()
    }

    /// Requests as real firmware sends them.
    #[test]
    fn masks_of_real_miners() {
        let cases = [
            // cpuminer-opt, ESP-Miner
            (json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]), 0x1fff_ffe0),
            // Antminer
            (
                json!([["version-rolling"],
                    {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]),
                0x1fff_e000,
            ),
            // Braiins OS
            (
                json!([["version-rolling", "subscribe-extranonce"],
                    {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": "10"}]),
                0x1fff_e000,
            ),
            // none named
            (json!([["version-rolling"]]), 0x1fff_ffe0),
            (json!([["version-rolling"], {}]), 0x1fff_ffe0),
            // more bits wanted than there are: those that there are
            (
                json!([["version-rolling"],
                    {"version-rolling.mask": "e000001f", "version-rolling.min-bit-count": 8}]),
                0,
            ),
        ];
        for (params, mask) in cases {
            let granted = asked(params.clone());
            assert_eq!(granted.version_mask, Some(mask), "{params}");
            assert_eq!(granted.result["version-rolling"], mask != 0, "{params}");
            assert_eq!(granted.result["version-rolling.mask"], format!("{mask:08x}"), "{params}");
        }
    }

    #[test]
    fn every_extension_is_answered_by_its_name() {
        let granted = asked(json!([
            ["minimum-difficulty", "version-rolling", "info", "subscribe-extranonce", "future"],
            {"minimum-difficulty.value": 2048, "info.sw-version": "1"}
        ]));
        assert_eq!(granted.minimum_difficulty, Some(2_048.0));
        assert!(granted.extranonce);
        assert_eq!(
            granted.result,
            json!({"minimum-difficulty": true, "version-rolling": true,
                "version-rolling.mask": "1fffffe0", "info": true, "subscribe-extranonce": true,
                "future": false})
        );
    }

    #[test]
    fn a_wrong_value_is_told_by_its_extension_alone() {
        let granted = asked(json!([["minimum-difficulty", "version-rolling"],
            {"minimum-difficulty.value": -5, "version-rolling.mask": "nothing"}]));
        assert_eq!((granted.minimum_difficulty, granted.version_mask), (None, None));
        assert!(granted.result["minimum-difficulty"].is_string());
        assert!(granted.result["version-rolling"].is_string());
        assert!(configure(&[]).is_err());
        assert!(configure(&[json!([1])]).is_err());
    }

    /// The answer as the client of the crate `sv1_api` reads it.
    #[test]
    fn the_reference_reads_the_answer() {
        let result =
            asked(json!([["version-rolling"], {"version-rolling.mask": "1fffe000"}])).result;
        let response = Response { id: 1, error: None, result };
        let read = server_to_client::Configure::try_from(&response).unwrap();
        assert_eq!(read.version_rolling_mask().map(|mask| mask.0), Some(0x1fff_e000));
        assert!(matches!(Message::from(response), Message::OkResponse(_)));
    }

    proptest! {
        #[test]
        fn no_bit_is_granted_that_is_not_free(asked_mask in any::<u32>()) {
            let granted = asked(json!([["version-rolling"],
                {"version-rolling.mask": format!("{asked_mask:x}")}]));
            prop_assert_eq!(granted.version_mask.unwrap(), asked_mask & 0x1fff_ffe0);
        }
    }
}
