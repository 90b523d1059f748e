//! A recorder between a client of Stratum V2 and its server: both speak encrypted, each with it, and
//! what they say is kept as it is inside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jds_wire::message::EncodedMessage;
use jds_wire::{Admit, AuthorityKeys, Event, Frame, FrameHeader, Secp256k1PublicKey};
use tdp_client::noise_io::{
    FrameReader, FrameWriter, IoError, accept_handshake, connect_handshake,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::World;

/// How long the recorder's certificate is good.
const VALIDITY: Duration = Duration::from_secs(3_600);

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// What was said, in the order in which it was passed on.
pub type Said = Vec<(Side, Frame)>;

/// Records one connection.
#[derive(Debug)]
pub struct Recorder {
    /// Where the client is to connect.
    pub address: SocketAddr,
    said: Arc<Mutex<Said>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// In front of the mining port of a world, with the same authority key.
    pub async fn start(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for a recorder");
        let address = listener.local_addr().expect("its number");
        let secret = config::keys::read(&world.authority_file()).expect("the world's key");
        let secret = secret.expose_text().parse().expect("a key");
        let keys = AuthorityKeys::new(secret);
        let (server, key, said) = (world.mining(), world.authority, Arc::default());
        let kept = Arc::clone(&said);
        let task = tokio::spawn(async move {
            // Ends with the connection.
            let _ = record(&listener, &keys, server, key, &kept).await;
        });
        Self { address, said, task }
    }

    /// What was said so far.
    pub fn said(&self) -> Said {
        self.said.lock().expect("no recorder that panicked").clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(
    listener: &TcpListener,
    keys: &AuthorityKeys,
    server: SocketAddr,
    server_key: Secp256k1PublicKey,
    said: &Mutex<Said>,
) -> Result<(), IoError> {
    let (mut client, _) = listener.accept().await.map_err(IoError::Read)?;
    let inner = accept_handshake(&mut client, keys, VALIDITY, unix_s).await?;
    let mut server = TcpStream::connect(server).await.map_err(IoError::Read)?;
    let outer = connect_handshake(&mut server, Some(server_key), unix_s).await?;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let up = pass_on(
        Side::Client,
        FrameReader::new(from_client, inner.decoder),
        FrameWriter::new(to_server, outer.encoder),
        said,
    );
    let down = pass_on(
        Side::Server,
        FrameReader::new(from_server, outer.decoder),
        FrameWriter::new(to_client, inner.encoder),
        said,
    );
    tokio::try_join!(up, down).map(|_| ())
}

async fn pass_on<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    side: Side,
    mut reader: FrameReader<R>,
    mut writer: FrameWriter<W>,
    said: &Mutex<Said>,
) -> Result<(), IoError> {
    loop {
        let Event::Frame(frame) = reader.next(|_| Admit::Buffer).await? else { continue };
        said.lock().expect("no recorder that panicked").push((side, frame.clone()));
        let Frame { header: FrameHeader { extension_type, channel_msg, msg_type, .. }, payload } =
            frame;
        writer.send(&EncodedMessage { extension_type, channel_msg, msg_type, payload }).await?;
    }
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}
