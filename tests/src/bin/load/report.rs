//! What came out, for people and for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use jds_tests::bench::{Memory, ProcessReader};
use serde_json::{Value, json};

use crate::args::{Args, Arrivals};
use crate::board::{Board, Latencies};
use crate::course::Ran;
use crate::server::Started;
use crate::shares::{Kind, Tally};
use crate::soak::{self, Window};

/// The errors that a soak may see: a declaration or a share, and a new block met.
const MET_A_BLOCK: [&str; 4] = [
    "declaration: stale-chain-tip",
    "share_sv2_standard: stale-share",
    "share_sv2_extended: stale-share",
    "share_sv1: [21,\"Stale share\",null]",
];

/// What the system said of the server's process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Once it knew the node's transactions.
    pub(crate) before: Memory,
    /// With all template clients.
    pub(crate) with_templates: Memory,
    /// With all miners that send shares, before they did.
    pub(crate) with_sharers: Memory,
    /// With all miners that declare, before they did.
    pub(crate) with_miners: Memory,
    /// When all was over, everybody still connected.
    pub(crate) after: Memory,
    /// Processor time of the course.
    pub(crate) cpu: Duration,
    /// Descriptors at the end.
    pub(crate) descriptors: usize,
}

/// One run against one server.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) server: String,
    /// From 1.
    pub(crate) pair: u32,
    pub(crate) declaring: usize,
    pub(crate) templates: usize,
    /// Miners that send shares, and how long they did.
    pub(crate) sharing: usize,
    pub(crate) shared_for: Duration,
    pub(crate) started: Option<Started>,
    /// After it was killed at the end of the course, if it was.
    pub(crate) restarted: Option<Started>,
    /// Clients that connected before the course, and the time that all took together.
    pub(crate) connected: u64,
    pub(crate) connected_in: Duration,
    pub(crate) ran: Ran,
    /// Of the whole course, for the share of a processor.
    pub(crate) course: Duration,
    /// Blocks on which template clients had to have work.
    pub(crate) tips: usize,
    pub(crate) process: Option<Figures>,
    /// Processor time of this program in the course.
    pub(crate) own_cpu: Duration,
    pub(crate) board: Arc<Board>,
    /// Of a soak: its parts, and how often the node restarted.
    pub(crate) soak: Option<(Vec<Window>, u32)>,
}

impl Run {
    fn handshakes_per_second(&self) -> f64 {
        self.connected as f64 / self.connected_in.as_secs_f64().max(1e-9)
    }

    fn declarations_per_second(&self) -> f64 {
        self.ran.accepted as f64 / self.ran.lasted.as_secs_f64().max(1e-9)
    }

    fn latencies(&self) -> Vec<(&'static str, &Latencies)> {
        let board = &self.board;
        let shares = Kind::ALL.map(|kind| (kind.name(), &board.shares(kind).latencies));
        let others = [
            ("handshake", &board.handshakes),
            ("token", &board.tokens),
            ("declaration", &board.declarations),
            ("tip_to_work", &board.tip_to_work),
            ("tip_to_full_work", &board.tip_to_full_work),
            ("solution_handed_over", &board.solution_handed_over),
            ("solution_to_submission", &board.solution_to_submission),
            ("solution_to_tip", &board.solution_to_tip),
        ];
        others.into_iter().chain(shares).collect()
    }

    pub(crate) fn to_json(&self) -> Value {
        let latencies: serde_json::Map<_, _> = self
            .latencies()
            .into_iter()
            .filter(|(_, latencies)| latencies.count() > 0)
            .map(|(name, latencies)| (name.to_owned(), latencies.to_json()))
            .collect();
        let process = self.process.map(|process| {
            json!({
                "cpu_s": process.cpu.as_secs_f64(),
                "pss_before_kb": process.before.pss_kb,
                "pss_with_template_clients_kb": process.with_templates.pss_kb,
                "pss_with_share_miners_kb": process.with_sharers.pss_kb,
                "pss_with_miners_kb": process.with_miners.pss_kb,
                "pss_after_kb": process.after.pss_kb,
                "peak_resident_kb": process.after.peak_resident_kb,
                "kb_per_template_client": self.kb_per_template_client(),
                "kb_per_share_miner": self.kb_per_sharer(),
                "kb_per_miner": self.kb_per_miner(),
                "descriptors": process.descriptors,
            })
        });
        json!({
            "server": self.server,
            "pair": self.pair,
            "started_in_s": self.started.map(|started| started.listened_in.as_secs_f64()),
            "start": self.started.map(start_json),
            "start_after_kill": self.restarted.map(start_json),
            "handshakes_per_second": self.handshakes_per_second(),
            "declarations_accepted": self.ran.accepted,
            "declarations_per_second": self.declarations_per_second(),
            "course_s": self.course.as_secs_f64(),
            "tips": self.tips,
            "latencies": latencies,
            "bytes_per_declaration": self.board.bytes_per_declaration(),
            "transactions_asked_for":
                self.board.asked_txs.load(std::sync::atomic::Ordering::Relaxed),
            "shares": self.shares_json(),
            "errors": self.board.errors(),
            "process": process,
            "soak": self.soak.as_ref().map(|(windows, restarts)| {
                json!({ "node_restarts": restarts, "windows": soak::to_json(windows) })
            }),
            "load_cpu_s": self.own_cpu.as_secs_f64(),
        })
    }

    /// Fails when something grew, or went wrong.
    pub(crate) fn judge_soak(&self) -> anyhow::Result<()> {
        let mut errors = self.board.errors();
        for met in MET_A_BLOCK {
            errors.remove(met);
        }
        ensure!(errors.is_empty(), "errors in a soak: {errors:?}");
        match &self.soak {
            Some((windows, _)) => soak::judge(windows),
            None => bail!("a soak needs the process of the server"),
        }
    }

    /// None without a process or without clients.
    fn kb_per_template_client(&self) -> Option<f64> {
        let process = self.process?;
        per_client(process.before, process.with_templates, self.templates)
    }

    fn kb_per_sharer(&self) -> Option<f64> {
        let process = self.process?;
        per_client(process.with_templates, process.with_sharers, self.sharing)
    }

    /// Of those that sent any.
    fn shares(&self) -> impl Iterator<Item = (Kind, &Tally)> {
        let all = Kind::ALL.map(|kind| (kind, self.board.shares(kind)));
        all.into_iter().filter(|(_, tally)| tally.good() > 0)
    }

    fn shares_json(&self) -> Value {
        let lasted = self.shared_for.as_secs_f64().max(1e-9);
        let of = |(kind, tally): (Kind, &Tally)| {
            (kind.name().to_owned(), tally.to_json(tally.good() as f64 / lasted))
        };
        Value::Object(self.shares().map(of).collect())
    }

    fn fmt_shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |kind| {
            self.board.shares(kind).bytes_per_share().map(|(sent, received)| sent + received)
        };
        let of_v1 = bytes(Kind::Sv1);
        for (kind, tally) in self.shares() {
            let (sent, received) = tally.bytes_per_share().unwrap_or_default();
            let rate = tally.good() as f64 / self.shared_for.as_secs_f64().max(1e-9);
            write!(
                f,
                "  {:<24} {} good, {rate:.1} a second; {:.1} bytes each ({sent:.1} to the server, \
                 {received:.1} from it)",
                kind.name().replace('_', " "),
                tally.good(),
                sent + received
            )?;
            match (kind, of_v1) {
                (Kind::Standard | Kind::Extended, Some(of_v1)) => {
                    writeln!(f, ", {:.0} % of SV1", (sent + received) / of_v1 * 100.0)?;
                }
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn kb_per_miner(&self) -> Option<f64> {
        let process = self.process?;
        per_client(process.with_sharers, process.with_miners, self.declaring)
    }
}

fn per_client(before: Memory, with: Memory, clients: usize) -> Option<f64> {
    let grown = with.pss_kb as f64 - before.pss_kb as f64;
    (clients > 0).then(|| grown / clients as f64)
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, run {}:", self.server, self.pair)?;
        let [a, b, c, d, e] = ["p50", "p90", "p99", "p99.9", "max"];
        let count = "count";
        writeln!(f, "  {:<24}{count:>9}{a:>10}{b:>10}{c:>10}{d:>10}{e:>10} ms", "")?;
        for (name, latencies) in self.latencies() {
            if latencies.count() == 0 {
                continue;
            }
            write!(f, "  {:<24}{:>9}", name.replace('_', " "), latencies.count())?;
            for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
                write!(f, "{:>10.2}", latencies.percentile_ms(percent))?;
            }
            writeln!(f)?;
        }
        for (what, started) in [("", self.started), (", after SIGKILL", self.restarted)] {
            if let Some(started) = started {
                fmt_start(f, what, started)?;
            }
        }
        writeln!(f, "  handshakes               {:.0} a second", self.handshakes_per_second())?;
        if let Some(bytes) = self.board.bytes_per_declaration() {
            let (rate, accepted) = (self.declarations_per_second(), self.ran.accepted);
            writeln!(f, "  declarations             {accepted} accepted, {rate:.1} a second")?;
            let asked = self.board.asked_txs.load(std::sync::atomic::Ordering::Relaxed);
            writeln!(f, "  bytes a declaration      {bytes}, transactions asked for {asked}")?;
        }
        self.fmt_shares(f)?;
        self.fmt_process(f)?;
        for (number, window) in self.soak.iter().flat_map(|(windows, _)| windows).enumerate() {
            let Window { pss_kb, descriptors, declaration_p50_ms: p50, declaration_p99_ms: p99 } =
                *window;
            let mb = pss_kb as f64 / 1024.0;
            writeln!(
                f,
                "  part {:<19} {mb:.1} MB, {descriptors} descriptors, declaration p50 {p50:.2} ms, \
                 p99 {p99:.2}",
                number + 1
            )?;
        }
        let errors = self.board.errors();
        if errors.is_empty() {
            return write!(f, "  errors                   none");
        }
        for (number, (code, count)) in errors.into_iter().enumerate() {
            let before = if number == 0 { "" } else { "\n" };
            write!(f, "{before}  error                    {count} x {code}")?;
        }
        Ok(())
    }
}

impl Run {
    fn fmt_process(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let course = self.course.as_secs_f64();
        let own = self.own_cpu.as_secs_f64();
        let Some(process) = self.process else {
            return writeln!(f, "  processor                {own:.1} s of {course:.1} s (load)");
        };
        let cpu = process.cpu.as_secs_f64();
        writeln!(
            f,
            "  processor                {cpu:.1} s (server), {own:.1} s (load) of {course:.1} s"
        )?;
        let mb = |kb: u64| kb as f64 / 1024.0;
        let Figures {
            before, with_templates, with_sharers, with_miners, after, descriptors, ..
        } = process;
        let [before, with_templates, with_sharers, with_miners, now, peak] = [
            before.pss_kb,
            with_templates.pss_kb,
            with_sharers.pss_kb,
            with_miners.pss_kb,
            after.pss_kb,
            after.peak_resident_kb,
        ]
        .map(mb);
        writeln!(
            f,
            "  memory                   {before:.1} MB before, {with_templates:.1} with template \
             clients, {with_sharers:.1} with miners of shares, {with_miners:.1} with declaring ones, {now:.1} after; peak {peak:.1} (resident)"
        )?;
        if let Some(kb) = self.kb_per_template_client() {
            writeln!(f, "  per template client      {kb:.1} kB")?;
        }
        if let Some(kb) = self.kb_per_sharer() {
            writeln!(f, "  per miner of shares      {kb:.1} kB")?;
        }
        if let Some(kb) = self.kb_per_miner() {
            writeln!(f, "  per miner connected      {kb:.1} kB")?;
        }
        writeln!(f, "  descriptors              {descriptors}")
    }
}

fn fmt_start(f: &mut fmt::Formatter<'_>, what: &str, started: Started) -> fmt::Result {
    write!(f, "  listens after            {:.2} s{what}", started.listened_in.as_secs_f64())?;
    if let Some(ready_in) = started.ready_in {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            ", ready after {:.2} s and {:.2} s of processor, on a database of {:.0} MB with {:.0} MB of \
             write-ahead log",
            ready_in.as_secs_f64(),
            started.cpu.as_secs_f64(),
            mb(started.database_bytes),
            mb(started.wal_bytes)
        )?;
    }
    writeln!(f)
}

fn start_json(started: Started) -> Value {
    json!({
        "listened_in_s": started.listened_in.as_secs_f64(),
        "ready_in_s": started.ready_in.map(|time| time.as_secs_f64()),
        "cpu_s": started.cpu.as_secs_f64(),
        "database_bytes": started.database_bytes,
        "wal_bytes": started.wal_bytes,
    })
}

/// The machine, and what it had to do besides.
pub(crate) fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_cpu = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let sha = of_cpu("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "sha_ni"));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = load.split(' ').next().and_then(|load| load.parse().ok());
    json!({
        "cores": cores,
        "cpu": of_cpu("model name"),
        "sha_ni": sha,
        "load_average_before": load,
    })
}

/// What was played.
pub(crate) fn course(args: &Args) -> Value {
    json!({
        "store_shares": args.store_shares,
        "declaring": args.declaring,
        "template_clients": args.templates,
        "constraints": args.constraints,
        "mining": args.mining,
        "share_rate_per_second": args.share_rate,
        "share_batch": args.share_batch,
        "transactions": args.transactions,
        "unknown_percent": args.unknown,
        "rate_per_second": args.rate,
        "arrivals": match args.arrivals { Arrivals::Even => "even", Arrivals::Random => "random" },
        "seconds": args.seconds,
        "storms": args.storms,
        "tip_every_s": args.tip_every,
        "solutions": args.solutions,
        "soak": args.soak,
        "token_rate_per_second": args.token_rate,
    })
}

/// Of a process that may be unknown.
pub(crate) fn memory(process: Option<&ProcessReader>) -> anyhow::Result<Memory> {
    process.map_or(Ok(Memory::default()), ProcessReader::memory)
}

/// As [`memory`].
pub(crate) fn cpu(process: Option<&ProcessReader>) -> anyhow::Result<Duration> {
    process.map_or(Ok(Duration::ZERO), ProcessReader::cpu)
}
