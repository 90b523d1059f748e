//! A client of template distribution (SV2 7), for tests and load.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::{deserialize_partial, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};
use jds_wire::message::template::{
    CoinbaseOutputConstraints, NewTemplate, RequestTransactionData, SetNewPrevHash, SubmitSolution,
    TemplateClientMessage, TemplateServerMessage,
};
use jds_wire::message::{SetupConnection, constants as c};
use jds_wire::{Frame, Secp256k1PublicKey};
use tdp_client::Link;
use tokio::net::ToSocketAddrs;

use super::{ClientError, INBOX_MESSAGES_MAX, SetupOptions};

/// One connection to a template distribution server.
#[derive(Debug)]
pub struct TemplateClient {
    link: Link,
    inbox: VecDeque<Pushed>,
}

/// What the server sends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// NewTemplate.
    Template(OwnedTemplate),
    /// SetNewPrevHash.
    PrevHash(SetNewPrevHash),
}

/// `NewTemplate` (SV2 7.2), off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedTemplate {
    /// Its name.
    pub id: u64,
    /// It waits for a SetNewPrevHash.
    pub future: bool,
    /// nVersion of the header.
    pub version: u32,
    /// nVersion of the coinbase.
    pub coinbase_version: u32,
    /// Beginning of the coinbase's script.
    pub coinbase_prefix: Vec<u8>,
    /// nSequence of the coinbase's input.
    pub coinbase_sequence: u32,
    /// Subsidy and fees, satoshi.
    pub value_sat: u64,
    /// The coinbase's last outputs.
    pub outputs: Vec<TxOut>,
    /// nLockTime of the coinbase.
    pub coinbase_locktime: u32,
    /// Beside the coinbase's path in the merkle tree.
    pub merkle_path: Vec<[u8; 32]>,
}

/// A template, solved.
#[derive(Debug, Clone)]
pub struct SolvedTemplate {
    /// Of the template.
    pub template_id: u64,
    /// With the nonce that solves it.
    pub header: Header,
    /// With a witness.
    pub coinbase: Transaction,
}

impl SolvedTemplate {
    /// Hash of the block.
    pub fn hash(&self) -> BlockHash {
        self.header.block_hash()
    }
}

impl OwnedTemplate {
    /// The coinbase that pays everything to one script, `extra` behind the height.
    pub fn coinbase(&self, script: ScriptBuf, extra: &[u8]) -> Transaction {
        let script_sig = [&self.coinbase_prefix[..], extra].concat();
        let mut output =
            vec![TxOut { value: Amount::from_sat(self.value_sat), script_pubkey: script }];
        output.extend(self.outputs.iter().cloned());
        Transaction {
            version: transaction::Version(self.coinbase_version as i32),
            lock_time: LockTime::from_consensus(self.coinbase_locktime),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script_sig),
                sequence: Sequence(self.coinbase_sequence),
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output,
        }
    }

    /// Grinds the template with that coinbase. None when no nonce is good.
    pub fn solve(&self, on: &SetNewPrevHash, coinbase: Transaction) -> Option<SolvedTemplate> {
        let first = coinbase.compute_txid().to_byte_array();
        let root = self.merkle_path.iter().fold(first, |left, right| {
            sha256d::Hash::hash([left, *right].as_flattened()).to_byte_array()
        });
        let bits = CompactTarget::from_consensus(on.n_bits);
        let mut header = Header {
            version: Version::from_consensus(self.version as i32),
            prev_blockhash: BlockHash::from_byte_array(on.prev_hash),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: on.header_timestamp,
            bits,
            nonce: 0,
        };
        let target = Target::from_compact(bits);
        header.nonce = signet::grind(&header, target, signet::default_threads())?;
        Some(SolvedTemplate { template_id: self.id, header, coinbase })
    }
}

impl TemplateClient {
    /// Connects, encrypts and sets up for template distribution, whatever `options` say of the
    /// protocol.
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn connect(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        options: &SetupOptions,
    ) -> Result<Self, ClientError> {
        let mut client = Self::connect_only(address, authority, options.timeout).await?;
        client.set_up(options, c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT).await?;
        Ok(client)
    }

    /// Connects and encrypts, and says nothing yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_only(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let link = Link::connect(address, authority, timeout).await?;
        Ok(Self { link, inbox: VecDeque::new() })
    }

    /// Sends SetupConnection for a protocol of this number and waits for the answer (SV2 3.6).
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn set_up(
        &mut self,
        options: &SetupOptions,
        protocol: u8,
    ) -> Result<(), ClientError> {
        let setup = SetupConnection {
            protocol,
            min_version: options.min_version,
            max_version: options.max_version,
            flags: options.other_flags,
            endpoint_host: b"",
            endpoint_port: 0,
            vendor: options.vendor.as_bytes(),
            hardware_version: b"",
            firmware: env!("CARGO_PKG_VERSION").as_bytes(),
            device_id: options.device_id.as_bytes(),
        };
        Ok(self.link.set_up(setup).await?)
    }

    /// Says what will be added to the coinbase (SV2 7.1).
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn constrain(&mut self, size: u32, sigops: u16) -> Result<(), ClientError> {
        let constraints =
            CoinbaseOutputConstraints { max_additional_size: size, max_additional_sigops: sigops };
        self.send(&TemplateClientMessage::CoinbaseOutputConstraints(constraints)).await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ClientError`]; `Timeout` when the server does not read.
    pub async fn send(&mut self, message: &TemplateClientMessage<'_>) -> Result<(), ClientError> {
        Ok(self.link.send(message).await?)
    }

    /// Sends a frame of any content, encrypted as it should be.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_raw_frame(
        &mut self,
        extension_type: u16,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        Ok(self.link.send_raw_frame(extension_type, msg_type, payload).await?)
    }

    /// The next that the server sends by itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pushed(&mut self) -> Result<Pushed, ClientError> {
        if let Some(pushed) = self.inbox.pop_front() {
            return Ok(pushed);
        }
        let frame = self.read("a template").await?;
        pushed(&frame)?.ok_or_else(|| unexpected("a template", &frame))
    }

    /// The transactions of a template, or the error code (SV2 7.4). What the server sends by itself
    /// meanwhile is put by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transactions(
        &mut self,
        template_id: u64,
    ) -> Result<Result<Vec<Vec<u8>>, String>, ClientError> {
        let request = RequestTransactionData { template_id };
        self.send(&TemplateClientMessage::RequestTransactionData(request)).await?;
        loop {
            let frame = self.read("RequestTransactionData.Success").await?;
            match TemplateServerMessage::from_frame(&frame)? {
                TemplateServerMessage::RequestTransactionDataSuccess(data)
                    if data.template_id == template_id =>
                {
                    return Ok(Ok(data.transactions.iter().map(|tx| tx.to_vec()).collect()));
                }
                TemplateServerMessage::RequestTransactionDataError(error)
                    if error.template_id == template_id =>
                {
                    return Ok(Err(error.error_code.into_owned()));
                }
                _ => {}
            }
            if self.inbox.len() >= INBOX_MESSAGES_MAX {
                return Err(ClientError::InboxFull);
            }
            self.inbox.extend(pushed(&frame)?);
        }
    }

    /// Hands in a found block (SV2 7.7). The protocol has no answer to it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn submit(&mut self, solved: &SolvedTemplate) -> Result<(), ClientError> {
        self.submit_with(solved, &serialize(&solved.coinbase)).await
    }

    /// As [`Self::submit`], with other bytes for the coinbase.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn submit_with(
        &mut self,
        solved: &SolvedTemplate,
        coinbase_tx: &[u8],
    ) -> Result<(), ClientError> {
        self.send(&TemplateClientMessage::SubmitSolution(SubmitSolution {
            template_id: solved.template_id,
            version: solved.header.version.to_consensus() as u32,
            header_timestamp: solved.header.time,
            header_nonce: solved.header.nonce,
            coinbase_tx,
        }))
        .await
    }

    /// Reads until the server ends the connection.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when it does not, and any failure that is not the end.
    pub async fn wait_closed(&mut self) -> Result<(), ClientError> {
        loop {
            match self.read("the end of the connection").await {
                Ok(_) => {}
                Err(error) if error.is_disconnect() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&mut self, waiting_for: &'static str) -> Result<Frame, ClientError> {
        Ok(self.link.read(waiting_for).await?)
    }
}

fn unexpected(waiting_for: &'static str, frame: &Frame) -> ClientError {
    ClientError::UnexpectedType { waiting_for, msg_type: frame.header.msg_type }
}

/// What a frame pushes, if it does.
fn pushed(frame: &Frame) -> Result<Option<Pushed>, ClientError> {
    Ok(match TemplateServerMessage::from_frame(frame)? {
        TemplateServerMessage::NewTemplate(template) => {
            Some(Pushed::Template(parse_template(&template)))
        }
        TemplateServerMessage::SetNewPrevHash(prev_hash) => Some(Pushed::PrevHash(prev_hash)),
        _ => None,
    })
}

/// Takes a template off the wire.
pub(crate) fn parse_template(template: &NewTemplate<'_>) -> OwnedTemplate {
    let mut outputs = Vec::new();
    let mut rest = template.coinbase_tx_outputs;
    while let Ok((output, bytes)) = deserialize_partial(rest) {
        outputs.push(output);
        rest = rest.get(bytes..).unwrap_or_default();
    }
    OwnedTemplate {
        id: template.template_id,
        future: template.future_template,
        version: template.version,
        coinbase_version: template.coinbase_tx_version,
        coinbase_prefix: template.coinbase_prefix.to_vec(),
        coinbase_sequence: template.coinbase_tx_input_sequence,
        value_sat: template.coinbase_tx_value_remaining_sat,
        outputs,
        coinbase_locktime: template.coinbase_tx_locktime,
        merkle_path: template.merkle_path.to_vec(),
    }
}
