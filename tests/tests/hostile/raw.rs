//! A peer below the level of messages: it seals frames itself and writes any part of them.

use std::time::{Duration, Instant};

use jds::client::SetupOptions;
use jds::noise_io::connect_handshake;
use jds_tests::{PATIENCE, World};
use jds_wire::message::{AllocateMiningJobToken, SetupConnection};
use jds_wire::{ClientMessage, FrameEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a sealed frame header.
pub(crate) const SEALED_HEADER_BYTES: usize = 22;

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    encoder: FrameEncoder,
}

impl Raw {
    /// Connected and encrypted.
    pub(crate) async fn connect(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let handshake = connect_handshake(&mut stream, Some(world.authority), || now);
        let transport = tokio::time::timeout(PATIENCE, handshake).await.unwrap().unwrap();
        Self { stream, encoder: transport.encoder }
    }

    /// And set up; the answer is left unread.
    pub(crate) async fn set_up(world: &World) -> Self {
        let mut raw = Self::connect(world).await;
        let frame = raw.setup_frame();
        raw.write(&frame).await;
        raw
    }

    pub(crate) fn setup_frame(&mut self) -> Vec<u8> {
        let options = SetupOptions::default();
        self.seal(&ClientMessage::SetupConnection(SetupConnection {
            protocol: options.protocol,
            min_version: options.min_version,
            max_version: options.max_version,
            flags: jds_wire::message::FLAG_DECLARE_TX_DATA,
            endpoint_host: b"",
            endpoint_port: 0,
            vendor: b"",
            hardware_version: b"",
            firmware: b"",
            device_id: b"",
        }))
    }

    pub(crate) fn token_frame(&mut self) -> Vec<u8> {
        let request = AllocateMiningJobToken { user_identifier: b"mallory", request_id: 1 };
        self.seal(&ClientMessage::AllocateMiningJobToken(request))
    }

    fn seal(&mut self, message: &ClientMessage<'_>) -> Vec<u8> {
        self.encoder.encode(&message.encode().unwrap()).unwrap()
    }

    /// A frame of any type and content.
    pub(crate) fn frame(&mut self, msg_type: u8, payload: &[u8]) -> Vec<u8> {
        self.encoder.encode_parts(0, false, msg_type, payload).unwrap()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // The server may have closed already: what matters is how it ends.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Waits until the server ends the connection, and says how long that took.
    #[track_caller]
    pub(crate) fn closed(self, what: &str) -> impl Future<Output = Duration> {
        closed(self.stream, what.to_owned())
    }
}

/// Waits until the server ends the connection, and says how long that took.
pub(crate) async fn closed(mut stream: TcpStream, what: String) -> Duration {
    let start = Instant::now();
    let mut unread = [0; 4096];
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut unread)).await {
            // An end, or a reset where the server left bytes of ours unread.
            Ok(Ok(0) | Err(_)) => return start.elapsed(),
            Ok(Ok(_)) => {}
            Err(_) => panic!("{what}: the connection is open after {PATIENCE:?}"),
        }
    }
}
