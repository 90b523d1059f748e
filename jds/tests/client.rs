//! The client against a server that says exactly what the test wants it to.
#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expected")]

use std::{net::SocketAddr, time::Duration};

use jds::{
    client::{ClientError, Declaration, DeclareOutcome, JdClient, SetupOptions},
    noise_io::{FrameReader, FrameWriter, IoError, accept_handshake},
};
use jds_wire::{
    Admit, AuthorityKeys, ClientMessage, Event, Frame, HandshakeError, Secp256k1PublicKey,
    ServerMessage,
    message::{
        AllocateMiningJobTokenSuccess, DeclareMiningJobError, DeclareMiningJobSuccess,
        ProvideMissingTransactions, SetupConnectionError, SetupConnectionSuccess,
        constants::{
            ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP,
            ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL,
        },
    },
};
use tokio::{
    net::{
        TcpListener,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

const VALIDITY: Duration = Duration::from_secs(3_600);

struct Server {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
}

impl Server {
    async fn frame(&mut self) -> Frame {
        match self.reader.next(|_| Admit::Buffer).await.expect("a frame of the client") {
            Event::Frame(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, message: ServerMessage) {
        let encoded = message.encode().expect("it fits");
        self.writer.send(&encoded).await.expect("the client reads");
    }

    async fn accept_setup(&mut self) {
        let frame = self.frame().await;
        let message = ClientMessage::from_frame(&frame).expect("a message");
        let ClientMessage::SetupConnection(setup) = message else { panic!("{message:?}") };
        assert_eq!((setup.protocol, setup.min_version, setup.max_version), (1, 2, 2));
        assert!(setup.declares_tx_data());
        let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
        self.say(ServerMessage::SetupConnectionSuccess(success)).await;
    }
}

/// A server for one connection, which follows `script` after the handshake.
async fn serve<F: Future<Output = ()> + Send>(
    script: impl FnOnce(Server) -> F + Send + 'static,
) -> (SocketAddr, Secp256k1PublicKey, JoinHandle<()>) {
    let authority = AuthorityKeys::generate(&mut rand::thread_rng());
    let public = authority.public();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let transport =
            accept_handshake(&mut stream, &authority, VALIDITY, || now).await.expect("a handshake");
        let (read, write) = stream.into_split();
        script(Server {
            reader: FrameReader::new(read, transport.decoder),
            writer: FrameWriter::new(write, transport.encoder),
        })
        .await;
    });
    (address, public, task)
}

fn options() -> SetupOptions {
    SetupOptions { timeout: Duration::from_secs(20), ..SetupOptions::default() }
}

fn success(request_id: u32, token: &[u8]) -> ServerMessage {
    let new_mining_job_token = token.to_vec();
    ServerMessage::DeclareMiningJobSuccess(DeclareMiningJobSuccess {
        request_id,
        new_mining_job_token,
    })
}

#[tokio::test]
async fn token_then_declaration_with_missing_transactions() {
    let (address, public, server) = serve(|mut server| async move {
        server.accept_setup().await;
        let frame = server.frame().await;
        let message = ClientMessage::from_frame(&frame).expect("a message");
        let ClientMessage::AllocateMiningJobToken(request) = message else { panic!("{message:?}") };
        assert_eq!(request.user_identifier, b"alice.rig1");
        // One output of no value with an empty script.
        let coinbase_outputs = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        server
            .say(ServerMessage::AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess {
                request_id: request.request_id,
                mining_job_token: b"token".to_vec(),
                coinbase_outputs,
            }))
            .await;

        let frame = server.frame().await;
        let message = ClientMessage::from_frame(&frame).expect("a message");
        let ClientMessage::DeclareMiningJob(job) = message else { panic!("{message:?}") };
        assert_eq!((job.mining_job_token, job.version), (&b"token"[..], 0x2000_0000));
        assert_eq!((job.coinbase_tx_prefix, job.coinbase_tx_suffix), (&b"pre"[..], &b"suf"[..]));
        assert_eq!(job.wtxids, [[1; 32], [2; 32], [3; 32]]);
        let request_id = job.request_id;
        // An answer to somebody else's request comes between.
        server.say(success(999, b"foreign")).await;
        server
            .say(ServerMessage::ProvideMissingTransactions(ProvideMissingTransactions {
                request_id,
                unknown_tx_positions: vec![2, 0],
            }))
            .await;
        let frame = server.frame().await;
        let message = ClientMessage::from_frame(&frame).expect("a message");
        let ClientMessage::ProvideMissingTransactionsSuccess(supplied) = message else {
            panic!("{message:?}")
        };
        assert_eq!(supplied.request_id, request_id);
        assert_eq!(supplied.transactions, [&[2_u8; 70_000][..], &[0; 70_000]]);
        server.say(success(request_id, b"receipt")).await;
    })
    .await;
    let mut client = JdClient::connect(address, Some(public), &options()).await.expect("set up");
    let token = client.allocate_token("alice.rig1").await.expect("a token");
    assert_eq!(token.bytes, b"token");
    let outputs = token.outputs().expect("outputs");
    assert_eq!((outputs.len(), outputs[0].value.to_sat()), (1, 0));
    let wtxids = [[1; 32], [2; 32], [3; 32]];
    let declaration = Declaration {
        token: &token.bytes,
        version: 0x2000_0000,
        prefix: b"pre",
        suffix: b"suf",
        wtxids: &wtxids,
    };
    let outcome = client.declare(declaration, |position| vec![position as u8; 70_000]).await;
    let DeclareOutcome::Accepted { new_token, missing, elapsed } = outcome.expect("an answer")
    else {
        panic!("rejected")
    };
    assert_eq!((new_token.as_slice(), missing), (&b"receipt"[..], 2));
    assert!(elapsed > Duration::ZERO);
    assert_eq!(client.recv().await.expect("what was put by"), success(999, b"foreign"));
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn a_rejection_is_an_outcome() {
    let (address, public, server) = serve(|mut server| async move {
        server.accept_setup().await;
        let frame = server.frame().await;
        let message = ClientMessage::from_frame(&frame).expect("a message");
        let ClientMessage::DeclareMiningJob(job) = message else { panic!("{message:?}") };
        server
            .say(ServerMessage::DeclareMiningJobError(DeclareMiningJobError {
                request_id: job.request_id,
                error_code: ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP.into(),
                error_details: "expected=5 actual=4".to_owned(),
            }))
            .await;
    })
    .await;
    let mut client = JdClient::connect(address, Some(public), &options()).await.expect("set up");
    let declaration =
        Declaration { token: b"t", version: 4, prefix: b"", suffix: b"", wtxids: &[] };
    let outcome = client.declare(declaration, |_| panic!("nothing was asked for")).await;
    let DeclareOutcome::Rejected { code, details, missing, .. } = outcome.expect("an answer")
    else {
        panic!("accepted")
    };
    assert_eq!(code, ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP);
    assert_eq!((details.as_str(), missing), ("expected=5 actual=4", 0));
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn a_refused_set_up_says_why() {
    let (address, public, server) = serve(|mut server| async move {
        server.frame().await;
        server
            .say(ServerMessage::SetupConnectionError(SetupConnectionError {
                flags: 0,
                error_code: ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL.into(),
            }))
            .await;
    })
    .await;
    let error = JdClient::connect(address, Some(public), &options()).await.expect_err("refused");
    let ClientError::SetupRefused { error_code, .. } = error else { panic!("{error:?}") };
    assert_eq!(error_code, ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL);
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn a_server_with_another_key_is_not_believed() {
    let (address, _, server) = serve(|_| async {}).await;
    let other = AuthorityKeys::generate(&mut rand::thread_rng()).public();
    let error = JdClient::connect(address, Some(other), &options()).await.expect_err("not it");
    let ClientError::Io(IoError::Handshake(HandshakeError::Certificate { .. })) = error else {
        panic!("{error:?}")
    };
    server.await.expect("the server's side of a handshake");
}

#[tokio::test]
async fn silence_and_the_end_are_told_apart() {
    let (address, public, server) = serve(|mut server| async move {
        server.accept_setup().await;
        // Says nothing until the client says something, then a last word.
        server.frame().await;
        server.say(success(7, b"last")).await;
    })
    .await;
    let mut client = JdClient::connect(address, Some(public), &options()).await.expect("set up");
    let limit = Duration::from_millis(20);
    let error = client.recv_within(limit).await.expect_err("nothing is said");
    assert_eq!(error.to_string(), "no message within 20 ms");
    client.send_raw_frame(0, 0xee, b"anything").await.expect("sent");
    let last = client.wait_closed(Duration::from_secs(20)).await.expect("the end");
    assert_eq!(last, [success(7, b"last")]);
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn bytes_without_encryption_end_a_server() {
    let (address, public, server) = serve(|mut server| async move {
        server.accept_setup().await;
        let error = server.reader.next(|_| Admit::Buffer).await.expect_err("not a frame");
        assert!(matches!(error, IoError::Frame(_)), "{error:?}");
    })
    .await;
    let mut client = JdClient::connect(address, Some(public), &options()).await.expect("set up");
    client.send_unencrypted(&[0; 22]).await.expect("sent");
    client.wait_closed(Duration::from_secs(20)).await.expect("the end");
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn no_server_is_named_in_the_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let error = JdClient::connect(address, None, &options()).await.expect_err("nobody listens");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
