//! `pool-bench`: shares a second through the pool interface's unix socket, in batches and as a stream,
//! beside the same work in this process. A node, a server and the pool share the machine.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failure of the harness is a failure of the measurement, which prints its result"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::hex::{DisplayHex, FromHex};
use clap::Parser;
use hdrhistogram::Histogram;
use jds::client::DeclareOutcome;
use jds_tests::pool::{Pool, connect};
use jds_tests::rig::Rig;
use jds_tests::{Setup, World};
use mining::identity::Identity;
use mining::job::Job;
use mining::outside::{Desk, OutsideShare};
use mining::{CustomJob, Now};
use serde_json::{Value, json};
use signet::kinds::Kind;
use store::{Protocol, ShareSubmitted, TemplateSource};
use validation::tip::ChainTip;

/// Coins that the template's payments are made of: a merkle path as of some thousand transactions
/// would take longer to set up than to measure.
const PAYMENTS: usize = 100;

/// Batches of a stream on their way at a time.
const STREAM_WINDOW: usize = 4;

#[derive(Parser)]
#[command(about = "Shares a second through the pool interface")]
struct Options {
    /// Shares of each way.
    #[arg(long, default_value_t = 200_000)]
    shares: usize,
    /// Shares sent together.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Connections that send batches.
    #[arg(long, default_value_t = 2)]
    connections: usize,
}

/// What one way did.
struct Run {
    way: &'static str,
    shares: usize,
    time: Duration,
    /// Of a batch, microseconds.
    latency: Histogram<u64>,
}

impl Run {
    fn new(way: &'static str) -> Self {
        // Up to an hour, microseconds.
        let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("a histogram");
        Self { way, shares: 0, time: Duration::ZERO, latency }
    }

    fn batch(&mut self, shares: usize, time: Duration) {
        self.shares += shares;
        self.latency.saturating_record(time.as_micros() as u64);
    }

    fn print(&self) {
        let per_s = self.shares as f64 / self.time.as_secs_f64();
        let ms = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{:<44} {:>8} {per_s:>10.0} {:>9.1} {:>9.1} {:>9.1}",
            self.way,
            self.shares,
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("pool.sock");
    let world = Setup::new().table("pool_interface", &format!("socket = {socket:?}")).start().await;
    let job = negotiate(&world, &socket).await;
    println!(
        "{} shares a way, {} together, {} connections",
        options.shares, options.batch, options.connections
    );
    println!("mining them …");
    let mut rig = Rig::of(&job);
    let mut mine =
        |count: usize| -> Vec<Value> { (0..count).map(|_| rig.mine(false).json).collect() };
    let (batches, stream, inside) =
        (mine(options.shares), mine(options.shares), mine(options.shares));
    println!(
        "{:<44} {:>8} {:>10} {:>9} {:>9} {:>9}",
        "", "shares", "shares/s", "p50 ms", "p99 ms", "max ms"
    );
    judged(&job, &world, &inside).print();
    recorded(&job, &world, &inside, options.batch).await.print();
    let at = socket.clone();
    let (batch, connections) = (options.batch, options.connections);
    let run =
        move || (in_batches(&at, &batches, batch, connections), in_a_stream(&at, &stream, batch));
    let (batches, stream) = tokio::task::spawn_blocking(run).await.expect("both ways");
    batches.print();
    stream.print();
    world.server.shutdown().await;
}

/// A template of some payments, declared and verified.
async fn negotiate(world: &World, socket: &Path) -> Value {
    let coins = world.coins(PAYMENTS).await;
    let build = |coin| Kind::Payment.build(coin).expect("a payment").txs;
    let work = world.relay(&coins.iter().flat_map(build).collect::<Vec<_>>()).await;
    let mut miner = world.miner("alice.rig1").await;
    let template = miner.template(&work);
    let DeclareOutcome::Accepted { new_token, .. } = miner.declare(&template).await else {
        panic!("the template is not accepted");
    };
    let body = json!({ "token": new_token.to_lower_hex_string() });
    let verdict = Pool::at(socket).post("/v1/pool/custom-jobs/verify", &body).json();
    assert_eq!(verdict["accepted"], true, "{verdict}");
    verdict["job"].clone()
}

/// Batches as JSON, over some connections.
fn in_batches(socket: &Path, shares: &[Value], batch: usize, connections: usize) -> Run {
    let bodies: Vec<_> =
        shares.chunks(batch).map(|shares| (shares.len(), json!(shares).to_string())).collect();
    let mut run = Run::new("unix socket, batches of JSON");
    let start = Instant::now();
    thread::scope(|scope| {
        let each = bodies.len().div_ceil(connections.max(1)).max(1);
        let clients: Vec<_> = bodies
            .chunks(each)
            .map(|bodies| {
                scope.spawn(move || {
                    let mut pool = Pool::at(socket);
                    let mut times = Vec::new();
                    for (count, body) in bodies {
                        let start = Instant::now();
                        let answer = pool.post_bytes("/v1/pool/shares", body.as_bytes());
                        times.push((*count, start.elapsed()));
                        let valid = answer.body.matches("\"valid\":true").count();
                        assert_eq!(valid, *count, "{}", answer.body);
                    }
                    times
                })
            })
            .collect();
        for client in clients {
            client
                .join()
                .expect("a client")
                .into_iter()
                .for_each(|(count, time)| run.batch(count, time));
        }
    });
    run.time = start.elapsed();
    run
}

/// Lines of one stream; a few batches are on their way at a time.
fn in_a_stream(socket: &Path, shares: &[Value], batch: usize) -> Run {
    let lines =
        |shares: &[Value]| shares.iter().map(|share| format!("{share}\n")).collect::<String>();
    let texts: Vec<_> = shares.chunks(batch).map(|shares| (shares.len(), lines(shares))).collect();
    let mut run = Run::new("unix socket, one stream of NDJSON");
    let mut out = connect(socket);
    let answers = BufReader::with_capacity(1 << 16, out.try_clone().expect("the socket twice"));
    let head = "POST /v1/pool/shares HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/x-ndjson\r\n\r\n";
    let (sent, on_their_way) = mpsc::sync_channel(STREAM_WINDOW - 1);
    let start = Instant::now();
    let reading = thread::spawn(move || read_results(answers, &on_their_way));
    out.write_all(head.as_bytes()).expect("room for the head");
    for (count, text) in &texts {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        sent.send((*count, Instant::now())).expect("a reader");
        out.write_all(chunk.as_bytes()).expect("room for shares");
    }
    drop(sent);
    for (count, time) in reading.join().expect("the reader") {
        run.batch(count, time);
    }
    run.time = start.elapsed();
    run
}

/// The times of batches, from their writing to their last result.
fn read_results(
    mut answers: BufReader<UnixStream>,
    on_their_way: &mpsc::Receiver<(usize, Instant)>,
) -> Vec<(usize, Duration)> {
    let (mut line, mut times) = (String::new(), Vec::new());
    while let Ok((count, sent)) = on_their_way.recv() {
        let mut left = count;
        while left > 0 {
            line.clear();
            assert_ne!(answers.read_line(&mut line).expect("a result"), 0, "the stream ended");
            // Between results stand the sizes of chunks, and before them the head.
            if line.starts_with('{') {
                assert!(line.contains("\"valid\":true"), "{line}");
                left -= 1;
            }
        }
        times.push((count, sent.elapsed()));
    }
    times
}

/// The job as the mining endpoint has it.
fn job_of(job: &Value, tip: ChainTip) -> Arc<Job> {
    let bytes = |field: &str| Vec::from_hex(job[field].as_str().expect("text")).expect("hex");
    let number =
        |field: &str| u32::try_from(job[field].as_u64().expect("a number")).expect("32 bits");
    let path = job["merkle_path"].as_array().expect("a list").iter();
    let path = path.map(|hash| <[u8; 32]>::from_hex(hash.as_str().expect("text")).expect("hex"));
    let custom = CustomJob {
        tip,
        version: number("version"),
        min_ntime: number("min_ntime"),
        merkle_path: path.collect(),
        coinbase_prefix: bytes("coinbase_prefix").into(),
        coinbase_suffix: bytes("coinbase_suffix").into(),
        extranonce_len: number("extranonce_bytes") as usize,
        pool_payout_sat: 0,
        claimable_sat: 0,
        declared: None,
    };
    Arc::new(Job::of_custom(1, Arc::new(custom)).expect("a job"))
}

/// A share as it is judged.
struct Parsed {
    extranonce: Vec<u8>,
    ntime: u32,
    nonce: u32,
    version: u32,
}

fn parsed(shares: &[Value]) -> Vec<Parsed> {
    let number = |share: &Value, field: &str| {
        u32::try_from(share[field].as_u64().expect("a number")).expect("32 bits")
    };
    let parse = |share: &Value| Parsed {
        extranonce: Vec::from_hex(share["extranonce"].as_str().expect("text")).expect("hex"),
        ntime: number(share, "ntime"),
        nonce: number(share, "nonce"),
        version: number(share, "version"),
    };
    shares.iter().map(parse).collect()
}

fn judge(desk: &mut Desk, job: &Arc<Job>, tip: ChainTip, share: &Parsed) -> mining::ShareRecord {
    let identity = Identity::of("alice.rig1");
    let Parsed { ref extranonce, ntime, nonce, version } = *share;
    let share = OutsideShare {
        extranonce,
        ntime,
        nonce,
        version,
        target: bitcoin::Target::from_be_bytes([0xff; 32]),
        worker: None,
    };
    let now = Now { instant: Instant::now(), unix_s: u32::MAX / 2 };
    let outcome = desk.submit(job, &identity, &share, Some(tip.hash), now);
    assert_eq!(outcome.record.error_code, None);
    *outcome.record
}

/// The rules alone.
fn judged(job: &Value, world: &World, shares: &[Value]) -> Run {
    let tip = world.server.shared().nodes.tip().expect("a tip");
    let (job, shares, mut desk) = (job_of(job, tip), parsed(shares), Desk::default());
    let mut run = Run::new("in this process, judged");
    let start = Instant::now();
    for share in &shares {
        judge(&mut desk, &job, tip, share);
    }
    run.time = start.elapsed();
    run.batch(shares.len(), run.time);
    run
}

/// As a mining connection does: judged, and recorded before they are acknowledged.
async fn recorded(job: &Value, world: &World, shares: &[Value], batch: usize) -> Run {
    let shared = world.server.shared();
    let tip = shared.nodes.tip().expect("a tip");
    let template = job["template_hash"].as_str().map(str::to_owned);
    let (job, shares, mut desk) = (job_of(job, tip), parsed(shares), Desk::default());
    let mut run = Run::new("in this process, judged and on the disk");
    let start = Instant::now();
    for shares in shares.chunks(batch) {
        let began = Instant::now();
        let events = shares.iter().map(|share| {
            let record = judge(&mut desk, &job, tip, share);
            ShareSubmitted {
                user: record.user.to_string(),
                worker: record.worker.to_string(),
                channel_id: record.channel_id,
                job_id: record.job_id,
                accepted: true,
                error_code: None,
                difficulty: record.difficulty,
                share_hash: record.share_hash.map(|hash| hash.to_string()).unwrap_or_default(),
                template_source: TemplateSource::Miner,
                miner_template_hash: template.clone(),
                miner_tx_count: Some(1),
                miner_template_fees_sat: Some(0),
                pool_payout_sat: Some(0),
                claimable_sat: Some(0),
                first_for_user: None,
            }
        });
        let commit = shared.journal.shares(Protocol::StratumV2, events.collect());
        commit.expect("a store").await.expect("a commit");
        run.batch(shares.len(), began.elapsed());
    }
    run.time = start.elapsed();
    run
}
