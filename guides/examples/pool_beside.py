#!/usr/bin/env python3
"""The accounting of a pool that has a Job Declaration Server beside its own stratum server.

It does the two things that such a pool has to do:

  credit      it reads GET /v1/pool/accounting over the unix socket of [pool_interface], and adds each
              entry to a ledger in SQLite, cursor and credit in one transaction: killed at any moment,
              it goes on where it was, and credits nothing twice
  user check  it answers POST {"user": NAME} of [user_check], mode "callback", from the ledger's table
              of users: the pool's own user database, in a real pool

Shares that another program of the pool hands in at /v1/pool/shares are not credited: that program has
their results. A user is credited with the part of its work that a block would have paid to the pool; what its own
coinbase pays to itself it has already. Needs Python 3.9 or newer and nothing else.
"""
import argparse, contextlib, http.client, http.server, json, random, socket, sqlite3, sys, threading
import time
from urllib.parse import quote

TIMEOUT_S = 30  # Of one request to the server.
PAUSE_S = 1  # Between looks at the feed when there is nothing new.
RETRY_S = (0.2, 30)  # First and longest pause after a failure.
BODY_BYTES_MAX = 4096  # Of a question about a user.
BROKEN = (OSError, ValueError, http.client.HTTPException)
SCHEMA = """
CREATE TABLE IF NOT EXISTS place (cursor TEXT NOT NULL, entry INTEGER NOT NULL);
INSERT INTO place SELECT '0', 0 WHERE NOT EXISTS (SELECT * FROM place);
CREATE TABLE IF NOT EXISTS users (user TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS credits (user TEXT, template_source TEXT, shares INTEGER NOT NULL,
    work REAL NOT NULL, pool_work REAL NOT NULL, PRIMARY KEY (user, template_source));
CREATE TABLE IF NOT EXISTS blocks (block_hash TEXT PRIMARY KEY, user TEXT NOT NULL,
    height INTEGER NOT NULL, reward_sat INTEGER NOT NULL);
"""


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def open_ledger(path):
    ledger = sqlite3.connect(path, timeout=60)
    ledger.execute("PRAGMA journal_mode = WAL")
    # A credit that was committed survives a loss of power: the cursor never runs ahead of it.
    ledger.execute("PRAGMA synchronous = FULL")
    return ledger


class Gone(Exception):
    """The server has not kept what comes after our cursor."""


def page_after(options, cursor):
    """Entries after a cursor, as the server gives them out."""
    connection = SocketConnection(options.socket)
    with contextlib.closing(connection):
        path = f"/v1/pool/accounting?limit={options.limit}&after={quote(cursor)}"
        connection.request("GET", path)
        response = connection.getresponse()
        answer = json.loads(response.read())
    if response.status == 410:
        raise Gone(answer)
    if response.status != 200:
        raise ValueError(f"status {response.status}: {answer.get('detail')}")
    return answer


def credit(ledger, entry):
    """One entry into the ledger; the caller's transaction has the cursor too."""
    if entry["kind"] == "block":
        block = (entry["block_hash"], entry["user"], entry["height"], entry["reward_sat"])
        ledger.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", block)
    elif entry.get("origin") == "pool":
        pass  # Who handed these shares in has credited them by the answers.
    elif entry["kind"] == "work":
        # On the pool's own templates, and where it is not known, blocks pay as configured.
        share = entry.get("payout_share", 1.0)
        ledger.execute(
            """INSERT INTO credits VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
                   shares = shares + ?3, work = work + ?4, pool_work = pool_work + ?5""",
            (entry["user"], entry["template_source"], entry["shares"], entry["work"],
             entry["work"] * share))


def take(ledger, page):
    """A page, whole or not at all. Numbers follow each other: a gap would be a fault of somebody."""
    with ledger:
        (last,) = ledger.execute("SELECT entry FROM place").fetchone()
        for entry in page["entries"]:
            if last and entry["entry"] != last + 1:
                raise SystemExit(f"entry {entry['entry']} comes after {last}: call the operator")
            credit(ledger, entry)
            last = entry["entry"]
        ledger.execute("UPDATE place SET cursor = ?, entry = ?", (page["next"], last))


def follow(options):
    """Reads the feed for ever, or with --once what there is."""
    ledger, pause = open_ledger(options.ledger), 0
    while True:
        try:
            (cursor,) = ledger.execute("SELECT cursor FROM place").fetchone()
            page = page_after(options, cursor)
            take(ledger, page)
            pause = 0
            if page["entries"]:
                print(json.dumps({"credited": len(page["entries"]), "next": page["next"]}), flush=True)
            if not page["more"]:
                if options.once:
                    return
                time.sleep(PAUSE_S)
        except Gone as gone:
            # Money is concerned, so a person decides: --cursor goes on from another place.
            detail = gone.args[0]
            sys.exit(f"cursor {cursor} is gone: {detail['detail']}; {detail['earliest_cursor']}")
        except BROKEN as error:
            pause = min(max(2 * pause, RETRY_S[0]), RETRY_S[1])
            print(f"after cursor {cursor}: {error}; again in {pause:.1f} s", file=sys.stderr)
            time.sleep(pause * random.uniform(0.5, 1))


class UserCheck(http.server.BaseHTTPRequestHandler):
    """Answers who may mine."""
    ledger = None  # Path of the ledger.
    timeout = TIMEOUT_S

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= BODY_BYTES_MAX:
                raise ValueError("length")
            user = json.loads(self.rfile.read(length))["user"]
            with contextlib.closing(open_ledger(self.ledger)) as ledger:
                sql = "SELECT count(*) FROM users WHERE user = ?"
                (known,) = ledger.execute(sql, (user,)).fetchone()
        except (ValueError, KeyError, TypeError, sqlite3.Error) as error:
            return self.send_error(400, str(error))
        body = json.dumps({"allowed": known > 0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", default="pool.sock", help="socket of [pool_interface]")
    parser.add_argument("--ledger", default="ledger.sqlite", help="file for cursor and credits")
    parser.add_argument("--check", help="ADDRESS:PORT to answer the user check at")
    parser.add_argument("--user", action="append", default=[], help="a user who may mine")
    parser.add_argument("--limit", type=int, default=1000, help="entries in a page")
    parser.add_argument("--once", action="store_true", help="credit what there is, then end")
    parser.add_argument("--cursor", help="go on after this cursor instead of the one that is kept")
    options = parser.parse_args()
    with contextlib.closing(open_ledger(options.ledger)) as ledger, ledger:
        ledger.executescript(SCHEMA)
        ledger.executemany("INSERT OR IGNORE INTO users VALUES (?)", [(u,) for u in options.user])
        if options.cursor:
            ledger.execute("UPDATE place SET cursor = ?, entry = 0", (options.cursor,))
    if options.check:
        host, _, port = options.check.rpartition(":")
        UserCheck.ledger = options.ledger
        server = http.server.ThreadingHTTPServer((host, int(port)), UserCheck)
        print(json.dumps({"check": server.server_address[1]}), flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        follow(options)


if __name__ == "__main__":
    main()
