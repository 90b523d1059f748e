//! The command line: what there is to ask for, and who answers.
#![expect(clippy::print_stdout, reason = "commands print their results")]

mod demo;
mod doctor;
mod events;
mod logging;
mod node;
mod receipt;
mod run;
mod verdict;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
First steps:
  jds demo                            see it work: a private chain, a template, a block
  jds keygen --out authority.key      make the server's key, print what miners need
  jds config-reference > jds.toml     every setting with its default; keep what you change
  jds check-config --config jds.toml  say what is wrong before it matters
  jds doctor --config jds.toml        look at nodes, clock, disk and ports; say what to do
  jds run --config jds.toml           serve
  jds events tail --config jds.toml   see what happens

Any setting can come from the environment: JDS_ and the key's path, two underscores between
levels, as in JDS_JOB_DECLARATION__LISTEN=0.0.0.0:34264 or JDS_NODE__0__RPC_PASSWORD=...";

/// Job Declaration Server: miners choose the transactions, the pool checks structure only.
#[derive(Debug, Parser)]
#[command(name = "jds", version, about, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve job declaration until Ctrl-C or SIGTERM.
    Run(ConfigFile),
    /// Make the authority key: a file that only you can read. Prints the public key for miners, and on
    /// standard error the key id that receipts signed with it carry.
    Keygen {
        /// The file to make; an existing one is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check a configuration and print it in full, secrets hidden.
    CheckConfig(ConfigFile),
    /// Look at everything that the server needs, and say what to do where it is not well.
    Doctor(doctor::DoctorArgs),
    /// Print every setting with its default, unit and meaning, as a TOML file.
    ConfigReference,
    /// Print the events that the server has written, as NDJSON.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Check signed verdicts: the receipt of an accepted template, the proof of a rejection.
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Give a verdict once more from what it was given on, without a server.
    #[command(subcommand)]
    Verdict(verdict::VerdictCommand),
    /// Find or get a Bitcoin Core for private chains and tests.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Play the whole story on a private chain: node, server, miner, block.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration, TOML; see `jds config-reference`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Get a node if there is none: from the environment, the PATH, the cache, a checked download
    /// or a build from source, in this order. Prints its path.
    Install,
    /// Print the path of the node that would be used; fails when there is none.
    Path,
}

/// What `jds demo` may be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Which kind of private chain.
    #[arg(long, value_enum, default_value_t = DemoNetwork::Regtest)]
    network: DemoNetwork,
    /// Last line: one JSON object with the result.
    #[arg(long)]
    json: bool,
    /// Leave node and server running at the end, until Ctrl-C.
    #[arg(long)]
    keep_running: bool,
    /// Transactions in the node's mempool.
    #[arg(long, value_name = "COUNT", default_value_t = 4_000,
          value_parser = clap::value_parser!(u32).range(10..=4_000))]
    transactions: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DemoNetwork {
    /// Blocks cost nothing.
    Regtest,
    /// Blocks cost a CPU a few seconds.
    Signet,
}

/// Runs the command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(file) => run::run(&load(&file.config)?),
        Command::Keygen { out } => keygen(&out),
        Command::CheckConfig(file) => check_config(&file.config),
        Command::Doctor(args) => doctor::run(&args),
        Command::ConfigReference => {
            print!("{}", config::reference());
            Ok(())
        }
        Command::Events(command) => events::run(command),
        Command::Receipt(command) => receipt::run(&command),
        Command::Verdict(command) => verdict::run(&command),
        Command::Node(NodeCommand::Install) => node::install(),
        Command::Node(NodeCommand::Path) => node::path(),
        Command::Demo(args) => demo::run(&args),
    }
}

/// What a command that failed ends with.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<events::CursorGone>() {
        return ExitCode::from(events::EXIT_CURSOR_GONE);
    }
    let verdict = error.downcast_ref::<verdict::NotTheSame>();
    verdict.map_or(ExitCode::FAILURE, verdict::NotTheSame::exit_code)
}

fn load(path: &Path) -> anyhow::Result<config::Checked> {
    Ok(config::load_here(path)?)
}

fn keygen(out: &Path) -> anyhow::Result<()> {
    let (secret, public) = config::keys::generate().context("no randomness from the system")?;
    config::keys::write_new(out, &secret)?;
    println!("{public}");
    let id = receipt::receipt_key(public)?.id();
    // Beside the key, which scripts read from standard output.
    let _ = writeln!(std::io::stderr(), "key id of receipts: {id}");
    Ok(())
}

fn check_config(path: &Path) -> anyhow::Result<()> {
    let checked = load(path)?;
    print!("{}", checked.to_redacted_toml());
    for warning in &checked.warnings {
        println!("# warning: {warning}");
    }
    println!("# ok");
    Ok(())
}
