//! `load`: plays many clients against a server, and measures it. See `--help`.

#![expect(clippy::print_stdout, reason = "a command prints its results")]

mod args;
mod board;
mod chain;
mod course;
mod found;
mod kept;
mod metronome;
mod miner;
mod proposal;
mod report;
mod run;
mod server;
mod shares;
mod soak;
mod templates;

use std::path::Path;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use args::Args;
use chain::Chain;
use server::Server;

/// The file that stands for the standard output.
const STANDARD_OUTPUT: &str = "-";

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.check()?;
    // Each client takes one.
    rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    let machine = report::machine();
    let chain = match args.self_contained {
        true => Chain::own(&args)?,
        false => Chain::theirs(&Chain::login(&args, None)?)?,
    };
    let runtime = Runtime::new()?;
    let (mut runs, mut judged) = (Vec::new(), Ok(()));
    for pair in 1..=args.pairs {
        for server in servers(&args, &chain) {
            let server = server?;
            let ran = runtime.block_on(run::run(&args, &chain, &server, pair));
            // What it has to say about it is in its log, which is about to be removed.
            let mut ran = ran.with_context(|| format!("{}; {}", server.name, server.log_end()))?;
            if args.store_shares > 0 {
                ran.restarted = server.killed_and_started()?;
            }
            println!("{ran}\n");
            if args.soak {
                judged = judged.and(ran.judge_soak());
            }
            runs.push(ran.to_json());
        }
    }
    let all = json!({ "machine": machine, "course": report::course(&args), "runs": runs });
    if let Some(file) = &args.json {
        write(file, &all)?;
    }
    judged
}

/// Those to measure, each started when it is its turn.
fn servers<'a>(
    args: &'a Args,
    chain: &'a Chain,
) -> impl Iterator<Item = anyhow::Result<Server>> + 'a {
    let ours = move || match chain.node() {
        Some(node) => node.with(|node| Server::ours(args, node)),
        None => Ok(Server::elsewhere(args)),
    };
    let reference = args.reference.as_deref().map(move |exe| match chain.node() {
        Some(node) => node.with(|node| Server::reference(exe, node)),
        None => bail!("--reference needs a node of our own"),
    });
    std::iter::once_with(ours).chain(reference)
}

fn write(file: &Path, all: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(all)?;
    if file == Path::new(STANDARD_OUTPUT) {
        println!("{text}");
        return Ok(());
    }
    std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
}
