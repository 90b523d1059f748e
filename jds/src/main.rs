//! `jds`: Job Declaration Server for sovereign Bitcoin miners.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where a command fails")]
            {
                eprintln!("error: {error:#}");
            }
            cli::exit_code(&error)
        }
    }
}
