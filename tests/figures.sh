#!/usr/bin/env bash
# All figures of guides/src/performance.md in one go, about eight minutes on two quiet cores: each beside its
# target, and a plot. What goes on beside it on the machine is in them: see the load average that it prints.
#
#   tests/figures.sh              all of them
#   tests/figures.sh NAME ...     those named (see `course` below)
#   POOL_SV2_EXE=PATH tests/figures.sh      with a pair of the reference implementation's
#
# The figures as JSON and the plot go to target/figures/.
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/figures
mkdir -p "$out"

echo "== building" >&2
cargo build --locked --release --quiet -p jds -p jds-tests --bin jds --bin load
bin=target/release
wanted=" $* "
failed=

course() {
  name=$1
  shift
  if [ "$wanted" != "  " ] && [[ "$wanted" != *" $name "* ]]; then return; fi
  printf '\n== %d:%02d %s: load --self-contained %s\n' "$((SECONDS / 60))" "$((SECONDS % 60))" "$name" "$*" >&2
  # One that fails is no reason to do without the others.
  "$bin/load" --self-contained --json "$out/$name.json" "$@" || failed="$failed $name"
}

uptime >&2
course tokens --declaring 100 --rate 100 --for 30 --token-rate 100
course sustained --declaring 100 --rate 200 --for 20
course unknown --declaring 100 --rate 20 --for 20 --unknown 5
course one-client --declaring 1 --rate 5 --for 20
course storm --declaring 1000 --storms 3
course memory --declaring 1000 --storms 1
course tips --declaring 0 --templates 1000 --tip-every 2 --for 30
course solutions --declaring 50 --rate 50 --for 5 --solutions 25
course shares --declaring 0 --mining 600 --share-rate 3000 --share-batch 1 --for 15
course shares-standard --declaring 0 --mining 4000 --mining-kinds standard --share-rate 30000 --for 10
course shares-extended --declaring 0 --mining 2000 --mining-kinds extended --share-rate 15000 --for 10
course share-bytes --declaring 0 --mining 30 --share-rate 30 --tip-every 3 --for 60
course start --store-shares 1000000 --declaring 0 --mining 600 --share-rate 3000 --for 10
course connections --declaring 1000 --rate 5 --mining 10000 --share-rate 500 --for 15
if [ -x "${POOL_SV2_EXE:-}" ]; then
  course pair-one-client --reference "$POOL_SV2_EXE" --declaring 1 --rate 4 --for 10
fi
uptime >&2

python3 tests/figures.py table "$out"
python3 tests/figures.py plot "$out" >"$out/figures.svg"
echo "plot: $out/figures.svg" >&2
if [ -n "$failed" ]; then
  echo "failed:$failed" >&2
  exit 1
fi
