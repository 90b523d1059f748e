//! What was found: printed line by line, or kept for one JSON object.

use anyhow::bail;
use serde::Serialize;

use super::code::Code;

/// How a check ended; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work like this.
    Problem,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) name: String,
    /// How it is.
    pub(super) status: Status,
    /// Names what was found, for scripts and for the guide; none where all is well.
    pub(super) code: Option<Code>,
    /// What was found, in one sentence.
    pub(super) message: String,
    /// What to do about it; none where all is well.
    pub(super) advice: Option<String>,
}

impl Check {
    /// All is well.
    pub(super) fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        let (name, message) = (name.into(), message.into());
        Self { name, status: Status::Ok, code: None, message, advice: None }
    }

    /// Something is not; how bad that is belongs to the code.
    pub(super) fn bad(
        name: impl Into<String>,
        code: Code,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            status: code.status(),
            code: Some(code),
            message: message.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Everything that was found so far.
#[derive(Debug)]
pub(super) struct Report {
    lines: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Whole<'a> {
    status: Status,
    checks: &'a [Check],
}

impl Report {
    /// With `lines` each check is printed as it comes; otherwise all of them at the end, as JSON.
    pub(super) fn new(lines: bool) -> Self {
        Self { lines, checks: Vec::new() }
    }

    pub(super) fn push(&mut self, check: Check) {
        if self.lines {
            println!("{}", line(&check));
        }
        self.checks.push(check);
    }

    pub(super) fn ok(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.push(Check::ok(name, message));
    }

    pub(super) fn bad(
        &mut self,
        name: impl Into<String>,
        code: Code,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.push(Check::bad(name, code, message, advice));
    }

    /// Prints what is still to be printed.
    ///
    /// # Errors
    /// There is a problem, or standard output is gone.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let status = self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let (problems, warnings) = (count(Status::Problem), count(Status::Warning));
        if self.lines {
            println!("{} checks: {problems} problems, {warnings} warnings", self.checks.len());
        } else {
            println!("{}", serde_json::to_string(&Whole { status, checks: &self.checks })?);
        }
        if status == Status::Problem {
            bail!("jds doctor found {problems} problem(s)");
        }
        Ok(())
    }
}

/// `status  name: message [code]`, and the advice on a line of its own.
fn line(check: &Check) -> String {
    let Check { name, status, code, message, advice } = check;
    let mut line = format!("{:<8} {name}: {}", status.as_str(), one_line(message));
    if let Some(code) = code {
        line.push_str(&format!(" [{}]", code.as_str()));
    }
    if let Some(advice) = advice {
        line.push_str(&format!("\n         -> {}", one_line(advice)));
    }
    line
}

/// Text of a node or of the system must not start a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_and_its_advice_another() {
        let ok = Check::ok("a", "b\nc");
        assert_eq!(line(&ok), "ok       a: b c");
        let bad = Check::bad("a", Code::NodeSyncing, "m", "do\x1bthis");
        assert_eq!(line(&bad), "warning  a: m [node-syncing]\n         -> do this");
    }

    #[test]
    fn problems_alone_are_a_failure() {
        for (code, fails) in [(Code::NodeSyncing, false), (Code::NodeUnreachable, true)] {
            let mut report = Report::new(false);
            report.ok("a", "b");
            report.bad("c", code, "d", "e");
            assert_eq!(report.finish().is_err(), fails, "{code:?}");
        }
    }
}
