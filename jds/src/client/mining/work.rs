//! Channels and their jobs at the miner's end, and shares ground on the processor.

use std::collections::HashMap;

use binary_sv2::{Seq0255Owned, U256Owned};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use jds_wire::message::mining::{
    MiningServerMessage, NewExtendedMiningJobOwned, SetCustomMiningJobOwned, SetNewPrevHashOwned,
};
use validation::CoinbaseParts;
use validation::merkle::{branch_of_first, root_from_branch};

use super::super::ClientError;
use super::super::template::MinerTemplate;

/// An open channel as the server's messages tell of it.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its number on the connection.
    pub id: u32,
    /// The group that it belongs to.
    pub group: u32,
    /// What every extranonce of it begins with.
    pub extranonce_prefix: Vec<u8>,
    /// Bytes of extranonce that are rolled; 0 on a standard channel.
    pub rolled_bytes: usize,
    /// True for a standard channel.
    pub standard: bool,
    /// What a share has to meet, as a little-endian number.
    pub target: [u8; 32],
    /// Jobs that wait for their block.
    future: HashMap<u32, Job>,
    prev: Option<Prev>,
    active: Option<Work>,
}

/// The block to build on.
#[derive(Debug, Clone, Copy)]
struct Prev {
    hash: BlockHash,
    bits: CompactTarget,
}

/// A job without its block.
#[derive(Debug, Clone)]
struct Job {
    id: u32,
    version: u32,
    root: Root,
}

/// Where the merkle root comes from.
#[derive(Debug, Clone)]
enum Root {
    /// Standard job.
    Fixed([u8; 32]),
    /// Extended job: the coinbase's halves as the txid covers them, what stands between them before
    /// the rolled bytes, and the hashes beside its path.
    Rolled { prefix: Vec<u8>, extranonce_prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

/// Something to grind.
#[derive(Debug, Clone)]
pub struct Work {
    /// Of the job.
    pub job_id: u32,
    /// nVersion to begin with.
    pub version: u32,
    /// nTime to begin with, Unix seconds.
    pub ntime: u32,
    /// nBits of the header.
    pub bits: CompactTarget,
    /// Bytes of extranonce that are rolled.
    pub rolled_bytes: usize,
    prev_hash: BlockHash,
    root: Root,
}

/// A share, ready to be submitted.
#[derive(Debug, Clone)]
pub struct MinedShare {
    /// Of the job.
    pub job_id: u32,
    /// nNonce.
    pub nonce: u32,
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nVersion.
    pub version: u32,
    /// The rolled bytes; none on a standard channel.
    pub extranonce: Option<Vec<u8>>,
    /// The header that it is of.
    pub header: Header,
}

impl MinedShare {
    /// Its hash.
    pub fn hash(&self) -> BlockHash {
        self.header.block_hash()
    }
}

impl Channel {
    /// What it is to work on, if the server has said.
    pub fn work(&self) -> Option<Work> {
        self.active.clone()
    }

    /// All of the extranonce, bytes.
    pub fn extranonce_bytes(&self) -> usize {
        self.extranonce_prefix.len() + self.rolled_bytes
    }

    fn take(&mut self, job: Job, min_ntime: Option<u32>) {
        match (min_ntime, self.prev) {
            (Some(ntime), Some(prev)) => self.active = Some(self.work_of(job, prev, ntime)),
            _ => drop(self.future.insert(job.id, job)),
        }
    }

    fn on_prev_hash(&mut self, message: &SetNewPrevHashOwned) {
        let hash = BlockHash::from_byte_array(message.prev_hash.to_array());
        let prev = Prev { hash, bits: CompactTarget::from_consensus(message.nbits) };
        self.prev = Some(prev);
        let job = self.future.remove(&message.job_id);
        self.future.clear();
        self.active = job.map(|job| self.work_of(job, prev, message.min_ntime));
    }

    fn work_of(&self, job: Job, prev: Prev, ntime: u32) -> Work {
        Work {
            job_id: job.id,
            version: job.version,
            ntime,
            bits: prev.bits,
            rolled_bytes: self.rolled_bytes,
            prev_hash: prev.hash,
            root: job.root,
        }
    }

    /// An extended job; on a standard channel, which its group got it for, it is rolled no further.
    fn extended_job(&self, message: &NewExtendedMiningJobOwned) -> Job {
        let root = Root::Rolled {
            prefix: message.coinbase_tx_prefix.to_owned_bytes(),
            extranonce_prefix: self.extranonce_prefix.clone(),
            suffix: message.coinbase_tx_suffix.to_owned_bytes(),
            path: message.merkle_path.iter().map(U256Owned::to_array).collect(),
        };
        Job { id: message.job_id, version: message.version, root }
    }
}

impl Work {
    /// Bytes of the block's hash that it builds on, as hashed.
    pub fn prev_hash(&self) -> [u8; 32] {
        self.prev_hash.to_byte_array()
    }

    /// The work of a custom job that the server has numbered. The channel is the one that `job` was
    /// made for.
    ///
    /// # Errors
    /// [`ClientError::Template`] when the template's halves are no coinbase.
    pub fn of_custom(
        job_id: u32,
        job: &SetCustomMiningJobOwned,
        template: &MinerTemplate,
        channel: &Channel,
    ) -> Result<Self, ClientError> {
        let parts = parts_of(template)?;
        let root = Root::Rolled {
            prefix: parts.stripped_prefix().to_vec(),
            extranonce_prefix: channel.extranonce_prefix.clone(),
            suffix: parts.stripped_suffix().concat(),
            path: job.merkle_path.iter().map(U256Owned::to_array).collect(),
        };
        Ok(Self {
            job_id,
            version: job.version,
            ntime: job.min_ntime,
            bits: CompactTarget::from_consensus(job.nbits),
            rolled_bytes: channel.rolled_bytes,
            prev_hash: BlockHash::from_byte_array(job.prev_hash.to_array()),
            root,
        })
    }

    /// The header with these rolled bytes, nonce 0.
    pub fn header(&self, rolled: &[u8]) -> Header {
        let root = match &self.root {
            Root::Fixed(root) => *root,
            Root::Rolled { prefix, extranonce_prefix, suffix, path } => {
                let coinbase = [&prefix[..], extranonce_prefix, rolled, suffix].concat();
                root_from_branch(sha256d::Hash::hash(&coinbase).to_byte_array(), path)
            }
        };
        Header {
            version: Version::from_consensus(self.version.cast_signed()),
            prev_blockhash: self.prev_hash,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: self.ntime,
            bits: self.bits,
            nonce: 0,
        }
    }

    /// Grinds for a share that meets this target, a little-endian number; `salt` tells it from
    /// others. None when no nonce does.
    pub fn grind(&self, target: [u8; 32], salt: u64) -> Option<MinedShare> {
        let mut rolled = salt.to_be_bytes().to_vec();
        rolled.resize(self.rolled_bytes, 0);
        let standard = self.rolled_bytes == 0;
        let mut header = self.header(&rolled);
        if standard {
            // Nothing else tells shares of one job apart.
            header.time = header.time.wrapping_add(salt as u32);
        }
        let target = Target::from_le_bytes(target);
        header.nonce = signet::grind(&header, target, signet::default_threads())?;
        Some(self.share(header, (!standard).then_some(rolled)))
    }

    /// Grinds for a block.
    pub fn solve(&self, salt: u64) -> Option<MinedShare> {
        self.grind(Target::from_compact(self.bits).to_le_bytes(), salt)
    }

    fn share(&self, header: Header, extranonce: Option<Vec<u8>>) -> MinedShare {
        MinedShare {
            job_id: self.job_id,
            nonce: header.nonce,
            ntime: header.time,
            version: header.version.to_consensus().cast_unsigned(),
            extranonce,
            header,
        }
    }
}

/// SetCustomMiningJob for a template on a channel (SV2 5.3.18), request id 0. The template's extranonce
/// has to be as long as the channel's.
///
/// # Errors
/// [`ClientError::Template`] when the template's halves are no coinbase that a message can carry.
pub fn custom_job(
    channel: &Channel,
    token: &[u8],
    template: &MinerTemplate,
    prev_hash: BlockHash,
    min_ntime: u32,
    bits: CompactTarget,
) -> Result<SetCustomMiningJobOwned, ClientError> {
    let unfit = |_| ClientError::Template("it does not fit a message".to_owned());
    let parts = parts_of(template)?;
    let txids = template.txs.iter().map(|tx| tx.compute_txid().to_byte_array());
    let path = branch_of_first(txids).into_iter().map(U256Owned::from).collect();
    Ok(SetCustomMiningJobOwned {
        channel_id: channel.id,
        request_id: 0,
        token: token.try_into().map_err(unfit)?,
        version: template.version,
        prev_hash: prev_hash.to_byte_array().into(),
        min_ntime,
        nbits: bits.to_consensus(),
        coinbase_tx_version: parts.tx_version().cast_unsigned(),
        coinbase_prefix: parts.script_sig_prefix().try_into().map_err(unfit)?,
        coinbase_tx_input_n_sequence: parts.sequence().0,
        coinbase_tx_outputs: serialize(&template.coinbase.output).try_into().map_err(unfit)?,
        coinbase_tx_locktime: parts.lock_time().to_consensus_u32(),
        merkle_path: Seq0255Owned::new(path).map_err(unfit)?,
    })
}

fn parts_of(template: &MinerTemplate) -> Result<CoinbaseParts, ClientError> {
    let (prefix, suffix) = template.halves();
    CoinbaseParts::parse(&prefix, &suffix)
        .map_err(|rejection| ClientError::Template(rejection.details()))
}

/// Work, which the channels keep: nothing that anybody waits for.
pub(super) fn is_work(message: &MiningServerMessage) -> bool {
    matches!(
        message,
        MiningServerMessage::NewMiningJob(_)
            | MiningServerMessage::NewExtendedMiningJob(_)
            | MiningServerMessage::SetNewPrevHash(_)
            | MiningServerMessage::SetTarget(_)
            | MiningServerMessage::SetExtranoncePrefix(_)
            | MiningServerMessage::SetGroupChannel(_)
    )
}

/// Takes note of what a message says of channels.
pub(super) fn follow(channels: &mut HashMap<u32, Channel>, message: &MiningServerMessage) {
    match message {
        MiningServerMessage::OpenExtendedMiningChannelSuccess(open) => {
            let channel = Channel {
                id: open.channel_id,
                group: open.group_channel_id,
                extranonce_prefix: open.extranonce_prefix.to_owned_bytes(),
                rolled_bytes: open.extranonce_size.into(),
                standard: false,
                target: open.target.to_array(),
                future: HashMap::new(),
                prev: None,
                active: None,
            };
            channels.insert(channel.id, channel);
        }
        MiningServerMessage::OpenStandardMiningChannelSuccess(open) => {
            let channel = Channel {
                id: open.channel_id,
                group: open.group_channel_id,
                extranonce_prefix: open.extranonce_prefix.to_owned_bytes(),
                rolled_bytes: 0,
                standard: true,
                target: open.target.to_array(),
                future: HashMap::new(),
                prev: None,
                active: None,
            };
            channels.insert(channel.id, channel);
        }
        MiningServerMessage::NewMiningJob(job) => of(channels, job.channel_id, |channel| {
            let root = Root::Fixed(job.merkle_root.to_array());
            let taken = Job { id: job.job_id, version: job.version, root };
            channel.take(taken, job.min_ntime.clone().into_inner());
        }),
        MiningServerMessage::NewExtendedMiningJob(job) => of(channels, job.channel_id, |channel| {
            let taken = channel.extended_job(job);
            channel.take(taken, job.min_ntime.clone().into_inner());
        }),
        MiningServerMessage::SetNewPrevHash(prev) => {
            of(channels, prev.channel_id, |channel| channel.on_prev_hash(prev));
        }
        MiningServerMessage::SetTarget(set) => of(channels, set.channel_id, |channel| {
            channel.target = set.maximum_target.to_array();
        }),
        MiningServerMessage::SetExtranoncePrefix(set) => of(channels, set.channel_id, |channel| {
            channel.extranonce_prefix = set.extranonce_prefix.to_owned_bytes();
        }),
        MiningServerMessage::SetGroupChannel(set) => {
            for id in set.channel_ids.iter() {
                if let Some(channel) = channels.get_mut(id) {
                    channel.group = set.group_channel_id;
                }
            }
        }
        MiningServerMessage::CloseChannel(close) => drop(channels.remove(&close.channel_id)),
        _ => {}
    }
}

/// The channel of this number, or all of the group of this number.
fn of(channels: &mut HashMap<u32, Channel>, id: u32, mut tell: impl FnMut(&mut Channel)) {
    match channels.get_mut(&id) {
        Some(channel) => tell(channel),
        None => channels.values_mut().filter(|channel| channel.group == id).for_each(tell),
    }
}
