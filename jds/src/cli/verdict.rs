//! `jds verdict replay`: any verdict once more, from what it was given on, without a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bitcoin::hex::FromHex;
use clap::{Args, Subcommand};
use store::{
    Cursor, EventLog, StoredVerdict, TemplateRef, TemplateRejected, ValidationResult,
    VerdictLookup, VerdictRef,
};
use validation::declared::TemplateHash;
use validation::rejection::Reason;
use validation::replay::{DecidedBy, decided_by, replay};

/// Exit code when the verdict comes out otherwise.
pub(super) const EXIT_DIFFERS: u8 = 4;
/// Exit code when there is nothing to have it again from.
pub(super) const EXIT_NOT_REPLAYED: u8 = 5;

const AFTER_HELP: &str = "\
ID is one of
  the hash of a template, 64 hex digits: the newest declaration of it, an accepted one if there is one
  the number of a declaration, as `id` of GET /v1/templates: 17
  an event, template_accepted or template_rejected: event:1042, or EPOCH-1042 as the API gives cursors

The database is read without a change to it, whether a server runs or not. The rules are those of the
server: what is printed is what they make of the declaration, the transactions, the terms, the tip and,
where the answer waited for it, the word of the node, all as they were.

Verdicts on a token (token-unknown, token-expired, token-spent, token-foreign, token-recycled), on the
conversation (malformed-message, declaration-too-large, coinbase-only-connection, request-id-in-use,
too-many-pending, answer-too-large, no-answer-in-time) and internal errors are no function of what is
kept, and are not replayed.

Examples:
  jds verdict replay 17 --config jds.toml
  jds verdict replay event:1042 --config jds.toml
  jds verdict replay 377d0262ba1092a4f547caedd92795b24638eb196b5100379e9d7454fe235a61 --data-dir copy/

Exit codes: 0 the verdict is the same, 1 failed, 2 wrong arguments, 4 the verdict differs, 5 it can not
be replayed (the message says why).";

/// `jds verdict`.
#[derive(Debug, Subcommand)]
pub(super) enum VerdictCommand {
    /// Give a verdict again from its stored inputs, and compare it with the one that was given.
    #[command(after_help = AFTER_HELP)]
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Which verdict: the hash of a template, the number of a declaration, or an event.
    #[arg(value_name = "ID", value_parser = which)]
    id: Which,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration of the server; its data_dir holds the database.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A data directory, or a copy of one.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Declaration(TemplateRef),
    Event(Cursor),
}

fn which(text: &str) -> Result<Which, String> {
    let event = |text: &str| text.parse().map(Which::Event).map_err(|error| format!("{error}"));
    if text.len() == 64 {
        let bytes = <[u8; 32]>::from_hex(text).map_err(|error| format!("no hash: {error}"))?;
        return Ok(Which::Declaration(TemplateRef::Hash(TemplateHash::from_bytes(bytes))));
    }
    match text.strip_prefix("event:") {
        Some(rest) => event(rest),
        None if text.contains('-') => event(text),
        None => match text.parse() {
            Ok(id) => Ok(Which::Declaration(TemplateRef::Id(id))),
            Err(_) => Err("expected 64 hex digits, a number, or event:NUMBER".to_owned()),
        },
    }
}

/// A verdict that came out otherwise, or not at all.
#[derive(Debug)]
pub(super) enum NotTheSame {
    Differs(String),
    NotReplayed(String),
}

impl NotTheSame {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Differs(_) => EXIT_DIFFERS,
            Self::NotReplayed(_) => EXIT_NOT_REPLAYED,
        })
    }
}

impl std::error::Error for NotTheSame {}

impl fmt::Display for NotTheSame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(what) => write!(f, "the replayed verdict is another: {what}"),
            Self::NotReplayed(why) => write!(f, "the verdict can not be replayed: {why}"),
        }
    }
}

/// Runs the command.
pub(super) fn run(command: &VerdictCommand) -> anyhow::Result<()> {
    let VerdictCommand::Replay(args) = command;
    let dir = args.place.dir()?;
    let log = EventLog::open(&dir).with_context(|| format!("in {}", dir.display()))?;
    let (which, epoch) = match args.id {
        Which::Declaration(which) => (VerdictRef::Template(which), None),
        Which::Event(cursor) => (VerdictRef::Event(cursor.id), cursor.epoch),
    };
    let not = |why: &str| Err(NotTheSame::NotReplayed(why.to_owned()).into());
    match log.verdict(which, epoch)? {
        VerdictLookup::Found(verdict) => again(&verdict),
        VerdictLookup::Absent => not("there is no such declaration, or it is not kept any more"),
        VerdictLookup::EventGone => not("there is no such event, or it is not kept any more"),
        VerdictLookup::OtherEvent(kind) => {
            bail!("the event is a {kind}, which tells of no verdict on a declaration")
        }
        VerdictLookup::WithoutRow(event) => without_row(&event),
    }
}

impl Place {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        match (&self.config, &self.data_dir) {
            (Some(config), _) => Ok(super::load(config)?.data_dir),
            (None, Some(dir)) => Ok(dir.clone()),
            (None, None) => Ok(Path::new(".").to_owned()),
        }
    }
}

fn without_row(event: &TemplateRejected) -> anyhow::Result<()> {
    println!("user           {}", event.user);
    println!("stored         rejected: {} reason={}", event.error_code, event.reason);
    let why =
        why_not(&event.reason).unwrap_or_else(|| "the declaration is not kept any more".to_owned());
    Err(NotTheSame::NotReplayed(why).into())
}

/// Why a verdict with that reason has no inputs, if that is so for all of them.
fn why_not(reason: &str) -> Option<String> {
    let reason = *Reason::ALL.iter().find(|known| known.as_str() == reason)?;
    let of = match decided_by(reason) {
        DecidedBy::Rules | DecidedBy::Node => return None,
        DecidedBy::Token => "the token and on which tokens had been used up",
        DecidedBy::Conversation => "the conversation on the connection and on its time",
        DecidedBy::Fault => "a fault of the server",
    };
    Some(format!("{reason} is a verdict on {of}, and no function of what is kept"))
}

fn again(verdict: &StoredVerdict) -> anyhow::Result<()> {
    let StoredVerdict { summary, inputs, .. } = verdict;
    let hash = summary.template_hash.as_deref().unwrap_or("none: it was refused before it had one");
    println!("declaration    {}", summary.id);
    println!("user           {}", summary.user);
    println!("submitted_at   {} (Unix ms)", summary.submitted_at);
    println!("template_hash  {hash}");
    println!("stored         {}", verdict.words());
    let inputs = match inputs {
        Ok(inputs) => inputs,
        Err(why) => {
            let reason = summary.reason.as_deref().unwrap_or_default();
            let why = why_not(reason).unwrap_or_else(|| why.to_string());
            return Err(NotTheSame::NotReplayed(why).into());
        }
    };
    let replayed = replay(inputs);
    for (number, step) in (1..).zip(&replayed.steps) {
        println!("step {number}         {step}");
    }
    match &replayed.result {
        Ok(_) => println!("replayed       accepted"),
        Err(rejection) => println!("replayed       rejected: {}", rejection.words()),
    }
    let differences = verdict.differences(&replayed);
    if !differences.is_empty() {
        return Err(NotTheSame::Differs(differences.join("; ")).into());
    }
    if summary.result == ValidationResult::Invalidated {
        println!("afterwards     a node found it invalid, which withdrew it");
    }
    println!("ok: the replayed verdict is the stored one");
    Ok(())
}
