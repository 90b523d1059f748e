//! System packages: installed where apt-get is, named where not.

use std::path::Path;
use std::process::{Command, Stdio};

use super::ProvisionError;
use super::child;
use super::progress::{Paced, Progress};
use super::source::last_chars;

/// Debian's packages for the build.
pub(super) const BUILD_PACKAGES: [&str; 8] = [
    "cmake",
    "ninja-build",
    "g++",
    "libboost-dev",
    "libevent-dev",
    "capnproto",
    "libcapnp-dev",
    "pkgconf",
];
/// Debian's package with the libraries that a built bitcoin-node runs with.
pub(super) const RUN_PACKAGES: [&str; 1] = ["capnproto"];

/// The same for other systems: a program that tells the system, and the command.
const OTHER_SYSTEMS: [(&str, &str); 4] = [
    ("brew", "brew install cmake ninja boost libevent capnp pkgconf"),
    (
        "dnf",
        "sudo dnf install cmake ninja-build gcc-c++ boost-devel libevent-devel capnproto \
         capnproto-devel pkgconf",
    ),
    ("pacman", "sudo pacman -S cmake ninja gcc boost libevent capnproto pkgconf"),
    (
        "apk",
        "sudo apk add cmake samurai g++ boost-dev libevent-dev capnproto capnproto-dev pkgconf \
         linux-headers",
    ),
];
/// Programs without which a build can not start.
const BUILD_PROGRAMS: [&str; 5] = ["cmake", "ninja", "capnp", "c++", "pkg-config"];
/// Characters of apt-get's complaint that are shown.
const COMPLAINT_CHARS_MAX: usize = 1_000;
/// Options of every apt-get: no bars, and up to two minutes for another one to finish, such as the
/// updates of a machine that has just started.
const APT_OPTIONS: [&str; 3] = ["-q", "-o", "DPkg::Lock::Timeout=120"];
/// What apt-get says once, and is worth knowing.
const APT_ALWAYS: [&str; 2] = ["Need to get ", "After this operation"];

/// Makes sure that a build can start; on Debian and Ubuntu by installing what is missing.
pub(super) fn ensure_build_packages(progress: &mut dyn Progress) -> Result<(), ProvisionError> {
    let needed = "building Bitcoin Core needs system packages";
    if is_debian() {
        return install_debian(needed, &BUILD_PACKAGES, progress);
    }
    let missing: Vec<_> = BUILD_PROGRAMS.into_iter().filter(|name| !on_path(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("not found: {}", missing.join(", "));
    Err(ProvisionError::Packages { needed, reason, command: other_command() })
}

/// Installs the libraries that a built binary runs with; false where that is not ours to do.
pub(super) fn ensure_run_packages(progress: &mut dyn Progress) -> Result<bool, ProvisionError> {
    if !is_debian() {
        return Ok(false);
    }
    install_debian("bitcoin-node needs Cap'n Proto", &RUN_PACKAGES, progress)?;
    Ok(true)
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && on_path("apt-get")
}

fn other_command() -> String {
    OTHER_SYSTEMS.iter().find(|(program, _)| on_path(program)).map_or_else(
        || {
            "your package manager for: cmake ninja, a C++20 compiler, boost, libevent, \
             capnproto, pkgconf"
                .to_owned()
        },
        |(_, command)| (*command).to_owned(),
    )
}

pub(super) fn on_path(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn install_debian(
    needed: &'static str,
    packages: &[&str],
    progress: &mut dyn Progress,
) -> Result<(), ProvisionError> {
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let sudo = !is_root();
    let list = missing.join(" ");
    let prefix = if sudo { "sudo " } else { "" };
    let command = format!("{prefix}apt-get install -y --no-install-recommends {list}");
    let failed = |reason: String| ProvisionError::Packages {
        needed,
        reason,
        command: format!("{prefix}apt-get update && {command}"),
    };
    if sudo && !on_path("sudo") {
        return Err(failed("this is not root, and there is no sudo".to_owned()));
    }
    progress.say(&format!("{needed}: installing {list} (this can take a few minutes)"));
    if sudo {
        progress.say("  (sudo may ask for your password)");
    }
    // A list of packages that is too old, or absent, is no failure yet.
    let _ = apt_get(sudo, &["update"], progress);
    let mut args = vec!["-y", "--no-install-recommends", "install"];
    args.extend(&missing);
    apt_get(sudo, &args, progress).map_err(failed)
}

fn apt_get(sudo: bool, args: &[&str], progress: &mut dyn Progress) -> Result<(), String> {
    // Through env, as sudo drops what was set for it.
    let mut command = Command::new(if sudo { "sudo" } else { "env" });
    if sudo {
        command.arg("env");
    }
    // Standard input stays the terminal's, for the password.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(APT_OPTIONS).args(args);
    follow(command, progress).map_err(|child::Failed { status, tail }| {
        let complaint = last_chars(&tail, COMPLAINT_CHARS_MAX);
        format!("apt-get {}: {complaint} ({status})", args.join(" "))
    })
}

/// Runs apt-get and shows, now and then, what it is at.
fn follow(command: Command, progress: &mut dyn Progress) -> Result<(), child::Failed> {
    let mut paced = Paced::new(progress);
    child::run(command, |line| {
        // What it writes over again and again, such as the percent of what it has read.
        if line.is_empty() || line.contains('\r') {
            return;
        }
        if APT_ALWAYS.iter().any(|start| line.starts_with(start)) {
            paced.say(line);
        } else {
            paced.line(line);
        }
    })
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::Lines;

    #[test]
    fn what_apt_get_is_at_is_shown_but_not_every_line() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo Reading package lists...; echo 'Need to get 61.5 MB of archives.'; \
             printf '(Reading database ... 5%%\\r(Reading database ... 100%%\\n'; \
             for i in $(seq 1000); do echo Unpacking $i; done; echo E: no such package >&2; exit 100",
        ]);
        let mut said = Lines(Vec::new());
        let failed = follow(command, &mut said).unwrap_err();
        let said = String::from_utf8(said.0).unwrap();
        assert!(said.starts_with("    0 s  Reading package lists...\n"), "{said}");
        assert!(said.contains("s  Need to get 61.5 MB of archives.\n"), "{said}");
        assert!(!said.contains("database"), "{said}");
        // The first line, the one that is always shown, and one for each two seconds at most.
        assert!(said.lines().count() < 50, "{said}");
        assert!(failed.tail.ends_with("E: no such package"), "{}", failed.tail);
    }
}
