# Sourced by the scripts at the top: what a fresh machine needs before anything can be built.
# The server's own commands install what a node needs.

say() { printf '\n== %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v cargo >/dev/null; then
  echo "Rust is missing. Install it from https://rustup.rs, then run this again." >&2
  exit 1
fi

if ! command -v cc >/dev/null; then
  if command -v apt-get >/dev/null; then
    say "installing a C compiler (some Rust crates contain C)"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev
  else
    echo "A C compiler is missing (some Rust crates contain C). Install one, for example with" >&2
    echo "  dnf install gcc    or    pacman -S gcc    or    xcode-select --install" >&2
    exit 1
  fi
fi
