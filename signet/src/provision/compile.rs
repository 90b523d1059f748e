//! Bitcoin Core built from source: cmake and ninja, with progress.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::progress::{Paced, Progress};
use super::source::{BUILT_VERSION, locate_source};
use super::{ProvisionError, child, download, packages, space};

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
/// Room that the build takes, MB: its tree 124, the binaries beside it 27, the source in cargo's
/// cache 24 (as measured), and as much again.
const BUILD_MB: u64 = 400;

/// Builds into `cache`. An interrupted build goes on from where it was.
pub(super) fn build(cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf, ProvisionError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ProvisionError::Io { what, path, source }
    };
    let work = cache.join(".build");
    std::fs::create_dir_all(&work).map_err(io("creating", &work))?;
    space::ensure(&work, BUILD_MB)?;
    packages::ensure_build_packages(progress)?;
    progress.say("getting the Bitcoin Core source through cargo");
    let source = locate_source(&work)?;
    let tree = work.join("tree");

    progress.say(&format!("configuring the build of {}", source.display()));
    let mut cmake = Command::new("cmake");
    cmake.args(["-G", "Ninja", "-S"]).arg(&source).arg("-B").arg(&tree).args(CMAKE_FLAGS);
    run("cmake", cmake, |_| {})?;

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
    run("the compilation", ninja, |line| {
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
    // More than a hundred megabytes that nobody needs again.
    let _ = std::fs::remove_dir_all(&work);
    Ok(version.join("bitcoin-node"))
}

/// Runs a step of the build.
fn run(
    step: &'static str,
    mut command: Command,
    seen: impl FnMut(&str),
) -> Result<(), ProvisionError> {
    command.stdin(Stdio::null());
    child::run(command, seen).map_err(|child::Failed { status, tail }| ProvisionError::Build {
        step,
        status,
        tail,
    })
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
}
