//! `jds doctor`: looks whether everything that the server needs is there, and says what to do where
//! it is not. It asks and reads, and changes nothing: beside a running server nobody notices it.

mod clock;
mod code;
mod disk;
mod fault;
mod holder;
mod listen;
mod node;
mod nodes;
mod providers;
mod report;
mod setup;
mod socket;
mod user_check;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use report::Report;

/// How long all questions to one node take at most; nodes are asked side by side.
const NODE_LIMIT: Duration = Duration::from_secs(30);

const AFTER_HELP: &str = "\
Each line is one check: ok, warning (it works, and something should be looked at) or problem (it
does not work like this). What is not ok has a code in brackets and, below it, what to do. The codes
are explained in the guide, page Troubleshooting.

It runs beside a running server without disturbing it, changes nothing, and ends within about a
minute, whatever a node does. Run it as the user that runs the server: what that user may read and
write is part of it. No secret is printed.

Exit codes: 0 all ok, or warnings only; 1 at least one problem; 2 wrong arguments.";

/// `jds doctor`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct DoctorArgs {
    /// The configuration of the server.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object instead of lines: `status`, and `checks` with `name`, `status`, `code`,
    /// `message` and `advice` of each.
    #[arg(long)]
    json: bool,
}

/// Checks everything and prints what was found.
///
/// # Errors
/// There is a problem; it was printed.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut report = Report::new(!args.json);
    if let Some(config) = setup::load(&args.config, &mut report) {
        check(&config, &mut report);
    }
    report.finish()
}

fn check(config: &config::Checked, report: &mut Report) {
    setup::keys(config, report);
    setup::payout(config, report);
    setup::token_files(config, report);
    setup::open_files(config, report);
    user_check::check(config, report);
    let server = holder::of(&config.data_dir);
    disk::check(config, server.as_ref(), report);
    listen::check(config, server.as_ref(), report);
    for node in &config.nodes {
        socket::check(node, report);
    }
    let providers = providers::check(config, NODE_LIMIT, report);
    nodes::check(config, &providers, NODE_LIMIT, report);
}
