"""What tests/figures.sh and tests/side-by-side.sh measured, beside the targets.

    python3 tests/figures.py table DIR      a table
    python3 tests/figures.py plot DIR       latencies and their targets, as SVG on the standard output
    python3 tests/figures.py pairs DIR      this server beside the reference implementation
"""

import json
import math
import pathlib
import sys

# Course, what it is, how to read it, target, unit; a target is the most, or with ">" the least.
LATENCIES = [
    ("one-client", "declaration, one client", "declaration", 8),
    ("tokens", "declaration at 100 a second", "declaration", 10),
    ("sustained", "declaration at 200 a second", "declaration", None),
    ("unknown", "declaration, 5 % unknown", "declaration", None),
    ("tokens", "token under declarations", "token", 2),
    ("storm", "declaration in a storm of 1,000", "declaration", 6_000),
    ("storm", "token in a storm of 1,000", "token", 20),
    ("tips", "tip to work of 1,000 clients", "tip_to_work", 20),
    ("solutions", "solution to submission, the server", "solution_handed_over", 5),
    ("solutions", "the same, as the node has it", "solution_to_submission", None),
    ("shares", "share, SV2 standard", "share_sv2_standard", 2),
    ("shares", "share, SV2 extended", "share_sv2_extended", 2),
    ("shares", "share, SV1", "share_sv1", None),
]


def share_rate(kind):
    return lambda run: run["shares"][kind]["per_second"]


def of_sv1(kind):
    def percent(run):
        shares = run["shares"]
        return 100 * shares[kind]["bytes_per_share"] / shares["share_sv1"]["bytes_per_share"]

    return percent


def memory_mb(run):
    return run["process"]["peak_resident_kb"] / 1024


OTHERS = [
    ("sustained", "declarations", lambda run: run["declarations_per_second"], ">", 200, "a second"),
    ("tokens", "bytes of a declaration", lambda run: run["bytes_per_declaration"] / 1000, "<", 140, "kB"),
    ("memory", "memory, 1,000 live templates, peak", memory_mb, "<", 400, "MB"),
    ("connections", "memory, 10,000 + 1,000 connections, peak", memory_mb, "<", 1024, "MB"),
    ("connections", "handshakes", lambda run: run["handshakes_per_second"], ">", 800, "a second"),
    ("shares-standard", "shares, standard", share_rate("share_sv2_standard"), ">", 30_000, "a second"),
    ("shares-extended", "shares, extended", share_rate("share_sv2_extended"), ">", 15_000, "a second"),
    ("share-bytes", "bytes of a share, standard", of_sv1("share_sv2_standard"), "<", 45, "% of SV1"),
    ("share-bytes", "bytes of a share, extended", of_sv1("share_sv2_extended"), "<", 45, "% of SV1"),
    ("tokens", "listens after", lambda run: run["started_in_s"], "<", 2, "s"),
    ("start", "ready, on a million shares", lambda run: run["start"]["ready_in_s"], "<", 2, "s"),
    ("start", "ready after SIGKILL, the same", lambda run: run["start_after_kill"]["ready_in_s"], "<", 2, "s"),
]


def read(directory, course):
    """The runs of a course; none where it was not run."""
    file = pathlib.Path(directory) / (course + ".json")
    return json.loads(file.read_text())["runs"] if file.is_file() else []


def ours(directory, course):
    """The first run of this server."""
    return next((run for run in read(directory, course) if run["server"] != "reference"), None)


def latency(directory, course, name):
    run = ours(directory, course)
    return run["latencies"].get(name) if run else None


def table(directory):
    line = "{:<42} {:>9} {:>9} {:>9} {:>9} {:>9}  {}"
    print(line.format("milliseconds", "p50", "p90", "p99", "p99.9", "max", "target (p99)"))
    for course, what, name, target in LATENCIES:
        found = latency(directory, course, name)
        if not found:
            print(line.format(what, *"-----", "not measured"))
            continue
        values = [found[key] for key in ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")]
        met = "" if target is None else "{:g}: {}".format(target, verdict(values[2] <= target))
        print(line.format(what, *("{:.2f}".format(value) for value in values), met))
    print()
    for course, what, value, direction, target, unit in OTHERS:
        run = ours(directory, course)
        try:
            found = value(run)
        except (KeyError, TypeError):
            print("{:<42} not measured".format(what))
            continue
        good = found >= target * 0.995 if direction == ">" else found <= target
        print("{:<42} {:>9.1f} {} (target {} {:g}): {}".format(what, found, unit, direction, target, verdict(good)))
    for file in sorted(pathlib.Path(directory).glob("*.json")):
        for run in json.loads(file.read_text())["runs"]:
            for error, count in run["errors"].items():
                print("error in {} of {}: {} x {}".format(file.stem, run["server"], count, error))


def verdict(good):
    return "met" if good else "MISSED"


def pairs(directory):
    line = "{:<14} {:>5} {:>12} {:>12} {:>8} {:>12} {:>12} {:>8}"
    print(line.format("milliseconds", "pair", "p50, ours", "reference", "factor", "p99, ours", "reference", "factor"))
    for file in sorted(pathlib.Path(directory).glob("pair-*.json")):
        runs = json.loads(file.read_text())["runs"]
        for own in (run for run in runs if run["server"] != "reference"):
            other = next(r for r in runs if r["server"] == "reference" and r["pair"] == own["pair"])
            cells = []
            for key in ("p50_ms", "p99_ms"):
                values = [run["latencies"]["declaration"][key] for run in (own, other)]
                cells += ["{:.1f}".format(value) for value in values] + ["{:.1f}".format(values[1] / values[0])]
            print(line.format(file.stem.removeprefix("pair-"), own["pair"], *cells))


WIDTH, LEFT, RIGHT, ROW, TOP = 860, 250, 30, 30, 56
LEAST_MS, MOST_MS = 0.1, 10_000


def plot(directory):
    """A row for each latency: a bar from p50 to p99, a mark at p90, a line where the target is."""
    rows = [(what, latency(directory, course, name), target) for course, what, name, target in LATENCIES]
    rows = [row for row in rows if row[1]]
    height = TOP + ROW * len(rows) + 30

    def x(ms):
        part = math.log10(min(max(ms, LEAST_MS), MOST_MS) / LEAST_MS) / math.log10(MOST_MS / LEAST_MS)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" '
        'font-size="12">'.format(WIDTH, height),
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="10" y="20" font-size="14">Latency, p50 to p99 (mark: p90); red: target for p99</text>',
    ]
    decade = LEAST_MS
    while decade <= MOST_MS:
        out.append('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="#ddd"/>'.format(x(decade), TOP - 10, height - 24))
        out.append('<text x="{:.1f}" y="{}" text-anchor="middle">{:g} ms</text>'.format(x(decade), TOP - 16, decade))
        decade *= 10
    for number, (what, found, target) in enumerate(rows):
        y = TOP + ROW * number
        p50, p90, p99 = (x(found[key]) for key in ("p50_ms", "p90_ms", "p99_ms"))
        out.append('<text x="{}" y="{}" text-anchor="end">{}</text>'.format(LEFT - 12, y + 14, what))
        out.append('<rect x="{:.1f}" y="{}" width="{:.1f}" height="12" fill="#4878a8"/>'.format(p50, y + 4, max(p99 - p50, 2)))
        out.append('<rect x="{:.1f}" y="{}" width="2" height="18" fill="#203850"/>'.format(p90 - 1, y + 1))
        if target is not None:
            out.append('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="#c02020" stroke-width="2"/>'.format(x(target), y, y + 20))
    print("\n".join(out + ["</svg>"]))


def main():
    does = {"table": table, "plot": plot, "pairs": pairs}
    if len(sys.argv) != 3 or sys.argv[1] not in does:
        sys.exit(__doc__)
    does[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    main()
