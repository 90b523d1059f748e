//! `mining.submit`: worker, job, extranonce2, nTime, nonce, and the version bits of BIP 310.
#![deny(clippy::indexing_slicing)]

use channels_sv2::VERSION_ROLLING_MASK;
use serde_json::Value;

use super::fields::{bytes_hex, u32_field};
use super::refusal::Refusal;
use crate::job::Job;
use crate::limits::EXTRANONCE_BYTES_MAX;

/// The fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submit<'a> {
    pub(super) worker: &'a str,
    /// Absent when it is none that we could have given.
    pub(super) job_id: Option<u32>,
    pub(super) extranonce2: Vec<u8>,
    pub(super) ntime: u32,
    pub(super) nonce: u32,
    pub(super) version_bits: Option<u32>,
}

impl<'a> Submit<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub(super) fn parse(params: &'a [Value]) -> Result<Self, Refusal> {
        let [worker, job, extranonce2, ntime, nonce, rest @ ..] = params else {
            return Err(Refusal::other("mining.submit takes 5 or 6 fields"));
        };
        let version_bits = match rest {
            [] | [Value::Null] => None,
            [bits] => Some(u32_field(bits).ok_or(Refusal::other("Invalid version bits"))?),
            _ => return Err(Refusal::other("mining.submit takes 5 or 6 fields")),
        };
        let text = |value: &'a Value, problem| value.as_str().ok_or(Refusal::other(problem));
        Ok(Self {
            worker: text(worker, "Invalid worker")?,
            job_id: job_id(text(job, "Invalid job id")?),
            extranonce2: bytes_hex(text(extranonce2, "Invalid extranonce2")?, EXTRANONCE_BYTES_MAX)
                .ok_or(Refusal::other("Invalid extranonce2"))?,
            ntime: u32_field(ntime).ok_or(Refusal::other("Invalid ntime"))?,
            nonce: u32_field(nonce).ok_or(Refusal::other("Invalid nonce"))?,
            version_bits,
        })
    }

    /// nVersion of the header that was mined: `(job & ~mask) | (bits & mask)` (BIP 310).
    ///
    /// Bits outside of the mask are taken as they came, as far as they are free: such a share is
    /// refused, but it may be a block.
    pub(super) fn version(&self, job: &Job) -> u32 {
        let Some(bits) = self.version_bits else {
            return job.version();
        };
        let negotiated = job.version_mask();
        let mask = if bits & !negotiated == 0 { negotiated } else { VERSION_ROLLING_MASK };
        (job.version() & !mask) | (bits & mask)
    }
}

/// The job's number as text.
pub(super) fn job_id_text(id: u32) -> String {
    format!("{id:x}")
}

/// The number of [`job_id_text`], in that form only: each job has one name.
fn job_id(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok().filter(|id| job_id_text(*id) == text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn five_or_six_fields() {
        let params = json!(["w.1", "1f", "00000000000000ff", "64f1a2b3", "DEADBEEF"]);
        let mut params = params.as_array().unwrap().clone();
        let read = Submit::parse(&params).unwrap();
        let mut expected = Submit {
            worker: "w.1",
            job_id: Some(0x1f),
            extranonce2: vec![0, 0, 0, 0, 0, 0, 0, 0xff],
            ntime: 0x64f1_a2b3,
            nonce: 0xdead_beef,
            version_bits: None,
        };
        assert_eq!(read, expected);
        params.push(json!("00002000"));
        expected.version_bits = Some(0x2000);
        assert_eq!(Submit::parse(&params).unwrap(), expected);
        params.push(json!(""));
        assert!(Submit::parse(&params).is_err());
        assert!(Submit::parse(&[]).is_err());
    }

    #[test]
    fn a_bad_field_is_named() {
        let good = json!(["w", "1", "00", "00", "00", "00"]);
        for (index, name) in ["worker", "job id", "extranonce2", "ntime", "nonce", "version bits"]
            .into_iter()
            .enumerate()
        {
            let mut params = good.as_array().unwrap().clone();
            params[index] = json!({"x": 1});
            let refusal = Submit::parse(&params).unwrap_err();
            assert_eq!((refusal.code, &*refusal.message), (20, &*format!("Invalid {name}")));
        }
        let long = json!(["w", "1", "00".repeat(33), "00", "00"]);
        assert!(Submit::parse(long.as_array().unwrap()).is_err());
    }

    #[test]
    fn a_job_has_one_name() {
        assert_eq!(job_id("1f"), Some(0x1f));
        for other in ["01f", "1F", "+1f", "", "0x1f", "100000000", "job"] {
            assert_eq!(job_id(other), None, "{other}");
        }
    }
}
