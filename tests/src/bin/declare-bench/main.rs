//! `declare-bench`: how long job declaration servers take to answer.
//!
//! Plays Job Declaration clients against any server, with the template of a node whose
//! transactions the server knows. Every declaration differs in its coinbase. With
//! `--self-contained` it sets up the node and our own server by itself, and a reference server on
//! the same node if it is given one; the two then take turns, block by block, so that whatever else
//! the machine does meets both alike. `--suite` runs one client strictly in turns, one client in blocks,
//! and many clients at once.
//!
//! ```text
//! declare-bench --address HOST:PORT --key KEY --rpc-url http://127.0.0.1:18443 --cookie FILE
//! declare-bench --self-contained [--reference PATH/TO/pool_sv2] [--suite]
//! declare-bench --store-cost [--rate 100]
//! ```
//!
//! The last line of its output is one JSON object.

#![expect(clippy::print_stdout, reason = "a command prints its results")]

mod player;
mod rate;
mod rounds;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bitcoin::Network;
use clap::Parser;
use jds_tests::bench::{Login, Material, Reference, Target};
use jds_wire::Secp256k1PublicKey;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use rate::Rate;
use rounds::{Course, Summary};

/// Times how long job declaration servers take to answer.
#[derive(Debug, Parser)]
struct Args {
    /// Where the server listens.
    #[arg(long, required_unless_present_any = ["self_contained", "store_cost"], requires_all = ["key", "rpc_url", "cookie"])]
    address: Option<SocketAddr>,
    /// The server's authority key.
    #[arg(long)]
    key: Option<Secp256k1PublicKey>,
    /// The user identifier; with several clients a number is appended.
    #[arg(long, default_value = "declare-bench")]
    user: String,
    /// A node whose template is declared; the server should know its transactions.
    #[arg(long)]
    rpc_url: Option<String>,
    /// The cookie file of that node.
    #[arg(long)]
    cookie: Option<PathBuf>,
    /// The network of that node.
    #[arg(long, default_value = "regtest")]
    network: Network,
    /// Starts a node on a private chain, and our server.
    #[arg(long, conflicts_with = "address")]
    self_contained: bool,
    /// A `pool_sv2` binary (0.7.0) to start as well and to compare with.
    #[arg(long, requires = "self_contained")]
    reference: Option<PathBuf>,
    /// Transactions of the template: put into the mempool, or waited for.
    #[arg(long, default_value_t = 4_000)]
    transactions: usize,
    /// Clients that declare at the same time.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Declarations of each client that count.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Declarations of each client before those.
    #[arg(long, default_value_t = 5)]
    warm_up: usize,
    /// Declarations of each client in a row, before it is the other server's turn.
    #[arg(long, default_value_t = 1)]
    block: usize,
    /// Three courses instead of one: a single client strictly in turns, a single client in blocks of
    /// 20, and 20 clients at once with a fifth of the rounds.
    #[arg(long, conflicts_with_all = ["clients", "block"])]
    suite: bool,
    /// What the store costs: declarations at a steady rate to our server with a store and to one
    /// without, in turns.
    #[arg(long, conflicts_with_all = ["address", "self_contained", "suite", "clients", "block"])]
    store_cost: bool,
    /// Declarations per second of `--store-cost`.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Turns of two seconds of each server of `--store-cost`.
    #[arg(long, default_value_t = 15)]
    turns: u32,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(
        args.clients > 0 && args.rounds > 0 && args.block > 0,
        "--clients, --rounds and --block are 1 at least"
    );
    let runtime = Runtime::new()?;
    if args.store_cost {
        store_cost(&args, &runtime)
    } else if args.self_contained {
        contained(&args, &runtime)
    } else {
        attached(&args, &runtime)
    }
}

/// Our server with a store and without one.
fn store_cost(args: &Args, runtime: &Runtime) -> anyhow::Result<()> {
    let node = stage::node(args.transactions, false)?;
    let servers = [("with store", true), ("without", false)].map(|(name, keeps)| {
        stage::Ours::start(&node, args.transactions, keeps)
            .map(|server| (Target { name: name.to_owned(), ..server.target() }, server))
    });
    let servers = servers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let targets: Vec<_> = servers.iter().map(|(target, _)| target.clone()).collect();
    let login = login(&node);
    let template = Material::of(&login, args.transactions);
    let rate = Rate { per_second: args.rate, turns: args.turns };
    println!("{} declarations a second:", args.rate);
    let summaries =
        runtime.block_on(async { rate.run(&targets, &template.await?, &args.user).await })?;
    summaries.iter().for_each(|summary| println!("{summary}"));
    if let [with, without] = summaries.as_slice() {
        let [p50, p99] = [50.0, 99.0].map(|p| with.percentile(p) - without.percentile(p));
        println!("the store adds {p50:.2} ms at p50 and {p99:.2} ms at p99");
        let servers: Vec<Value> = summaries.iter().map(Summary::to_json).collect();
        let line = json!({
            "rate_per_second": args.rate,
            "servers": servers,
            "store_adds_p50_ms": p50,
            "store_adds_p99_ms": p99,
        });
        println!("{line}");
    }
    Ok(())
}

fn login(node: &signet::Node) -> Login {
    let (rpc_url, cookie) = (node.rpc_url(), node.cookie_file());
    Login { rpc_url, cookie, network: Network::Regtest }
}

/// Against a server that runs already.
fn attached(args: &Args, runtime: &Runtime) -> anyhow::Result<()> {
    let address = args.address.context("--address")?;
    let rpc_url = args.rpc_url.clone().context("--rpc-url")?;
    let cookie = args.cookie.clone().context("--cookie")?;
    let target = Target { name: "server".into(), address, key: args.key };
    let login = Login { rpc_url, cookie, network: args.network };
    let node = Material::of(&login, args.transactions);
    runtime.block_on(async { run(args, &[target], &node.await?).await })
}

/// Against a server, or two, of our own.
fn contained(args: &Args, runtime: &Runtime) -> anyhow::Result<()> {
    let node = stage::node(args.transactions, args.reference.is_some())?;
    let ours = stage::Ours::start(&node, args.transactions, true)?;
    let reference =
        args.reference.as_deref().map(|exe| Reference::start(exe, &node)).transpose()?;
    let targets: Vec<_> =
        std::iter::once(ours.target()).chain(reference.as_ref().map(|r| r.target())).collect();
    let login = login(&node);
    let template = Material::of(&login, args.transactions);
    let ran = runtime.block_on(async { run(args, &targets, &template.await?).await });
    // What the reference has to say about it is in its log, which is about to be removed.
    let log = || reference.as_ref().map(Reference::log_end).unwrap_or_default();
    ran.with_context(|| format!("end of the reference's log: {}", log()))
}

/// Runs every course and tells what came out.
async fn run(args: &Args, targets: &[Target], node: &Material) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for course in courses(args) {
        println!("{course}");
        let summaries = course.run(targets, node).await?;
        lines.push(report(&course, &summaries));
    }
    match lines.as_slice() {
        [line] => println!("{line}"),
        _ => println!("{}", json!({ "courses": lines })),
    }
    Ok(())
}

fn courses(args: &Args) -> Vec<Course> {
    let course = |clients, block, rounds| {
        let (user, warm_up) = (args.user.clone(), args.warm_up);
        Course { user, clients, rounds, warm_up, block }
    };
    if !args.suite {
        return vec![course(args.clients, args.block, args.rounds)];
    }
    let few = args.rounds.div_ceil(5);
    vec![course(1, 1, args.rounds), course(1, 20, args.rounds), course(20, 1, few)]
}

fn report(course: &Course, summaries: &[Summary]) -> Value {
    for summary in summaries {
        println!("{summary}");
    }
    let mut line = json!({
        "transactions": summaries.first().map(|summary| summary.transactions),
        "clients": course.clients,
        "rounds": course.rounds,
        "block": course.block,
        "servers": summaries.iter().map(Summary::to_json).collect::<Vec<Value>>(),
    });
    if let [ours, reference] = summaries {
        let ratio = |of: fn(&Summary) -> f64| of(reference) / of(ours);
        let pairs =
            rounds::median(ours.ms.iter().zip(&reference.ms).map(|(our, their)| their / our));
        println!(
            "reference / ours: p50 {:.1}, p99 {:.1}, median over the pairs {pairs:.1}",
            ratio(|s| s.percentile(50.0)),
            ratio(|s| s.percentile(99.0)),
        );
        line["ratio_p50"] = json!(ratio(|s| s.percentile(50.0)));
        line["ratio_p99"] = json!(ratio(|s| s.percentile(99.0)));
        line["ratio_pairs_p50"] = json!(pairs);
    }
    line
}
