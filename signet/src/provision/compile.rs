//! Bitcoin Core built from source: cmake and ninja, with progress.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::progress::{Paced, Progress};
use super::source::{BUILT_VERSION, last_chars, locate_source};
use super::{ProvisionError, download, packages};

/// A node with RPC and IPC, and nothing that a mining server has no use for.
const CMAKE_FLAGS: [&str; 12] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DENABLE_IPC=ON",
    "-DENABLE_WALLET=OFF",
    "-DENABLE_EXTERNAL_SIGNER=OFF",
    "-DWITH_ZMQ=OFF",
    "-DWITH_EMBEDDED_ASMAP=OFF",
    "-DBUILD_TESTS=OFF",
    "-DBUILD_BENCH=OFF",
    "-DBUILD_TX=OFF",
    "-DBUILD_UTIL=OFF",
    "-DBUILD_GUI=OFF",
    "-DINSTALL_MAN=OFF",
];
/// What is built, and kept.
const TARGETS: [&str; 2] = ["bitcoin-node", "bitcoin-cli"];
/// Memory that one compiler may need, kB.
const COMPILER_KB: u64 = 1_200_000;
/// Characters shown of the end of a failed step's output.
const TAIL_CHARS: usize = 3_000;
/// Lines of ninja's output kept for that.
const LINES_KEPT: usize = 60;

/// Builds into `cache`. An interrupted build goes on from where it was.
pub(super) fn build(cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf, ProvisionError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ProvisionError::Io { what, path, source }
    };
    packages::ensure_build_packages(progress)?;
    let work = cache.join(".build");
    std::fs::create_dir_all(&work).map_err(io("creating", &work))?;
    progress.say("getting the Bitcoin Core source through cargo");
    let source = locate_source(&work)?;
    let tree = work.join("tree");

    progress.say(&format!("configuring the build of {}", source.display()));
    let mut cmake = Command::new("cmake");
    cmake.args(["-G", "Ninja", "-S"]).arg(&source).arg("-B").arg(&tree).args(CMAKE_FLAGS);
    run("cmake", cmake, &work, |_| {})?;

    let jobs = jobs();
    progress.say(&format!(
        "building bitcoin-node and bitcoin-cli with {jobs} compilers at a time (12 minutes on 2 \
         cores)"
    ));
    let mut ninja = Command::new("cmake");
    ninja
        .arg("--build")
        .arg(&tree)
        .args(["--parallel", &jobs.to_string(), "--target"])
        .args(TARGETS)
        .env("NINJA_STATUS", "[%f/%t] ");
    let mut paced = Paced::new(progress);
    run("the compilation", ninja, &work, |line| {
        if let Some((done, total)) = parse_status(line) {
            paced.figure(done, total, "build steps");
        }
    })?;

    let finished = work.join("finished");
    let _ = std::fs::remove_dir_all(&finished);
    std::fs::create_dir(&finished).map_err(io("creating", &finished))?;
    for name in TARGETS {
        let built = tree.join("bin").join(name);
        std::fs::copy(&built, finished.join(name)).map_err(io("copying", &built))?;
    }
    let version = download::place(&finished, cache, BUILT_VERSION).map_err(io("filling", cache))?;
    // Hundreds of megabytes that nobody needs again.
    let _ = std::fs::remove_dir_all(&work);
    Ok(version.join("bitcoin-node"))
}

/// Runs a step, gives each line it writes to `seen`, and keeps the last ones for an error.
fn run(
    step: &'static str,
    mut command: Command,
    work: &Path,
    mut seen: impl FnMut(&str),
) -> Result<(), ProvisionError> {
    let failed = |status: String, tail: String| ProvisionError::Build { step, status, tail };
    let stderr_path = work.join("stderr");
    let start = |error: std::io::Error| failed(error.to_string(), String::new());
    let stderr = File::create(&stderr_path).map_err(start)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(start)?;
    let mut last = std::collections::VecDeque::with_capacity(LINES_KEPT);
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
    let stderr = std::fs::read(&stderr_path).unwrap_or_default();
    let all =
        format!("{}\n{}", last.make_contiguous().join("\n"), String::from_utf8_lossy(&stderr));
    Err(failed(status.to_string(), last_chars(all.trim(), TAIL_CHARS).to_owned()))
}

/// `(12, 345)` from `[12/345] Building CXX object …`.
fn parse_status(line: &str) -> Option<(u64, u64)> {
    let (status, _) = line.strip_prefix('[')?.split_once(']')?;
    let (done, total) = status.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

/// Compilers at a time: one a core, as far as the memory goes.
fn jobs() -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    memory.map_or(cores, |kb| cores.min(kb / COMPILER_KB)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ninjas_status() {
        assert_eq!(parse_status("[12/345] Building CXX object x.o"), Some((12, 345)));
        assert_eq!(parse_status("[a/345] Building"), None);
        assert_eq!(parse_status("warning: [1/2] is no status"), None);
    }

    #[test]
    fn a_failed_step_shows_what_it_wrote_last() {
        let work = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo '[1/2] one'; echo broken here >&2; exit 3"]);
        let mut lines = Vec::new();
        let error =
            run("the test", command, work.path(), |line| lines.push(line.to_owned())).unwrap_err();
        assert_eq!(lines, ["[1/2] one"]);
        let text = error.to_string();
        assert!(text.contains("the test failed (exit status: 3)"), "{text}");
        assert!(text.contains("broken here"), "{text}");
    }
}
