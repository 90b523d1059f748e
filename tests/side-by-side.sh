#!/usr/bin/env bash
# Measures this server and the reference implementation in turns, on the same node and machine: a pair is
# both, one after the other. Numbers of the two from different runs say nothing about them.
#
#   tests/side-by-side.sh PATH/TO/pool_sv2 [PAIRS]      three pairs, if nothing else is said
#
# POOL_SV2_EXE stands for the path as well. The figures as JSON go to target/figures/.
set -euo pipefail
cd "$(dirname "$0")/.."

reference=${1:-${POOL_SV2_EXE:-}}
pairs=${2:-3}
if [ ! -x "$reference" ]; then
  echo "Say where pool_sv2 is: tests/side-by-side.sh PATH/TO/pool_sv2" >&2
  echo "Get it with: cargo install --locked --root DIR pool_sv2@0.7.0" >&2
  exit 2
fi
out=target/figures
mkdir -p "$out"

echo "== building" >&2
cargo build --locked --release --quiet -p jds -p jds-tests --bin jds --bin load --bin declare-bench
bin=target/release

course() {
  name=$1
  shift
  printf '\n== %s: %s\n' "$name" "$*" >&2
  "$bin/load" --self-contained --reference "$reference" --pairs "$pairs" --json "$out/pair-$name.json" "$@"
}

course one-client --declaring 1 --rate 4 --for 15
course rate --declaring 20 --rate 8 --for 15
# No more than the reference gets through in a minute.
course storm --declaring 100 --storms 1

python3 tests/figures.py pairs "$out"
