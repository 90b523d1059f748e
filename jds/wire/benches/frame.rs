//! The cost of taking frames in: decrypted and put together, and the message read from it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends where an unwrap fails")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jds_wire::message::DeclareMiningJob;
use jds_wire::{Admit, ClientMessage, Event, Frame, FrameDecoder};

/// Transactions of the declaration.
const TRANSACTIONS: usize = 4_000;
/// Payload of a share on a standard channel (SV2 5.3.11), and its message type.
const SHARE_BYTES: usize = 24;
const SHARE: u8 = 0x1a;

/// One frame, with whatever part of the bytes is its.
fn decode(decoder: &mut FrameDecoder, mut bytes: &[u8]) -> Frame {
    loop {
        match decoder.poll().unwrap() {
            Some(Event::Header(_)) => decoder.admit(Admit::Buffer).unwrap(),
            Some(Event::Frame(frame)) => return frame,
            Some(_) => {}
            None => bytes = &bytes[decoder.push(bytes)..],
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let (wtxids, half) = (vec![[7; 32]; TRANSACTIONS], vec![1; 100]);
    let declaration = ClientMessage::DeclareMiningJob(DeclareMiningJob {
        request_id: 1,
        mining_job_token: &half,
        version: 0x2000_0000,
        coinbase_tx_prefix: &half,
        coinbase_tx_suffix: &half,
        wtxids: &wtxids,
        excess_data: b"",
    });
    let declaration = declaration.encode().unwrap();
    let mut group = criterion.benchmark_group("frame");

    let (client, server) = common::pair(1);
    let (mut encoder, mut decoder) = (client.encoder, server.decoder);
    let first = encoder.encode(&declaration).unwrap();
    decode(&mut decoder, &first);
    group.throughput(Throughput::Bytes(first.len() as u64));
    group.bench_function("encode, declaration of 4,000 transactions", |bench| {
        let (client, _) = common::pair(2);
        let mut encoder = client.encoder;
        bench.iter(|| encoder.encode(black_box(&declaration)).unwrap());
    });
    // Each frame has a number of its own in the cipher: made one by one, and decoded in that order.
    group.bench_function("decode, declaration of 4,000 transactions", |bench| {
        bench.iter_batched(
            || encoder.encode(&declaration).unwrap(),
            |sealed| decode(&mut decoder, &sealed),
            BatchSize::PerIteration,
        );
    });
    let (client, server) = common::pair(3);
    let (mut plain_encoder, mut plain_decoder) = (client.encoder, server.decoder);
    let sealed = plain_encoder.encode(&declaration).unwrap();
    let frame = decode(&mut plain_decoder, &sealed);
    group.bench_function("read the message, declaration of 4,000 transactions", |bench| {
        bench.iter(|| assert!(ClientMessage::from_frame(black_box(&frame)).is_ok()));
    });

    let (client, server) = common::pair(4);
    let (mut encoder, mut decoder) = (client.encoder, server.decoder);
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode, a share", |bench| {
        bench.iter_batched(
            || encoder.encode_parts(0, true, SHARE, &[3; SHARE_BYTES]).unwrap(),
            |sealed| decode(&mut decoder, &sealed),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(frames, benches);
criterion_main!(frames);
