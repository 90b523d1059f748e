//! What a job is called at the pool interface.
//!
//! The name of a declared job says all that the job is made of beside what the store gives back, so
//! that it is good after a restart, and after the job was pushed out of memory. It is no secret and no
//! proof: who may use the interface has shown that already. Jobs of coinbase-only mode end with the
//! process, as on our own ports.
#![deny(clippy::indexing_slicing)]

use api::pool::JobName;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use validation::declared::TemplateHash;
use validation::receipt::tagged_hash;

use crate::token::{GenuineJob, UserTag};

const DECLARED: u8 = 1;
const COINBASE_ONLY: u8 = 2;

/// Of the hash that a connection's name becomes.
const CONNECTION_TAG: &str = "jds/pool-connection";

/// Numbers of our own mining connections are small: this bit tells a pool's from them.
const OF_A_POOL: u64 = 1 << 63;

/// The number of a connection that the pool calls so; the same in every process.
pub(super) fn connection_number(name: &str) -> u64 {
    let hash = tagged_hash(CONNECTION_TAG, &[name.as_bytes()]);
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)) | OF_A_POOL
}

/// A job by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A declared one.
    Declared {
        /// Number of the miner's connection.
        connection: u64,
        /// The receipt, without its end.
        receipt: GenuineJob,
        /// nTime that it begins with, Unix seconds.
        min_ntime: u32,
        /// The block that it builds on: one that was declared on another of this height is as good.
        prev: BlockHash,
    },
    /// One of coinbase-only mode: of which process, and its number there.
    CoinbaseOnly([u8; 8], u32),
}

impl Named {
    /// The bytes of the name.
    pub(super) fn encode(&self) -> JobName {
        JobName(match self {
            Self::Declared { connection, receipt, min_ntime, prev } => [
                &[DECLARED],
                &connection.to_be_bytes()[..],
                &receipt.issued_us.to_be_bytes(),
                &receipt.user.to_bytes(),
                receipt.template.as_bytes(),
                &min_ntime.to_be_bytes(),
                prev.as_byte_array(),
            ]
            .concat(),
            Self::CoinbaseOnly(process, number) => {
                [&[COINBASE_ONLY], &process[..], &number.to_be_bytes()].concat()
            }
        })
    }

    /// What the bytes of a name say; nothing if they are none.
    pub(super) fn decode(JobName(name): &JobName) -> Option<Self> {
        let (kind, rest) = name.split_first()?;
        match *kind {
            DECLARED => {
                let (connection, rest) = rest.split_first_chunk()?;
                let (issued_us, rest) = rest.split_first_chunk()?;
                let (user, rest) = rest.split_first_chunk()?;
                let (template, rest) = rest.split_first_chunk()?;
                let (min_ntime, rest) = rest.split_first_chunk()?;
                let receipt = GenuineJob {
                    template: TemplateHash::from_bytes(*template),
                    user: UserTag::from_bytes(*user),
                    issued_us: u64::from_be_bytes(*issued_us),
                    // It was looked at when the name was made; jobs end sooner.
                    expires_us: u64::MAX,
                };
                Some(Self::Declared {
                    connection: u64::from_be_bytes(*connection),
                    receipt,
                    min_ntime: u32::from_be_bytes(*min_ntime),
                    prev: BlockHash::from_byte_array(rest.try_into().ok()?),
                })
            }
            COINBASE_ONLY => {
                let (process, rest) = rest.split_first_chunk()?;
                Some(Self::CoinbaseOnly(*process, u32::from_be_bytes(rest.try_into().ok()?)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_and_no_other_bytes_are_one() {
        let declared = Named::Declared {
            connection: connection_number("miner 7"),
            receipt: GenuineJob {
                template: TemplateHash::from_bytes([3; 32]),
                user: UserTag::of(b"alice"),
                issued_us: 5,
                expires_us: u64::MAX,
            },
            min_ntime: 7,
            prev: BlockHash::from_byte_array([9; 32]),
        };
        for named in [declared, Named::CoinbaseOnly([1; 8], 2)] {
            let name = named.encode();
            assert_eq!(Named::decode(&name), Some(named));
            for length in 0..name.0.len() {
                assert_eq!(Named::decode(&JobName(name.0[..length].to_vec())), None);
            }
            let longer = [&name.0[..], &[0]].concat();
            assert_eq!(Named::decode(&JobName(longer)), None);
        }
        assert_eq!(Named::decode(&JobName(vec![3; 101])), None);
    }

    #[test]
    fn connections_of_a_pool_are_none_of_ours_and_none_of_each_other() {
        assert_ne!(connection_number(""), connection_number("a"));
        assert!(connection_number("a") > u64::from(u32::MAX));
    }
}
