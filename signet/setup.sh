# Sourced by the scripts at the top, from there: what a fresh machine needs before anything can be
# built. The server's own commands install what a node needs.

say() { printf '\n== %s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a line of shell as root.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    sh -c "$1"
  elif have sudo; then
    sudo sh -c "$1"
  else
    printf 'This is not root, and there is no sudo. Run as root, then try again:\n  %s\n' "$1" >&2
    return 1
  fi
}

# Installs packages on Debian and its relatives: apt_install "gcc libc6-dev"
apt_install() {
  install="apt-get install -y -qq -o DPkg::Lock::Timeout=120 $1"
  as_root "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; $install" >&2
}

# For the tests alone: one of them runs the guide's example of an event reader.
need_python() {
  if have python3; then return; fi
  if have apt-get; then
    say "installing Python (a test runs the guide's event reader)"
    apt_install python3
  else
    echo "Python 3 is missing (a test runs the guide's event reader). Install it, for example with" >&2
    echo "  dnf install python3    or    pacman -S python    or    xcode-select --install" >&2
    return 1
  fi
}

# The workspace's own word on the oldest compiler, such as 1.95.
rust_wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)

# True when the first version is the second one or newer: rust_is_new 1.96.0 1.95
rust_is_new() {
  local have_major have_minor want_major want_minor _
  IFS=. read -r have_major have_minor _ <<<"$1"
  IFS=. read -r want_major want_minor _ <<<"$2"
  [ "$have_major" -gt "$want_major" ] ||
    { [ "$have_major" = "$want_major" ] && [ "$have_minor" -ge "$want_minor" ]; }
}

# True when cargo and a compiler that is new enough are on PATH. Sets rust_found to its version.
rust_is_ready() {
  rust_found=
  have cargo && have rustc || return 1
  rust_found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
  [ -n "$rust_found" ] && rust_is_new "$rust_found" "$rust_wanted"
}

# A rustup of a minute ago is not on the PATH of a shell that was open before.
rust_env="${CARGO_HOME:-${HOME:-}/.cargo}/env"
if ! rust_is_ready && [ -r "$rust_env" ]; then
  # shellcheck source=/dev/null
  . "$rust_env"
  hash -r
fi
if ! rust_is_ready; then
  {
    if [ -n "$rust_found" ]; then
      echo "Rust $rust_found ($(command -v rustc)) is too old; this needs $rust_wanted or newer."
    elif have rustup; then
      echo "Rust is installed without a compiler; this needs $rust_wanted or newer."
    else
      echo "Rust is missing; this needs $rust_wanted or newer."
    fi
    if have rustup; then
      echo "Run this, then try again:"
      echo "  rustup update stable && rustup default stable"
      if [ -n "${RUSTUP_TOOLCHAIN:-}" ]; then
        echo "RUSTUP_TOOLCHAIN is set to $RUSTUP_TOOLCHAIN, which decides: unset it."
      fi
    else
      echo "Get it with rustup (https://rustup.rs), which goes into your home directory:"
      if ! have curl; then echo "  (curl is missing too: apt-get install curl, or the like)"; fi
      echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
      echo "then try again."
    fi
  } >&2
  exit 1
fi

if ! have cc; then
  if have apt-get; then
    say "installing a C compiler (some Rust crates contain C); a minute or two"
    apt_install "gcc libc6-dev"
  else
    echo "A C compiler is missing (some Rust crates contain C). Install one, for example with" >&2
    echo "  dnf install gcc    or    pacman -S gcc    or    xcode-select --install" >&2
    exit 1
  fi
fi

# The messages of Bitcoin Core's IPC are compiled from their schema, which imports another one that
# Debian has in the package of the library.
capnp_is_ready() {
  have capnp || return 1
  local dir ready=1
  dir=$(mktemp -d) || return 1
  printf '@0x%s;\nusing Cxx = import "/capnp/c++.capnp";\n$Cxx.namespace("x");\n' \
    "$(capnp id | sed 's/^@0x//')" >"$dir/probe.capnp"
  capnp compile -o- "$dir/probe.capnp" >/dev/null 2>&1 && ready=0
  rm -rf "$dir"
  return "$ready"
}

if ! capnp_is_ready; then
  if have apt-get; then
    say "installing the compiler of Cap'n Proto (for Bitcoin Core's IPC)"
    apt_install "capnproto libcapnp-dev"
  else
    echo "The compiler of Cap'n Proto is missing (for Bitcoin Core's IPC). Install it, for example with" >&2
    echo "  dnf install capnproto capnproto-devel    or    pacman -S capnproto    or    brew install capnp" >&2
    exit 1
  fi
fi
