//! A pool's side to be asked, and a miner's side that asks: only what a real client knows from the
//! messages goes into its hashes.
#![allow(dead_code, unreachable_pub, reason = "each test program takes what it needs")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    BlockHash, CompactTarget, Network, ScriptBuf, Target, TxMerkleNode, hashes::sha256d,
};
use channels_sv2::merkle_root::merkle_root_from_path;
use jds_wire::message::mining::{
    ExtendedShare, MiningClientMessage, MiningServerMessage, NewExtendedMiningJobOwned,
    OpenExtendedMiningChannelOwned, OpenStandardMiningChannelOwned, SubmitSharesExtendedOwned,
    SubmitSharesStandardOwned, flags,
};
use jds_wire::message::{self, EncodedMessage, SetupConnection};
use jds_wire::{Frame, FrameHeader};
use mining::sv2::Session;
use mining::work::Source;
use mining::{Action, Deps, Extranonces, Input, Now, PoolWork, Settings};
use template_distribution_sv2::NewTemplateOwned;
use validation::rules::{Payout, Rules};
use validation::tip::{ChainTip, NextBits};
use validation::{CoinbaseParts, FoundBlock};

/// Half of all hashes are blocks.
pub const EASY: u32 = 0x207f_ffff;
/// No hash of a test is a block.
pub const HARD: u32 = 0x1d00_ffff;
/// Unix seconds at which tests begin.
pub const START_S: u32 = 1_790_000_000;

/// Transactions that nobody has to see.
#[derive(Debug, Default)]
pub struct NoTransactions {
    pub withdrawn: std::sync::atomic::AtomicBool,
}

impl Source for NoTransactions {
    fn block(&self, header: &Header, coinbase: &[u8]) -> FoundBlock {
        let raw = [&bitcoin::consensus::serialize(header)[..], &[1], coinbase].concat();
        let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(coinbase).unwrap();
        FoundBlock {
            hash: header.block_hash(),
            header: *header,
            raw,
            tx_count: 1,
            coinbase_txid: tx.compute_txid(),
        }
    }

    fn withdrawn(&self) -> Option<Arc<str>> {
        self.withdrawn.load(std::sync::atomic::Ordering::Relaxed).then(|| "a test said so".into())
    }
}

pub fn block_hash(number: u32) -> BlockHash {
    BlockHash::hash(&number.to_le_bytes())
}

pub fn tip(number: u32, bits: u32) -> ChainTip {
    ChainTip {
        hash: block_hash(number),
        height: 100 + number,
        time: START_S - 300,
        median_time_past: START_S - 3_600,
        next_bits: NextBits::fixed(CompactTarget::from_consensus(bits)),
    }
}

/// Work number `number` on `tip`, with two hashes beside the coinbase.
pub fn work(number: u64, tip: ChainTip) -> Arc<PoolWork> {
    Arc::new(work_of(number, tip))
}

pub fn work_of(number: u64, tip: ChainTip) -> PoolWork {
    let height =
        bitcoin::script::Builder::new().push_int(i64::from(tip.next_height())).into_script();
    let commitment = [&[0; 8][..], &[38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &[7; 32]].concat();
    let beside = [number as u8, 1, 2].map(|byte| [byte; 32].into()).to_vec();
    PoolWork {
        number,
        tip,
        min_ntime: START_S - 60,
        template: NewTemplateOwned {
            template_id: number,
            future_template: true,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: height.to_bytes().try_into().unwrap(),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: 5_000_000_000 + number,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: commitment.try_into().unwrap(),
            coinbase_tx_locktime: tip.height,
            merkle_path: beside.try_into().unwrap(),
        },
        tx_count: 4,
        source: Arc::new(NoTransactions::default()),
    }
}

/// Shares of eleven hashes, all acknowledged at once.
pub fn settings() -> Settings {
    Settings {
        shares_per_minute: 6.0,
        share_batch_size: 1,
        min_hashrate: 1.0,
        pool_tag: "test".into(),
        channels_per_connection_max: 8,
        ..Settings::default()
    }
}

pub fn script(user: &str) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &sha256d::Hash::hash(user.as_bytes())[..]].concat())
}

/// Solo: the user `nobody` is unknown, all others are paid themselves.
pub fn deps(settings: Settings) -> Arc<Deps> {
    let terms = |identity: &str| {
        let user = identity.split('.').next().unwrap_or_default();
        if user == "nobody" {
            return Err("never heard of".to_owned());
        }
        let payout = Payout::Solo { script: script(user), operator: None };
        Ok(Arc::new(Rules { network: Network::Regtest, payout, imposed_outputs: Vec::new() }))
    };
    Arc::new(Deps {
        network: Network::Regtest,
        settings,
        extranonces: Extranonces::new([1, 2, 3, 4]),
        terms: Box::new(terms),
    })
}

/// A session and the miner at its other end.
pub struct Rig {
    pub session: Session,
    pub now: Now,
    /// Actions that are not messages, oldest first.
    pub actions: Vec<Action>,
}

impl Rig {
    pub fn new(deps: Arc<Deps>) -> Self {
        let now = Now { instant: Instant::now(), unix_s: START_S };
        Self { session: Session::new(deps, now), now, actions: Vec::new() }
    }

    /// After SetupConnection with these flags.
    pub fn set_up(settings: Settings, flags: u32) -> Self {
        let mut rig = Self::new(deps(settings));
        let answer = rig.send(&setup(flags));
        assert!(
            matches!(&answer[..], [MiningServerMessage::SetupConnectionSuccess(_)]),
            "{answer:?}"
        );
        rig
    }

    pub fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.unix_s += by.as_secs() as u32;
    }

    pub fn send(&mut self, message: &MiningClientMessage<'_>) -> Vec<MiningServerMessage> {
        let frame = frame(message.encode().unwrap());
        self.input(Input::Frame(&frame))
    }

    /// Gives an input, and takes the messages that follow.
    pub fn input(&mut self, input: Input<'_>) -> Vec<MiningServerMessage> {
        self.session.handle(input, self.now);
        self.drain().into_iter().map(|(message, _)| message).collect()
    }

    /// Messages, and whether they wait for the disk.
    pub fn drain(&mut self) -> Vec<(MiningServerMessage, bool)> {
        let mut messages = Vec::new();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(encoded) => messages.push((decoded(encoded), false)),
                Action::SendWhenDurable(encoded) => messages.push((decoded(encoded), true)),
                other => self.actions.push(other),
            }
        }
        messages
    }

    pub fn close_reason(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::Close(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    pub fn found(&self) -> Vec<&mining::FoundShare> {
        self.actions.iter().filter_map(found_in).collect()
    }

    pub fn shares(&self) -> Vec<&mining::ShareRecord> {
        self.actions.iter().filter_map(share_in).collect()
    }
}

fn found_in(action: &Action) -> Option<&mining::FoundShare> {
    match action {
        Action::Found(found) => Some(found),
        _ => None,
    }
}

fn share_in(action: &Action) -> Option<&mining::ShareRecord> {
    match action {
        Action::Share(share) => Some(share),
        _ => None,
    }
}

fn decoded(encoded: EncodedMessage) -> MiningServerMessage {
    let frame = frame(encoded);
    MiningServerMessage::from_frame(&frame).unwrap()
}

pub fn frame(encoded: EncodedMessage) -> Frame {
    let header = FrameHeader {
        extension_type: encoded.extension_type,
        channel_msg: encoded.channel_msg,
        msg_type: encoded.msg_type,
        payload_bytes: encoded.payload.len(),
    };
    Frame { header, payload: encoded.payload }
}

pub fn setup(flags: u32) -> MiningClientMessage<'static> {
    MiningClientMessage::SetupConnection(SetupConnection {
        protocol: 0,
        min_version: message::PROTOCOL_VERSION,
        max_version: message::PROTOCOL_VERSION,
        flags,
        endpoint_host: b"pool",
        endpoint_port: 3_334,
        vendor: b"test",
        hardware_version: b"",
        firmware: b"",
        device_id: b"",
    })
}

pub fn open_standard(request_id: u32, user: &str) -> MiningClientMessage<'static> {
    MiningClientMessage::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
        request_id,
        user_identity: user.try_into().unwrap(),
        nominal_hash_rate: 1.0,
        max_target: [0xff; 32].into(),
    })
}

pub fn open_extended(request_id: u32, user: &str, min: u16) -> MiningClientMessage<'static> {
    MiningClientMessage::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
        request_id,
        user_identity: user.try_into().unwrap(),
        nominal_hash_rate: 1.0,
        max_target: [0xff; 32].into(),
        min_extranonce_size: min,
    })
}

pub const STANDARD_JOBS: u32 = flags::REQUIRES_STANDARD_JOBS;
pub const WORK_SELECTION: u32 = flags::REQUIRES_WORK_SELECTION;
pub const VERSION_ROLLING: u32 = flags::REQUIRES_VERSION_ROLLING;

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

/// The halves of a coinbase for custom jobs: a height, a tag, room for `extranonce_len` bytes.
pub fn custom_halves(tip: &ChainTip, extranonce_len: usize, reserved: u8) -> (Vec<u8>, Vec<u8>) {
    let height =
        bitcoin::script::Builder::new().push_int(i64::from(tip.next_height())).into_script();
    let script_len = height.len() + 4 + extranonce_len;
    let mut prefix = 2_u32.to_le_bytes().to_vec();
    prefix.extend([0, 1, 1]);
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    prefix.push(script_len as u8);
    prefix.extend(height.as_bytes());
    prefix.extend(b"\x03jdc");
    let mut suffix = vec![0xfe, 0xff, 0xff, 0xff, 1];
    suffix.extend(5_000_000_000_u64.to_le_bytes());
    suffix.push(34);
    suffix.extend(script("miner").as_bytes());
    suffix.extend([1, 32]);
    suffix.extend([reserved; 32]);
    suffix.extend(tip.height.to_le_bytes());
    CoinbaseParts::parse(&prefix, &suffix).expect("a coinbase");
    (prefix, suffix)
}
