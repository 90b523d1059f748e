//! The provider's end of a connection, which says what it is told to say.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use jds_wire::message::template::{
    CoinbaseOutputConstraints, NewTemplate, SetNewPrevHash, TemplateClientMessage,
    TemplateServerMessage as Say,
};
use jds_wire::message::{SetupConnectionSuccess, constants as c};
use jds_wire::{Admit, AuthorityKeys, Event, Frame};
use tdp_client::noise_io::{FrameReader, FrameWriter, accept_handshake};
use tdp_client::{NodeState, Provider, ProviderSettings, TxLookup};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const HEIGHT: u32 = 300;
pub(crate) const EASY: u32 = 0x207f_ffff;

/// One connection, the provider's end.
pub(crate) struct End {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
}

impl End {
    pub(crate) async fn say(&mut self, message: Say<'_>) {
        // The other side may have had enough.
        let _ = self.writer.send(&message.encode().unwrap()).await;
    }

    pub(crate) async fn raw(&mut self, extension_type: u16, msg_type: u8, payload: &[u8]) {
        self.writer.queue_raw(extension_type, false, msg_type, payload).unwrap();
        let _ = self.writer.flush().await;
    }

    pub(crate) async fn heard(&mut self) -> Option<Frame> {
        loop {
            match self.reader.next(|_| Admit::Buffer).await.ok()? {
                Event::Frame(frame) => return Some(frame),
                _ => continue,
            }
        }
    }

    /// Until the client is gone.
    pub(crate) async fn ended(&mut self) {
        while self.heard().await.is_some() {}
    }

    /// Set-up and constraints, which are given back.
    pub(crate) async fn begin(&mut self) -> CoinbaseOutputConstraints {
        let frame = self.heard().await.unwrap();
        let TemplateClientMessage::SetupConnection(setup) =
            TemplateClientMessage::from_frame(&frame).unwrap()
        else {
            panic!("{frame:?}");
        };
        assert_eq!(setup.protocol, c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT);
        self.say(Say::SetupConnectionSuccess(SetupConnectionSuccess { used_version: 2, flags: 0 }))
            .await;
        let frame = self.heard().await.unwrap();
        match TemplateClientMessage::from_frame(&frame).unwrap() {
            TemplateClientMessage::CoinbaseOutputConstraints(constraints) => constraints,
            other => panic!("{other:?}"),
        }
    }

    /// An empty template for now.
    pub(crate) async fn give(&mut self, id: u64, height: u32) {
        self.say(Say::NewTemplate(template(id, true, &prefix(height), &[]))).await;
        self.say(Say::SetNewPrevHash(prev_hash(id))).await;
    }
}

/// A provider's port; connections are taken by the test.
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) keys: AuthorityKeys,
}

impl Port {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, keys: AuthorityKeys::generate(&mut rand::thread_rng()) }
    }

    pub(crate) fn followed(&self) -> Provider {
        self.followed_with(Arc::new(|_| None))
    }

    pub(crate) fn followed_with(&self, lookup: TxLookup) -> Provider {
        let settings = ProviderSettings {
            name: "tp".to_owned(),
            address: self.listener.local_addr().unwrap().to_string(),
            public_key: Some(self.keys.public()),
            network: Network::Regtest,
        };
        Provider::spawn(settings, lookup).unwrap()
    }

    pub(crate) async fn next(&self) -> End {
        let come = timeout(PATIENCE, self.listener.accept()).await;
        let (mut stream, _) = come.unwrap_or_else(|_| panic!("waited for a connection")).unwrap();
        let validity = Duration::from_secs(3_600);
        let transport =
            accept_handshake(&mut stream, &self.keys, validity, now_unix_s).await.unwrap();
        let (read, write) = stream.into_split();
        End {
            reader: FrameReader::new(read, transport.decoder),
            writer: FrameWriter::new(write, transport.encoder),
        }
    }
}

pub(crate) fn now_unix_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

pub(crate) fn prefix(height: u32) -> Vec<u8> {
    Builder::new().push_int(height.into()).into_bytes()
}

pub(crate) fn template<'a>(
    template_id: u64,
    future_template: bool,
    coinbase_prefix: &'a [u8],
    merkle_path: &'a [[u8; 32]],
) -> NewTemplate<'a> {
    NewTemplate {
        template_id,
        future_template,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix,
        coinbase_tx_input_sequence: u32::MAX,
        coinbase_tx_value_remaining_sat: 50_000,
        coinbase_tx_outputs_count: 0,
        coinbase_tx_outputs: &[],
        coinbase_tx_locktime: 0,
        merkle_path,
    }
}

pub(crate) fn prev_hash(template_id: u64) -> SetNewPrevHash {
    SetNewPrevHash {
        template_id,
        prev_hash: [7; 32],
        header_timestamp: now_unix_s() as u32,
        n_bits: EASY,
        target: Target::from_compact(CompactTarget::from_consensus(EASY)).to_le_bytes(),
    }
}

pub(crate) fn transaction(number: u8) -> Transaction {
    let previous_output = OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 };
    let (script_sig, sequence) = (ScriptBuf::new(), Sequence::MAX);
    let witness = Witness::new();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence, witness }],
        output: vec![TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    }
}

pub(crate) async fn ready(provider: &Provider) {
    let mut state = provider.followed().state();
    let reached = timeout(PATIENCE, state.wait_for(NodeState::is_ready)).await.is_ok();
    assert!(reached, "waited for the provider to be ready: {:?}", state.borrow());
}

pub(crate) async fn failed(provider: &Provider, part: &str) {
    let mut state = provider.followed().state();
    let is_it = |state: &NodeState| matches!(state, NodeState::Connecting { error: Some(error) } if error.contains(part));
    let reached = timeout(PATIENCE, state.wait_for(is_it)).await.is_ok();
    assert!(reached, "waited for {part:?}: {:?}", state.borrow());
}
