//! Programs that run for minutes: what they write is read line by line, and its end is kept for an
//! error.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Command, Stdio};

use super::source::last_chars;

/// Characters shown of the end of what a failed program wrote.
const TAIL_CHARS: usize = 3_000;
/// Lines of standard output kept for that.
const LINES_KEPT: usize = 60;

/// A program that could not be started, or failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// How it ended.
    pub(super) status: String,
    /// The end of what it wrote.
    pub(super) tail: String,
}

/// Runs a program to its end and gives each line of its standard output to `seen`.
pub(super) fn run(mut command: Command, mut seen: impl FnMut(&str)) -> Result<(), Failed> {
    let start = |error: std::io::Error| Failed { status: error.to_string(), tail: String::new() };
    let mut stderr = tempfile::tempfile().map_err(start)?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(stderr.try_clone().map_err(start)?)
        .spawn()
        .map_err(start)?;
    let mut last = VecDeque::with_capacity(LINES_KEPT);
    if let Some(stdout) = child.stdout.take() {
        // Compilers may write what is not UTF-8.
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            seen(&line);
            if last.len() == LINES_KEPT {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(());
    }
    let mut complaints = Vec::new();
    let _ = stderr.seek(SeekFrom::Start(0)).and_then(|_| stderr.read_to_end(&mut complaints));
    let all =
        format!("{}\n{}", last.make_contiguous().join("\n"), String::from_utf8_lossy(&complaints));
    Err(Failed { status: status.to_string(), tail: last_chars(all.trim(), TAIL_CHARS).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_shows_what_it_wrote_last() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '[1/2] one'; echo broken here >&2; exit 3"]);
        let mut lines = Vec::new();
        let failed = run(command, |line| lines.push(line.to_owned())).unwrap_err();
        assert_eq!(lines, ["[1/2] one"]);
        assert_eq!(failed.status, "exit status: 3");
        assert_eq!(failed.tail, "[1/2] one\nbroken here");
        let failed = run(Command::new("/no/such/program"), |_| {}).unwrap_err();
        assert!(failed.status.contains("No such file"), "{failed:?}");
    }
}
