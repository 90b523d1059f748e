//! The height at the front of a coinbase's scriptSig (BIP 34).

/// Most bytes of a pushed height: Bitcoin Core's heights are signed 32-bit numbers.
const PUSH_BYTES_MAX: usize = 4;

const OP_0: u8 = 0x00;
const OP_1: u8 = 0x51;
const OP_16: u8 = 0x60;

/// Why a script does not begin with a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeightError {
    #[error("empty-script")]
    Empty,
    #[error("push-reaches-into-extranonce")]
    CutOff,
    #[error("opcode-0x{0:02x}")]
    NotAPush(u8),
    #[error("not-minimal")]
    NotMinimal,
    #[error("negative")]
    Negative,
    #[error("zero")]
    Zero,
}

/// Reads what `CScript() << height` wrote: `OP_1` to `OP_16`, or the shortest little-endian
/// signed number. Exactly one encoding of each height is accepted, as consensus demands. Height 0
/// is the genesis block's and no job can be for it.
pub(crate) fn decode(script: &[u8]) -> Result<u32, HeightError> {
    let (&opcode, rest) = script.split_first().ok_or(HeightError::Empty)?;
    let push_bytes = usize::from(opcode);
    match opcode {
        OP_0 => Err(HeightError::Zero),
        OP_1..=OP_16 => Ok(u32::from(opcode - OP_1) + 1),
        _ if push_bytes > PUSH_BYTES_MAX => Err(HeightError::NotAPush(opcode)),
        _ => decode_number(rest.get(..push_bytes).ok_or(HeightError::CutOff)?),
    }
}

fn decode_number(number: &[u8]) -> Result<u32, HeightError> {
    let (&last, below) = number.split_last().ok_or(HeightError::Zero)?;
    if last & 0x80 != 0 {
        return Err(HeightError::Negative);
    }
    // A zero byte on top is needed only to keep the sign bit of the one below it clear.
    if last == 0 && below.last().is_none_or(|byte| byte & 0x80 == 0) {
        return Err(HeightError::NotMinimal);
    }
    let height = number.iter().rev().fold(0, |value, byte| (value << 8) | u32::from(*byte));
    // 1 to 16 have opcodes of their own.
    if height <= 16 { Err(HeightError::NotMinimal) } else { Ok(height) }
}

#[cfg(test)]
mod tests {
    use bitcoin::script::Builder;

    use super::*;

    #[test]
    fn decodes_what_script_builders_write() {
        let edges = [1, 2, 15, 16, 17, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536];
        let high = [840_000, 8_388_607, 8_388_608, 16_777_215, 16_777_216, 0x7fff_ffff];
        for height in edges.into_iter().chain(high) {
            let mut script = Builder::new().push_int(i64::from(height)).into_bytes();
            assert_eq!(decode(&script), Ok(height), "{script:02x?}");
            script.extend([0xff, 0x80, 0x00]);
            assert_eq!(decode(&script), Ok(height), "what follows the push does not matter");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (script, error) in [
            (&[][..], HeightError::Empty),
            (&[0x00], HeightError::Zero),
            (&[0x01, 0x05], HeightError::NotMinimal),
            (&[0x01, 0x10], HeightError::NotMinimal),
            (&[0x01, 0x00], HeightError::NotMinimal),
            (&[0x02, 0x11, 0x00], HeightError::NotMinimal),
            (&[0x03, 0xff, 0x00, 0x00], HeightError::NotMinimal),
            (&[0x01, 0x91], HeightError::Negative),
            (&[0x04, 0, 0, 0, 0x80], HeightError::Negative),
            (&[0x03, 0x01, 0x02], HeightError::CutOff),
            (&[0x05, 0, 0, 0, 0, 1], HeightError::NotAPush(5)),
            (&[0x4c, 0x01, 0x11], HeightError::NotAPush(0x4c)),
            (&[0x4f], HeightError::NotAPush(0x4f)),
            (&[0x61], HeightError::NotAPush(0x61)),
        ] {
            assert_eq!(decode(script), Err(error), "{script:02x?}");
        }
    }
}
