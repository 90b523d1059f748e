//! The miner's side: only what a real client knows from the messages goes into its hashes.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use channels_sv2::merkle_root::merkle_root_from_path;
use jds_wire::message::mining::{
    ExtendedShare, MiningClientMessage, MiningServerMessage, NewExtendedMiningJobOwned,
    SubmitSharesExtendedOwned, SubmitSharesStandardOwned,
};

/// What a miner knows of its channel.
#[derive(Debug, Clone)]
pub struct Miner {
    pub channel_id: u32,
    pub group_id: u32,
    pub prefix: Vec<u8>,
    pub rolled_bytes: usize,
    pub target: Target,
    pub job: Option<MinerJob>,
    pub prev_hash: Option<([u8; 32], u32)>,
    pub sequence: u32,
}

/// What a miner knows of a job.
#[derive(Debug, Clone)]
pub struct MinerJob {
    pub job_id: u32,
    pub version: u32,
    pub min_ntime: u32,
    pub work: MinerWork,
}

#[derive(Debug, Clone)]
pub enum MinerWork {
    Standard([u8; 32]),
    Extended { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

impl MinerWork {
    fn of(job: &NewExtendedMiningJobOwned) -> Self {
        Self::Extended {
            prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
            suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
            path: job.merkle_path.as_slice().iter().map(|hash| hash.to_array()).collect(),
        }
    }
}

impl Miner {
    /// From the answer to an open message; the messages after it are taken too.
    pub fn opened(messages: &[MiningServerMessage]) -> Self {
        let mut miner = match messages.first() {
            Some(MiningServerMessage::OpenStandardMiningChannelSuccess(opened)) => Self {
                channel_id: opened.channel_id,
                group_id: opened.group_channel_id,
                prefix: opened.extranonce_prefix.as_bytes().to_vec(),
                rolled_bytes: 0,
                target: Target::from_le_bytes(opened.target.to_array()),
                job: None,
                prev_hash: None,
                sequence: 0,
            },
            Some(MiningServerMessage::OpenExtendedMiningChannelSuccess(opened)) => Self {
                channel_id: opened.channel_id,
                group_id: opened.group_channel_id,
                prefix: opened.extranonce_prefix.as_bytes().to_vec(),
                rolled_bytes: usize::from(opened.extranonce_size),
                target: Target::from_le_bytes(opened.target.to_array()),
                job: None,
                prev_hash: None,
                sequence: 0,
            },
            other => panic!("no channel was opened: {other:?}"),
        };
        miner.hear(&messages[1..]);
        miner
    }

    /// Takes what is for this miner out of messages.
    pub fn hear(&mut self, messages: &[MiningServerMessage]) {
        let own = |id| [self.channel_id, self.group_id].contains(&id);
        for message in messages {
            match message {
                MiningServerMessage::NewMiningJob(job) if job.channel_id == self.channel_id => {
                    self.job = Some(MinerJob {
                        job_id: job.job_id,
                        version: job.version,
                        min_ntime: job.min_ntime.clone().into_inner().unwrap_or(0),
                        work: MinerWork::Standard(job.merkle_root.to_array()),
                    });
                }
                MiningServerMessage::NewExtendedMiningJob(job) if own(job.channel_id) => {
                    self.job = Some(MinerJob {
                        job_id: job.job_id,
                        version: job.version,
                        min_ntime: job.min_ntime.clone().into_inner().unwrap_or(0),
                        work: MinerWork::of(job),
                    });
                }
                MiningServerMessage::SetNewPrevHash(new) if own(new.channel_id) => {
                    self.prev_hash = Some((new.prev_hash.to_array(), new.nbits));
                    let job = self.job.as_mut().expect("a job before SetNewPrevHash");
                    assert_eq!((job.job_id, job.min_ntime), (new.job_id, 0), "not a future job");
                    job.min_ntime = new.min_ntime;
                }
                MiningServerMessage::SetTarget(set) if own(set.channel_id) => {
                    self.target = Target::from_le_bytes(set.maximum_target.to_array());
                }
                MiningServerMessage::SetExtranoncePrefix(set)
                    if set.channel_id == self.channel_id =>
                {
                    self.prefix = set.extranonce_prefix.as_bytes().to_vec();
                }
                _ => {}
            }
        }
    }

    pub fn job(&self) -> &MinerJob {
        self.job.as_ref().expect("a job")
    }

    pub fn header(&self, share: &SubmitSharesExtendedOwned) -> Header {
        let job = self.job();
        let merkle_root = match &job.work {
            MinerWork::Standard(root) => *root,
            MinerWork::Extended { prefix, suffix, path } => {
                let extranonce = [&self.prefix, share.extranonce.as_bytes()].concat();
                merkle_root_from_path(prefix, suffix, &extranonce, path).expect("a coinbase")
            }
        };
        let (prev_hash, nbits) = self.prev_hash.expect("a block to build on");
        Header {
            version: Version::from_consensus(share.version.cast_signed()),
            prev_blockhash: BlockHash::from_byte_array(prev_hash),
            merkle_root: TxMerkleNode::from_byte_array(merkle_root),
            time: share.ntime,
            bits: CompactTarget::from_consensus(nbits),
            nonce: share.nonce,
        }
    }

    /// A share that was not mined yet.
    pub fn draft(&mut self) -> SubmitSharesExtendedOwned {
        self.sequence += 1;
        SubmitSharesExtendedOwned {
            channel_id: self.channel_id,
            sequence_number: self.sequence,
            job_id: self.job().job_id,
            nonce: 0,
            ntime: self.job().min_ntime,
            version: self.job().version,
            extranonce: vec![0; self.rolled_bytes].try_into().unwrap(),
        }
    }

    /// Rolls the nonce of `draft` until its hash is wanted.
    pub fn roll(
        &self,
        mut draft: SubmitSharesExtendedOwned,
        wanted: impl Fn(Target) -> bool,
    ) -> SubmitSharesExtendedOwned {
        for nonce in draft.nonce..draft.nonce + 1_000_000 {
            draft.nonce = nonce;
            let hash = self.header(&draft).block_hash().to_byte_array();
            if wanted(Target::from_le_bytes(hash)) {
                return draft;
            }
        }
        panic!("no nonce makes a wanted hash");
    }

    /// A share that meets the target, from `nonce` on.
    pub fn mine_from(&mut self, nonce: u32) -> SubmitSharesExtendedOwned {
        let draft = SubmitSharesExtendedOwned { nonce, ..self.draft() };
        let target = self.target;
        self.roll(draft, |hash| hash <= target)
    }

    pub fn mine(&mut self) -> SubmitSharesExtendedOwned {
        self.mine_from(self.sequence * 1_000)
    }

    /// The message of a share on this kind of channel.
    pub fn message(&self, share: SubmitSharesExtendedOwned) -> MiningClientMessage<'static> {
        if self.rolled_bytes > 0 {
            let extended = ExtendedShare { share, worker: None };
            return MiningClientMessage::SubmitSharesExtended(extended);
        }
        MiningClientMessage::SubmitSharesStandard(SubmitSharesStandardOwned {
            channel_id: share.channel_id,
            sequence_number: share.sequence_number,
            job_id: share.job_id,
            nonce: share.nonce,
            ntime: share.ntime,
            version: share.version,
        })
    }
}

/// The code that a share was refused with; none when it counts. A new target and its job may come
/// with it.
pub fn share_code(answer: &[MiningServerMessage]) -> Option<String> {
    let code = |message: &MiningServerMessage| match message {
        MiningServerMessage::SubmitSharesError(error) => {
            Some(Some(error.error_code.as_utf8_or_hex()))
        }
        MiningServerMessage::SubmitSharesSuccess(_) => Some(None),
        _ => None,
    };
    answer.iter().find_map(code).unwrap_or_else(|| panic!("no answer to a share: {answer:?}"))
}
