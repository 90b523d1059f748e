//! What a miner knows of its channel, and the headers it makes of it: of the messages alone, so that
//! a server that hashes something else is found out.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use jds_wire::message::mining::{
    ExtendedShare, MiningClientMessage, MiningServerMessage, SubmitSharesExtendedOwned,
    SubmitSharesStandardOwned,
};

/// An open channel.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its id.
    pub id: u32,
    /// That of its group.
    pub group_id: u32,
    /// First part of the extranonce.
    pub prefix: Vec<u8>,
    /// Bytes of the extranonce that the miner rolls; 0 for a standard channel.
    pub rolled_bytes: usize,
    /// What a share's hash must not be above.
    pub target: Target,
    /// Future jobs, by id.
    waiting: Vec<Job>,
    pub(super) job: Option<Job>,
    pub(super) prev_hash: Option<([u8; 32], CompactTarget)>,
    sequence: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: u32,
    pub(super) version: u32,
    pub(super) min_ntime: u32,
    pub(super) work: Work,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    Standard([u8; 32]),
    Extended { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinedShare {
    /// Names it in the answer.
    pub sequence_number: u32,
    /// The job.
    pub job_id: u32,
    /// With the nonce.
    pub header: Header,
    /// What the miner rolled of the extranonce.
    pub extranonce: Vec<u8>,
}

impl MinedShare {
    /// Its hash.
    pub fn hash(&self) -> BlockHash {
        self.header.block_hash()
    }
}

impl Channel {
    /// Of the answer to an open message.
    pub(super) fn opened(message: &MiningServerMessage, request_id: u32) -> Option<Self> {
        let (id, group_id, prefix, rolled_bytes, target) = match message {
            MiningServerMessage::OpenStandardMiningChannelSuccess(opened)
                if opened.request_id == request_id =>
            {
                let prefix = &opened.extranonce_prefix;
                (opened.channel_id, opened.group_channel_id, prefix, 0, &opened.target)
            }
            MiningServerMessage::OpenExtendedMiningChannelSuccess(opened)
                if opened.request_id == request_id =>
            {
                let (prefix, rolled) = (&opened.extranonce_prefix, opened.extranonce_size);
                (opened.channel_id, opened.group_channel_id, prefix, rolled, &opened.target)
            }
            _ => return None,
        };
        Some(Self {
            id,
            group_id,
            prefix: prefix.as_bytes().to_vec(),
            rolled_bytes: usize::from(rolled_bytes),
            target: Target::from_le_bytes(target.to_array()),
            waiting: Vec::new(),
            job: None,
            prev_hash: None,
            sequence: 0,
        })
    }

    /// Takes what is for this channel out of a message.
    pub fn hear(&mut self, message: &MiningServerMessage) {
        let own = |id: u32| id == self.id || id == self.group_id;
        match message {
            MiningServerMessage::NewMiningJob(job) if own(job.channel_id) => {
                let work = Work::Standard(job.merkle_root.to_array());
                let min_ntime = job.min_ntime.clone().into_inner();
                self.take(job.job_id, job.version, min_ntime, work);
            }
            MiningServerMessage::NewExtendedMiningJob(job) if own(job.channel_id) => {
                let work = Work::Extended {
                    prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
                    suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    path: job.merkle_path.as_slice().iter().map(|hash| hash.to_array()).collect(),
                };
                let min_ntime = job.min_ntime.clone().into_inner();
                self.take(job.job_id, job.version, min_ntime, work);
            }
            MiningServerMessage::SetNewPrevHash(new) if own(new.channel_id) => {
                let bits = CompactTarget::from_consensus(new.nbits);
                self.prev_hash = Some((new.prev_hash.to_array(), bits));
                let job = self.waiting.iter().find(|job| job.id == new.job_id).cloned();
                self.job = job.map(|job| Job { min_ntime: new.min_ntime, ..job });
                self.waiting.clear();
            }
            MiningServerMessage::SetTarget(set) if own(set.channel_id) => {
                self.target = Target::from_le_bytes(set.maximum_target.to_array());
            }
            MiningServerMessage::SetExtranoncePrefix(set) if set.channel_id == self.id => {
                self.prefix = set.extranonce_prefix.as_bytes().to_vec();
            }
            _ => {}
        }
    }

    fn take(&mut self, id: u32, version: u32, min_ntime: Option<u32>, work: Work) {
        match min_ntime {
            Some(min_ntime) => self.job = Some(Job { id, version, min_ntime, work }),
            None => self.waiting.push(Job { id, version, min_ntime: 0, work }),
        }
    }

    /// There is a job, and a block to build on.
    pub fn has_work(&self) -> bool {
        self.job.is_some() && self.prev_hash.is_some()
    }

    /// Id of the present job.
    pub fn job_id(&self) -> Option<u32> {
        self.job.as_ref().map(|job| job.id)
    }

    /// The block that it builds on, and the network's target.
    pub fn parent(&self) -> Option<(BlockHash, CompactTarget)> {
        self.prev_hash.map(|(hash, bits)| (BlockHash::from_byte_array(hash), bits))
    }

    /// Mines the present job until a hash is wanted. None without work, or when no nonce is good.
    pub fn mine(&mut self, wanted: impl Fn(Target) -> bool) -> Option<MinedShare> {
        let (job, (prev_hash, bits)) = (self.job.as_ref()?, self.prev_hash?);
        self.sequence += 1;
        // Another part of the search space for each share.
        let number = self.sequence.to_be_bytes();
        let mut extranonce = vec![0; self.rolled_bytes];
        extranonce.iter_mut().rev().zip(number.iter().rev()).for_each(|(to, from)| *to = *from);
        let merkle_root = match &job.work {
            Work::Standard(root) => *root,
            Work::Extended { prefix, suffix, path } => {
                let coinbase = [&prefix[..], &self.prefix, &extranonce, suffix].concat();
                let first = sha256d::Hash::hash(&coinbase).to_byte_array();
                path.iter().fold(first, |left, right| {
                    sha256d::Hash::hash([left, *right].as_flattened()).to_byte_array()
                })
            }
        };
        let mut header = Header {
            version: Version::from_consensus(job.version as i32),
            prev_blockhash: BlockHash::from_byte_array(prev_hash),
            merkle_root: TxMerkleNode::from_byte_array(merkle_root),
            time: job.min_ntime,
            bits,
            nonce: 0,
        };
        // A standard channel has nothing else to roll. After 4,096 shares the places come again, beside
        // those of before.
        let place = self.sequence.wrapping_mul(1 << 20).wrapping_add((self.sequence >> 12) << 6);
        let first = if self.rolled_bytes == 0 { place } else { 0 };
        for nonce in first..=u32::MAX {
            header.nonce = nonce;
            if wanted(Target::from_le_bytes(header.block_hash().to_byte_array())) {
                let (sequence_number, job_id) = (self.sequence, job.id);
                return Some(MinedShare { sequence_number, job_id, header, extranonce });
            }
        }
        None
    }

    /// A share, whether or not it makes a block.
    pub fn mine_share(&mut self) -> Option<MinedShare> {
        let target = self.target;
        self.mine(|hash| hash <= target)
    }

    /// A share that makes no block.
    pub fn mine_share_only(&mut self) -> Option<MinedShare> {
        let (target, network) = (self.target, Target::from_compact(self.prev_hash?.1));
        self.mine(|hash| hash <= target && hash > network)
    }

    /// A share that makes a block.
    pub fn mine_block(&mut self) -> Option<MinedShare> {
        let (target, network) = (self.target, Target::from_compact(self.prev_hash?.1));
        self.mine(|hash| hash <= target && hash <= network)
    }

    /// The message with a share; none with an extranonce that no field holds.
    pub fn message(&self, share: &MinedShare) -> Option<MiningClientMessage<'static>> {
        let MinedShare { sequence_number, job_id, header, extranonce } = share;
        let (channel_id, version) = (self.id, header.version.to_consensus() as u32);
        let (sequence_number, job_id) = (*sequence_number, *job_id);
        let (nonce, ntime) = (header.nonce, header.time);
        if self.rolled_bytes == 0 {
            let share = SubmitSharesStandardOwned {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            };
            return Some(MiningClientMessage::SubmitSharesStandard(share));
        }
        let extranonce = extranonce.clone().try_into().ok()?;
        let share = SubmitSharesExtendedOwned {
            channel_id,
            sequence_number,
            job_id,
            nonce,
            ntime,
            version,
            extranonce,
        };
        Some(MiningClientMessage::SubmitSharesExtended(ExtendedShare { share, worker: None }))
    }
}
