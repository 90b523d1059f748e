#!/usr/bin/env bash
# The whole story on a private chain: node, server, miner, block. Gets what is missing by itself.
#
#   ./demo.sh                     on regtest
#   ./demo.sh --network signet    on a private signet, where blocks cost seconds
#   ./demo.sh --help              what else there is
set -euo pipefail
cd "$(dirname "$0")"
source signet/setup.sh

say "building the server (release)"
cargo build --locked --release -p jds
exec cargo run --locked --quiet --release -p jds -- demo "$@"
