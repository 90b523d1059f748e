//! `jds events`: the event log on standard output, one event a line, beside a server or without.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use store::chain::ChainReport;
use store::{
    Cursor, EventFilter, EventKind, EventLog, EventLogError, EventPage, FilterError, Gone,
};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when the cursor is gone, so that a script can tell it from everything else.
pub(super) const EXIT_CURSOR_GONE: u8 = 3;

/// Events that are read at a time.
const PAGE_EVENTS: usize = 1_000;

/// Pause between looks for new events.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// How long a line that is being written may take after a signal.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// From when on an export shows how far it is, and how often.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

const AFTER_HELP: &str = "\
Each line is one event, as GET /v1/events gives it:
  {\"id\":1042,\"event\":\"template_accepted\",\"timestamp\":1693612345678, ... ,\"data\":{...}}
The log is read from data_dir without a change to it, whether a server runs or not.

Examples:
  jds events tail --config jds.toml
  jds events tail --config jds.toml --types 'template_*,block_found' -n 100
  jds events export --config jds.toml > all.ndjson
  jds events export --config jds.toml --after 1042 >> all.ndjson      go on after event 1042

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 the events after the cursor are not there any
more (the message names the earliest that is).";

/// `jds events`.
#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Print the last events, then each new one as it is written, until Ctrl-C or SIGTERM.
    #[command(after_help = AFTER_HELP)]
    Tail {
        #[command(flatten)]
        which: Which,
        /// How many of the last events to begin with.
        #[arg(
            short = 'n',
            long = "count",
            value_name = "COUNT",
            default_value_t = 10,
            conflicts_with = "after"
        )]
        count: usize,
    },
    /// Check that nothing of the log was changed, removed or put in: its hash chain, and the signed
    /// heads.
    Verify {
        /// The configuration of the server; its data_dir holds the log.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Whose signatures count; nothing for the keys of the configuration.
        #[arg(long, value_name = "KEY", value_parser = super::receipt::public_key)]
        authority: Option<config::PublicKey>,
        /// Further keys, as GET /v1/receipts/keys gives them.
        #[arg(long, value_name = "FILE", requires = "authority")]
        keys: Option<PathBuf>,
    },
    /// Print every event that is kept, oldest first, and end.
    #[command(after_help = AFTER_HELP)]
    Export {
        #[command(flatten)]
        which: Which,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The configuration of the server; its data_dir holds the log.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Begin after this event: its id, or EPOCH-ID as the API gives it, which also notices that the
    /// log was restored from a backup.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Only these types, with commas between them; `*` at the end of one stands for anything.
    #[arg(long, value_name = "TYPES", default_value = "", hide_default_value = true,
          value_parser = types)]
    types: EventFilter,
}

/// Runs the command.
pub(super) fn run(command: EventsCommand) -> anyhow::Result<()> {
    match command {
        EventsCommand::Tail { which, count } => {
            let log = open(&which)?;
            let cursor = match which.after {
                Some(cursor) => cursor,
                None => log.last(&which.types, count).map_err(explained)?,
            };
            tail(log, cursor, which.types)
        }
        EventsCommand::Verify { config, authority, keys } => {
            let keys = authority.map(|authority| super::receipt::Keys { authority, keys });
            verify(&config, keys.as_ref())
        }
        EventsCommand::Export { which } => {
            let log = open(&which)?;
            export(&log, which.after.unwrap_or(Cursor::START), &which.types)
        }
    }
}

fn verify(path: &Path, keys: Option<&super::receipt::Keys>) -> anyhow::Result<()> {
    let config = super::load(path)?;
    let keys = match keys {
        Some(keys) => keys.read()?,
        None => super::receipt::configured(&config)?,
    };
    let log = EventLog::open(&config.data_dir).map_err(explained)?;
    let report = log.verify(&keys).map_err(explained)?;
    let report = report.with_context(|| format!("{} is not whole", log.path().display()))?;
    let ChainReport { unchained, events, heads, signed_to, last_id } = report;
    println!("events     {events} chained, to {last_id}");
    if unchained > 0 {
        println!("unchained  {unchained}, from before there were hashes");
    }
    match signed_to {
        Some(id) => println!("heads      {heads}, signed for up to event {id}"),
        None => println!("heads      none: nothing is signed for"),
    }
    println!("ok: nothing was changed, removed or put in");
    Ok(())
}

fn open(which: &Which) -> anyhow::Result<EventLog> {
    let config = super::load(&which.config)?;
    EventLog::open(&config.data_dir)
        .map_err(explained)
        .with_context(|| format!("`data_dir` of {}", which.config.display()))
}

fn types(list: &str) -> Result<EventFilter, String> {
    EventFilter::parse(list).map_err(|error| match error {
        FilterError::NoMatch { .. } => {
            let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("{error}; there are {}", names.join(", "))
        }
        FilterError::TooMany { .. } => error.to_string(),
    })
}

/// What the cursor points at is not there.
#[derive(Debug)]
pub(super) struct CursorGone {
    path: PathBuf,
    cursor: Cursor,
    gone: Gone,
}

impl std::error::Error for CursorGone {}

impl fmt::Display for CursorGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, cursor, gone: Gone { epoch, earliest } } = self;
        let path = path.display();
        let why = if cursor.epoch.is_some_and(|of| of != *epoch) {
            "it belongs to another stream: the database was restored or replaced since"
        } else if cursor.id.saturating_add(1) < *earliest {
            "events go after `store.events_days`, or above `store.events_mb`"
        } else {
            "there is no event with that id yet"
        };
        write!(
            f,
            "the cursor {cursor} is gone: the earliest event in {path} has id {earliest}, of epoch \
             {epoch} ({why}). To begin with it: --after {epoch}-{}",
            earliest.saturating_sub(1)
        )
    }
}

fn explained(error: EventLogError) -> anyhow::Error {
    match error {
        EventLogError::Gone { path, cursor, gone } => CursorGone { path, cursor, gone }.into(),
        error => error.into(),
    }
}

/// Why printing ended.
enum Ended {
    /// Nobody reads what we print. That is how `| head` ends, and no failure.
    ReaderGone,
    Failed(anyhow::Error),
}

impl From<EventLogError> for Ended {
    fn from(error: EventLogError) -> Self {
        Self::Failed(explained(error))
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(anyhow::Error::new(error).context("standard output")),
        }
    }
}

/// True when the end is as it should be.
fn quiet(result: Result<(), Ended>) -> anyhow::Result<()> {
    match result {
        Ok(()) | Err(Ended::ReaderGone) => Ok(()),
        Err(Ended::Failed(error)) => Err(error),
    }
}

/// The lines of a page, in one write where they fit, so that a reader never waits for a rest.
fn print(page: &EventPage) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for event in &page.events {
        serde_json::to_writer(&mut out, event)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn export(log: &EventLog, mut cursor: Cursor, types: &EventFilter) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let result = loop {
        let page = match log.after(cursor, types, PAGE_EVENTS) {
            Ok(page) => page,
            Err(error) => break Err(error.into()),
        };
        if let Err(error) = print(&page) {
            break Err(error.into());
        }
        progress.add(&page);
        cursor = page.next;
        if !page.more {
            break Ok(());
        }
    };
    progress.clear();
    quiet(result)
}

/// A line on a terminal, for as long as the export goes on.
struct Progress {
    wanted: bool,
    next: Instant,
    shown: bool,
    events: usize,
}

impl Progress {
    fn new() -> Self {
        let next = Instant::now() + PROGRESS_AFTER;
        // Lines on the same terminal show by themselves how far it is.
        let wanted = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self { wanted, next, shown: false, events: 0 }
    }

    fn add(&mut self, page: &EventPage) {
        self.events += page.events.len();
        if self.wanted && Instant::now() >= self.next {
            let (events, id) = (self.events, page.next.id);
            // Nothing depends on it.
            let _ = write!(io::stderr(), "\r\x1b[K{events} events, up to id {id}");
            self.next = Instant::now() + PROGRESS_PAUSE;
            self.shown = true;
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Prints on a thread of its own: a reader that stops reading can not keep us from ending.
fn tail(log: EventLog, cursor: Cursor, types: EventFilter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut terminate =
            signal(SignalKind::terminate()).context("SIGTERM can not be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be handled")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let (done, mut ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            let _ = done.send(follow(&log, cursor, &types, &stopping));
        })?;
        tokio::select! {
            result = &mut ended => return result.map_or(Ok(()), quiet),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.store(true, Ordering::Relaxed);
        // A line that is half written is brought to its end where somebody reads it.
        match tokio::time::timeout(STOP_WAIT, ended).await {
            Ok(Ok(result)) => quiet(result),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    })
}

/// Until it is told to stop, or nobody reads any more.
fn follow(
    log: &EventLog,
    mut cursor: Cursor,
    types: &EventFilter,
    stop: &AtomicBool,
) -> Result<(), Ended> {
    while !stop.load(Ordering::Relaxed) {
        let page = log.after(cursor, types, PAGE_EVENTS)?;
        print(&page)?;
        cursor = page.next;
        if !page.more && reader_gone_within(FOLLOW_PAUSE)? {
            return Err(Ended::ReaderGone);
        }
    }
    Ok(())
}

/// Waits, and tells when nobody can read standard output any more: without new events a write would
/// not tell for a long time.
fn reader_gone_within(pause: Duration) -> io::Result<bool> {
    let stdout = io::stdout();
    // Errors and hang-ups are told without being asked for. A file has none.
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(pause).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(told) => Ok(told > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
