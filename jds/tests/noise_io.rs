//! Frames over a stream that stutters: what a cancelled read or write leaves behind, how a connection
//! ends, and what a handshake does with a peer that gives up.
#![expect(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use jds::noise_io::{FrameReader, FrameWriter, IoError, accept_handshake, connect_handshake};
use jds_wire::{Admit, AuthorityKeys, EncodedMessage, Event, Frame, FrameHeader};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

/// Some time in 2026.
const NOW_UNIX: u64 = 1_780_000_000;
const VALIDITY: Duration = Duration::from_secs(3_600);
/// Small enough that a frame of any size needs many turns.
const PIPE_BYTES: usize = 700;

type End = (FrameReader<ReadHalf<DuplexStream>>, FrameWriter<WriteHalf<DuplexStream>>);

/// Both ends of an encrypted pipe.
async fn pair() -> (End, End) {
    let (mut near, mut far) = duplex(PIPE_BYTES);
    let authority = AuthorityKeys::generate(&mut rand::thread_rng());
    let (client, server) = tokio::join!(
        connect_handshake(&mut near, Some(authority.public()), || NOW_UNIX),
        accept_handshake(&mut far, &authority, VALIDITY, || NOW_UNIX),
    );
    let end = |stream, transport: jds_wire::Transport| {
        let (read, write) = split(stream);
        let writer = FrameWriter::new(write, transport.encoder);
        (FrameReader::new(read, transport.decoder), writer)
    };
    (end(near, client.expect("the client's end")), end(far, server.expect("the server's end")))
}

fn message(msg_type: u8, payload: Vec<u8>) -> EncodedMessage {
    EncodedMessage { extension_type: 0, channel_msg: false, msg_type, payload }
}

fn frame_of(message: &EncodedMessage) -> Event {
    let header = FrameHeader {
        extension_type: message.extension_type,
        channel_msg: false,
        msg_type: message.msg_type,
        payload_bytes: message.payload.len(),
    };
    Event::Frame(Frame { header, payload: message.payload.clone() })
}

fn large(msg_type: u8) -> EncodedMessage {
    message(msg_type, (0..150_000_u32).map(|index| (index % 251) as u8).collect())
}

#[tokio::test]
async fn a_read_may_be_cancelled_at_any_point() {
    let ((_near_reader, mut writer), (mut reader, _far_writer)) = pair().await;
    let sent = [large(0x57), message(0x50, vec![1, 2, 3])];
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        for message in &copy {
            writer.send(message).await.expect("the reader reads");
        }
        writer
    });
    for expected in &sent {
        let (mut cancelled, mut asked) = (0, 0);
        let event = loop {
            tokio::select! {
                biased;
                event = reader.next(|_| { asked += 1; Admit::Buffer }) => break event,
                () = tokio::task::yield_now() => cancelled += 1,
            }
        };
        assert!(event.expect("a frame") == frame_of(expected), "the frame differs from that sent");
        assert_eq!(asked, 1, "admission is asked for once a frame");
        if expected.payload.len() > PIPE_BYTES {
            assert!(cancelled > 50, "cancelled {cancelled} times only: this tests nothing");
        }
    }
    sending.await.expect("the sender is done");
}

#[tokio::test]
async fn a_cancelled_write_is_finished_by_the_next() {
    let ((_near_reader, mut writer), (mut reader, _far_writer)) = pair().await;
    let sent = [large(0x57), message(0x50, vec![1, 2, 3])];
    tokio::select! {
        biased;
        result = writer.send(&sent[0]) => panic!("the pipe is too small for that: {result:?}"),
        () = std::future::ready(()) => (),
    }
    assert!(writer.pending_bytes() > 100_000);
    let second = sent[1].clone();
    let sending = tokio::spawn(async move {
        writer.send(&second).await.expect("the reader reads");
        assert_eq!(writer.pending_bytes(), 0);
        writer
    });
    for expected in &sent {
        let event = reader.next(|_| Admit::Buffer).await.expect("a frame");
        assert!(event == frame_of(expected), "the frame differs from that sent");
    }
    sending.await.expect("the sender is done");
}

#[tokio::test]
async fn a_header_is_shown_before_its_payload_is_taken_in() {
    let ((_near_reader, mut writer), (mut reader, _far_writer)) = pair().await;
    let sent = large(0x57);
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        writer.send(&copy).await.expect("the reader reads");
        writer.send(&copy).await.expect("the reader reads");
        writer
    });
    assert!(reader.is_idle());
    for _ in 0..2 {
        let header = reader.header().await.expect("a header");
        assert_eq!(header.payload_bytes, sent.payload.len());
        assert!(!reader.is_idle());
        assert!(reader.held_bytes() < 4_096, "{} bytes held of a header", reader.held_bytes());
    }
    let event = reader.body(Admit::DiscardKeeping(4)).await.expect("its end");
    assert!(
        matches!(&event, Event::Oversized { head, .. } if head == &sent.payload[..4]),
        "{event:?}"
    );
    assert!(reader.is_idle());
    reader.header().await.expect("a header");
    assert!(reader.body(Admit::Buffer).await.expect("a frame") == frame_of(&sent));
    sending.await.expect("the sender is done");
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_from_a_cut_frame() {
    let ((_near_reader, mut writer), (mut reader, _far_writer)) = pair().await;
    writer.shutdown().await.expect("closed");
    let error = reader.next(|_| Admit::Buffer).await.expect_err("nothing was sent");
    assert!(matches!(error, IoError::Closed), "{error:?}");

    let ((_near_reader, mut writer), (mut reader, _far_writer)) = pair().await;
    writer.queue_unencrypted(&[1; 21]);
    writer.flush().await.expect("it fits the pipe");
    writer.shutdown().await.expect("closed");
    let error = reader.next(|_| Admit::Buffer).await.expect_err("a header has 22 bytes");
    assert!(matches!(error, IoError::ClosedEarly), "{error:?}");
}

#[tokio::test]
async fn a_handshake_that_is_given_up_ends() {
    let authority = AuthorityKeys::generate(&mut rand::thread_rng());
    for (bytes, early) in [(0, false), (63, true)] {
        let (mut near, mut far) = duplex(PIPE_BYTES);
        near.write_all(&vec![5; bytes]).await.expect("it fits the pipe");
        drop(near);
        let error = accept_handshake(&mut far, &authority, VALIDITY, || NOW_UNIX)
            .await
            .expect_err("no whole message came");
        assert_eq!(matches!(error, IoError::ClosedEarly), early, "{bytes}: {error:?}");
        assert_eq!(matches!(error, IoError::Closed), !early, "{bytes}: {error:?}");
    }
}
