//! System packages: installed where apt-get is, named where not.

use std::path::Path;
use std::process::{Command, Stdio};

use super::ProvisionError;
use super::progress::Progress;

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
    progress.say(&format!("{needed}: installing {list}"));
    if sudo {
        progress.say("  (sudo may ask for your password)");
    }
    // A list of packages that is too old, or absent, is no failure yet.
    let _ = apt_get(sudo, &["-qq", "update"]);
    let mut args = vec!["-qq", "-y", "--no-install-recommends", "install"];
    args.extend(&missing);
    apt_get(sudo, &args).map_err(failed)
}

fn apt_get(sudo: bool, args: &[&str]) -> Result<(), String> {
    // Through env, as sudo drops what was set for it.
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    words.extend(args);
    let mut command = if sudo {
        let mut command = Command::new("sudo");
        command.args(words);
        command
    } else {
        let mut command = Command::new("env");
        command.args(words.get(1..).unwrap_or_default());
        command
    };
    // Standard input stays the terminal's, for the password.
    let output = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaint: String = stderr.trim().chars().take(COMPLAINT_CHARS_MAX).collect();
    Err(format!("apt-get {}: {complaint} ({})", args.join(" "), output.status))
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
