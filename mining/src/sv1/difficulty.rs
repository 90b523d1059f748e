//! Difficulties as Stratum V1 tells them: a share of difficulty 1 meets the target
//! `ffff << 208`, and at difficulty D the target is that divided by D.
//!
//! A miner makes the target from the number that it is told. So targets of Stratum V1 channels are
//! those of numbers that print and read back exactly: many firmwares keep whole numbers only.
#![deny(clippy::indexing_slicing)]

use bitcoin::Target;
use serde_json::Value;

/// Below 1 a difficulty has this many decimal digits, less one.
const DIGITS_SCALE_MIN: f64 = 100.0;
/// Relative.
const WHOLE_WITHIN: f64 = 1e-6;
/// No difficulty is below this: its target is all ones already.
const DIFFICULTY_MIN: f64 = 1e-12;
/// No difficulty is above this: `f64` is still exact in whole numbers.
pub(super) const DIFFICULTY_MAX: f64 = 9_007_199_254_740_992.0;

/// The target of a difficulty: the greatest number not above `(ffff << 208) / difficulty`.
/// Difficulties beyond what can be told are taken as the nearest that can.
pub(super) fn target_of_difficulty(difficulty: f64) -> Target {
    let difficulty = clamp(difficulty);
    // difficulty = mantissa * 2^exponent, exactly.
    let bits = difficulty.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1_075;
    // (ffff << shift) / mantissa, one bit after the other.
    let shift = u32::try_from(208 - exponent).unwrap_or(0);
    let mut quotient = [0_u64; 4];
    let mut rest: u128 = 0;
    for position in (0..shift + 16).rev() {
        let bit = if position >= shift { 0xffff_u128 >> (position - shift) & 1 } else { 0 };
        rest = rest << 1 | bit;
        let one = rest >= u128::from(mantissa);
        if one {
            rest -= u128::from(mantissa);
        }
        if push(&mut quotient, one) {
            return Target::from_le_bytes([0xff; 32]);
        }
    }
    let mut bytes = [0; 32];
    let words = quotient.iter().flat_map(|word| word.to_le_bytes());
    bytes.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    Target::from_le_bytes(bytes)
}

/// Shifts a number left by one bit and sets the lowest one. True when it no longer fits.
fn push(number: &mut [u64; 4], bit: bool) -> bool {
    let mut carry = u64::from(bit);
    for word in number {
        let next = *word >> 63;
        *word = *word << 1 | carry;
        carry = next;
    }
    carry != 0
}

/// The nearest target, not harder, whose difficulty can be told exactly.
pub(super) fn rounded(target: Target) -> Target {
    target_of_difficulty(on_grid(target.difficulty_float(), f64::floor))
}

/// What the miner is told of a [`rounded`] target.
pub(super) fn told(target: Target) -> f64 {
    on_grid(target.difficulty_float(), f64::round)
}

/// The easiest target that is not easier than a difficulty, among those that can be told.
pub(super) fn not_easier_than(difficulty: f64) -> Target {
    target_of_difficulty(on_grid(clamp(difficulty), f64::ceil))
}

fn clamp(difficulty: f64) -> f64 {
    // Also what is no number.
    if difficulty > DIFFICULTY_MIN { difficulty.min(DIFFICULTY_MAX) } else { DIFFICULTY_MIN }
}

fn on_grid(difficulty: f64, round: impl Fn(f64) -> f64) -> f64 {
    let difficulty = clamp(difficulty);
    let mut scale = 1.0;
    if difficulty < 1.0 - WHOLE_WITHIN {
        while difficulty * scale < DIGITS_SCALE_MIN {
            scale *= 10.0;
        }
    }
    // What is whole but for the precision of a rate (`f32`) is whole.
    let scaled = difficulty * scale;
    let nearest = scaled.round();
    let whole = (scaled - nearest).abs() <= nearest * WHOLE_WITHIN;
    clamp(if whole { nearest } else { round(scaled) } / scale)
}

/// A difficulty as JSON: whole where it is.
pub(super) fn to_json(difficulty: f64) -> Value {
    if difficulty.fract() == 0.0 && (0.0..=DIFFICULTY_MAX).contains(&difficulty) {
        Value::from(difficulty as u64)
    } else {
        Value::from(difficulty)
    }
}

/// A difficulty in a request: a number, or one as text. Above 0 and finite.
pub(super) fn from_json(value: &Value) -> Option<f64> {
    let difficulty = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (difficulty.is_finite() && difficulty > 0.0).then_some(difficulty)
}

#[cfg(test)]
mod tests {
    use bitcoin::CompactTarget;
    use proptest::prelude::*;

    use super::*;

    fn hex(target: Target) -> String {
        format!("{target:x}")
    }

    #[test]
    fn difficulty_one_is_the_targets_known_value() {
        let one = target_of_difficulty(1.0);
        assert_eq!(one, Target::from_compact(CompactTarget::from_consensus(0x1d00_ffff)));
        assert_eq!(hex(one), "00000000ffff0000000000000000000000000000000000000000000000000000");
    }

    /// Block 100,800's nBits with the difficulty that is published for it, and round numbers.
    #[test]
    fn published_difficulties() {
        let network = Target::from_compact(CompactTarget::from_consensus(0x1b04_04cb));
        let ours = target_of_difficulty(16_307.420_938_523_983);
        let (network, ours) = (hex(network), hex(ours));
        assert_eq!(network[..16], ours[..16]);
        assert_eq!(
            hex(target_of_difficulty(2_048.0)),
            "00000000001fffe0000000000000000000000000000000000000000000000000"
        );
        assert_eq!(
            hex(target_of_difficulty(0.5)),
            "00000001fffe0000000000000000000000000000000000000000000000000000"
        );
        assert_eq!(
            hex(target_of_difficulty(3.0)),
            "0000000055550000000000000000000000000000000000000000000000000000"
        );
        assert_eq!(
            hex(target_of_difficulty(7.0)),
            "0000000024922492492492492492492492492492492492492492492492492492"
        );
    }

    #[test]
    fn the_ends_of_the_scale() {
        for easy in [0.0, -1.0, f64::NAN, 1e-300, f64::MIN_POSITIVE] {
            assert_eq!(target_of_difficulty(easy).to_le_bytes(), [0xff; 32], "{easy}");
        }
        let hardest = target_of_difficulty(DIFFICULTY_MAX);
        assert_ne!(hardest, Target::ZERO);
        assert_eq!(target_of_difficulty(f64::INFINITY), hardest);
        assert_eq!(target_of_difficulty(1e300), hardest);
    }

    #[test]
    fn what_is_told_is_whole_from_one_up() {
        let raw = target_of_difficulty(2_328.306);
        assert_eq!(told(rounded(raw)), 2_328.0);
        assert_eq!(to_json(told(rounded(raw))).to_string(), "2328");
        assert_eq!(
            to_json(told(rounded(target_of_difficulty(0.001_234_5)))).to_string(),
            "0.00123"
        );
        assert_eq!(told(not_easier_than(1_000.2)), 1_001.0);
    }

    #[test]
    fn difficulties_are_read_as_number_or_text() {
        assert_eq!(from_json(&serde_json::json!(512)), Some(512.0));
        assert_eq!(from_json(&serde_json::json!("0.5")), Some(0.5));
        for bad in [
            serde_json::json!(0),
            serde_json::json!(-1),
            serde_json::json!("x"),
            serde_json::json!("NaN"),
            serde_json::json!("inf"),
            serde_json::json!(null),
            serde_json::json!([1]),
        ] {
            assert_eq!(from_json(&bad), None, "{bad}");
        }
    }

    proptest! {
        /// The number that is told is the number of the target that is judged by.
        #[test]
        fn told_and_judged_are_the_same(difficulty in 1e-9_f64..1e15) {
            let target = rounded(target_of_difficulty(difficulty));
            let number: f64 = to_json(told(target)).to_string().parse().unwrap();
            prop_assert_eq!(target_of_difficulty(number), target);
            prop_assert!(number <= difficulty * (1.0 + 2e-6));
            prop_assert!(number >= difficulty * 0.49, "{} for {}", number, difficulty);
        }
    }
}
