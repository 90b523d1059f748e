//! The Python program as a process of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use jds_tests::PATIENCE;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Awards, THRESHOLD};

/// Lines of its log that a failure shows.
const LOG_LINES: usize = 30;

/// Every award that was told of, by all runs, in order.
#[derive(Default)]
struct Told {
    awards: Mutex<Vec<(String, String, u64)>>,
    more: Condvar,
}

/// See the module.
pub(crate) struct Reader {
    dir: TempDir,
    url: String,
    /// Options beside those for state, server and threshold.
    pub(crate) options: Vec<String>,
    child: Option<Child>,
    told: Arc<Told>,
    /// How often it was killed.
    pub(crate) kills: usize,
}

impl Reader {
    /// Not started yet, without any state.
    pub(crate) fn new(url: String) -> Self {
        Self {
            dir: TempDir::with_prefix("jds-badges-").unwrap(),
            url,
            options: Vec::new(),
            child: None,
            told: Arc::default(),
            kills: 0,
        }
    }

    fn command(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/examples/badges.py");
        let mut command = Command::new("python3");
        command
            .arg(script)
            .arg("--state")
            .arg(self.dir.path().join("badges.sqlite"))
            .args(["--url", &self.url, "--threshold", &THRESHOLD.to_string()])
            .args(&self.options)
            // Proxies of this machine are none of the test's.
            .env("no_proxy", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        command.stderr(log).spawn().unwrap_or_else(|error| {
            panic!(
                "python3 can not be run ({error}). It has to be on the PATH, version 3.9 or newer: \
                 ./test.sh installs it where it can; elsewhere: apt-get install python3, or the like"
            )
        })
    }

    /// Starts it. What it tells is collected.
    pub(crate) fn start(&mut self) {
        let mut child = self.spawn(&mut self.command());
        let (lines, told) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&self.told));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let award = award(&line);
                told.awards.lock().unwrap().push(award);
                told.more.notify_all();
            }
        });
        self.child = Some(child);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
    }

    /// Runs it with one more option until it ends by itself.
    pub(crate) fn run(&self, option: &str) -> (ExitStatus, Vec<(String, String, u64)>) {
        let output = self.spawn(self.command().arg(option)).wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status, text.lines().map(award).collect())
    }

    /// Its awards, as they are in its file: each once.
    #[track_caller]
    pub(crate) fn awards(&self) -> Awards {
        let (status, list) = self.run("--list");
        assert!(status.success(), "--list ended with {status}{}", self.log());
        let count = list.len();
        let awards: Awards =
            list.into_iter().map(|(user, badge, at)| ((user, badge), at)).collect();
        assert_eq!(awards.len(), count, "an award is in the file twice");
        awards
    }

    /// Different awards that were told of so far.
    pub(crate) fn told(&self) -> Awards {
        let told = self.told.awards.lock().unwrap();
        told.iter().map(|(user, badge, at)| ((user.clone(), badge.clone()), *at)).collect()
    }

    /// Lines that told of an award that had been told of before.
    pub(crate) fn told_again(&self) -> usize {
        let lines = self.told.awards.lock().unwrap().len();
        lines - self.told().len()
    }

    /// Waits until so many different awards were told of.
    #[track_caller]
    pub(crate) fn wait_told(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.told().len() < count {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the reader ended with {ended:?}{}", self.log());
            let left = deadline.saturating_duration_since(Instant::now());
            let told = self.told().len();
            assert!(!left.is_zero(), "waited for {count} awards, got {told}{}", self.log());
            let lines = self.told.awards.lock().unwrap();
            // Short, to see an end of the process too.
            let pause = left.min(std::time::Duration::from_millis(100));
            drop(self.told.more.wait_timeout(lines, pause).unwrap());
        }
    }

    /// Waits until its log says something.
    #[track_caller]
    pub(crate) fn wait_logged(&self, words: &str) {
        let what = format!("{words:?} in the reader's log");
        let said = signet::wait::until_true(&what, PATIENCE, || self.logged(words));
        assert!(said.is_ok(), "waited for {what}{}", self.log());
    }

    pub(crate) fn logged(&self, words: &str) -> bool {
        fs::read_to_string(self.log_file()).unwrap_or_default().contains(words)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The end of its log, for messages.
    pub(crate) fn log(&self) -> String {
        let file = File::open(self.log_file()).map(BufReader::new);
        let lines: Vec<_> =
            file.into_iter().flat_map(|file| file.lines().map_while(Result::ok)).collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("; the end of its log:\n{}", end.join("\n"))
    }

    /// A file beside its state.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A line of the reader: user, badge and time.
fn award(line: &str) -> (String, String, u64) {
    let award: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    let text = |field: &str| award[field].as_str().unwrap().to_owned();
    (text("user"), text("badge"), award["at"].as_u64().unwrap())
}
