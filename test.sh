#!/usr/bin/env bash
# Runs every test, against a real Bitcoin Core. Gets what is missing by itself.
#
#   ./test.sh              all tests
#   ./test.sh NAME ...     arguments go to `cargo test`
set -euo pipefail
cd "$(dirname "$0")"
source signet/setup.sh
need_python

say "node: looking for a Bitcoin Core, getting one if there is none"
cargo build --locked --quiet -p jds
BITCOIN_NODE_EXE=$(cargo run --locked --quiet -p jds -- node install)
export BITCOIN_NODE_EXE

say "tests: building and running"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --workspace --lib --bins --tests --no-fail-fast -- "$@" 2>&1 | tee "$log" || status=$?
awk '/^test result:/ { passed += $4; failed += $6 }
     END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
