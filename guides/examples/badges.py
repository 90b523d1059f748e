#!/usr/bin/env python3
"""Awards badges from the event stream of a Job Declaration Server, each once per user.

  Sovereign Miner   share_submitted with accepted and template_source "miner"
  Node Runner       miner_connected with job_negotiation
  Template Crafter  template_accepted with templates_accepted_total at the threshold or above

Cursor and awards are in one SQLite file and move in one transaction, so that this may be killed at
any moment: an event that comes again finds its award there. An award is told of once it is in the
file, and then marked as told: a kill in between tells of it twice, never not at all. Needs Python
3.9 or newer and nothing else.
"""
import argparse, contextlib, http.client, json, pathlib, random, sqlite3, sys, time
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

TYPES = "share_submitted,miner_connected,template_accepted"
TIMEOUT_S = 45  # Three times the pause between the server's signs of life.
RETRY_S = (0.2, 30)  # First and longest pause before another attempt.
BROKEN = (OSError, ValueError, http.client.HTTPException)  # Connections and answers that broke off.
SCHEMA = """BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS place (cursor TEXT NOT NULL, gaps INTEGER NOT NULL);
INSERT INTO place SELECT '0', 0 WHERE NOT EXISTS (SELECT * FROM place);
-- How many gaps there had been when the server was last asked for the totals of a user.
CREATE TABLE IF NOT EXISTS users (user TEXT PRIMARY KEY, gaps INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS awards (user TEXT, badge TEXT, at INTEGER, cursor TEXT,
    told INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (user, badge));
CREATE INDEX IF NOT EXISTS untold ON awards (told) WHERE told = 0;
COMMIT;"""


def earned(kind, data, threshold):
    """The badge that an event earns its user, if it does."""
    if kind == "share_submitted" and data["accepted"] and data["template_source"] == "miner":
        return "Sovereign Miner"
    if kind == "miner_connected" and data["job_negotiation"]:
        return "Node Runner"
    if kind == "template_accepted" and data["templates_accepted_total"] >= threshold:
        return "Template Crafter"
    return None


def frames(lines):
    """Server-sent events as dictionaries of their fields; without one that is cut off at the end."""
    frame = {}
    for line in lines:
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        if field:
            frame[field] = value[1:] if value.startswith(" ") else value
        elif not value and frame:  # An empty line; what begins with a colon is a comment.
            yield frame
            frame = {}


class Reader:
    def __init__(self, options):
        self.options = options
        self.db = sqlite3.connect(options.state, timeout=60)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.executescript(SCHEMA)
        self.cursor, self.gaps = self.db.execute("SELECT cursor, gaps FROM place").fetchone()

    def open(self, path):
        request = Request(self.options.url.rstrip("/") + path)
        if self.options.token_file:
            token = pathlib.Path(self.options.token_file).read_text().strip()
            request.add_unredirected_header("Authorization", "Bearer " + token)
        return urlopen(request, timeout=TIMEOUT_S)

    def get(self, path):
        with self.open(path) as response:
            return json.load(response)

    def run(self):
        """Reads, and comes back after whatever breaks a connection."""
        pause = 0
        while True:
            try:
                self.begin()
                if self.options.once:
                    return self.poll()
                for _ in self.stream():
                    pause = 0
                reason = "the stream ended"
            except HTTPError as error:
                reason = error
                if error.code == 410:
                    with contextlib.suppress(*BROKEN):
                        self.gap(json.load(error))
                elif error.code < 500 and error.code not in (408, 429):
                    sys.exit(f"{error.url}: {error}: {error.read(500).decode(errors='replace')}")
            except BROKEN as error:
                reason = error
            pause = min(max(2 * pause, RETRY_S[0]), RETRY_S[1])
            print(f"after cursor {self.cursor}: {reason}; again in {pause:.1f} s", file=sys.stderr)
            time.sleep(pause * random.uniform(0.5, 1))

    def begin(self):
        """What an earlier run left to do, and whether the log still has its beginning."""
        self.tell()
        if self.cursor.rpartition("-")[2] == "0":
            page = self.get("/v1/events?after=0&limit=1")
            first = page["events"][0]["id"] if page["events"] else 1
            if first > 1:
                detail, cursor = f"the log begins with event {first}", f"{page['epoch']}-{first - 1}"
                self.gap({"detail": detail, "earliest_cursor": cursor})
        missed = self.db.execute("SELECT user FROM users WHERE gaps < ?", (self.gaps,)).fetchall()
        for (user,) in missed:
            self.look_up(user)

    def stream(self):
        """Takes events as they come, until the connection ends."""
        with self.open(f"/v1/events/stream?types={TYPES}&after={self.cursor}") as response:
            for frame in frames(response):
                yield
                if "data" not in frame:  # A sign of life, past events of other types.
                    self.move(frame.get("id", self.cursor))
                elif "id" in frame:
                    self.apply(json.loads(frame["data"]), frame["id"])
                elif frame["event"] == "gone":
                    return self.gap(json.loads(frame["data"]))

    def poll(self):
        """Takes the events that there are."""
        more = True
        while more:
            page = self.get(f"/v1/events?types={TYPES}&limit=1000&after={self.cursor}")
            for event in page["events"]:
                self.apply(event, f"{page['epoch']}-{event['id']}")
            self.move(page["next"])
            more = page["more"]

    def move(self, cursor, gaps=0):
        with self.db:
            self.db.execute("UPDATE place SET cursor = ?, gaps = gaps + ?", (cursor, gaps))
        self.cursor, self.gaps = cursor, self.gaps + gaps

    def apply(self, event, cursor):
        """Takes one event: its award and the cursor together, or neither."""
        data = event["data"]
        # Older events of declarations have the worker behind the user and a dot.
        user = (data.get("user") or "").partition(".")[0]
        badge = earned(event["event"], data, self.options.threshold)
        row = self.db.execute("SELECT gaps FROM users WHERE user = ?", (user,)).fetchone()
        if user and (row[0] if row else 0) < self.gaps:
            self.look_up(user)
        with self.db:
            if user:
                self.db.execute("INSERT OR IGNORE INTO users VALUES (?, ?)", (user, self.gaps))
            if user and badge:
                self.award(user, badge, event["timestamp"], cursor)
            self.db.execute("UPDATE place SET cursor = ?", (cursor,))
        self.cursor = cursor
        self.tell()

    def gap(self, problem):
        """Events that were to come are gone, or the server has begun a new epoch."""
        cursor = problem["earliest_cursor"]
        print(f"GAP after cursor {self.cursor}: {problem['detail']}. Totals will be looked up; "
              f"going on after {cursor}", file=sys.stderr)
        self.move(cursor, gaps=1)

    def look_up(self, user):
        """Awards what the server's totals say of a user, once after each gap."""
        try:
            miner = self.get("/v1/miners/" + quote(user, safe=""))
        except HTTPError as error:
            if error.code != 404:
                raise
            miner = {"badges": [], "templates_accepted_total": 0, "last_seen": None}
        reached = {badge["title"]: badge["reached_at"] for badge in miner["badges"]}
        if miner["templates_accepted_total"] < self.options.threshold:
            reached["Template Crafter"] = None
        elif not reached["Template Crafter"]:
            reached["Template Crafter"] = miner["last_seen"]
        with self.db:
            for badge in filter(reached.get, reached):
                self.award(user, badge, reached[badge], self.cursor)
            self.db.execute("REPLACE INTO users VALUES (?, ?)", (user, self.gaps))
        self.tell()

    def award(self, user, badge, at, cursor):
        sql = "INSERT OR IGNORE INTO awards (user, badge, at, cursor) VALUES (?, ?, ?, ?)"
        self.db.execute(sql, (user, badge, at, cursor))

    def tell(self, which="told = 0"):
        """What is to happen outside goes here, by user and badge: it may be told of twice."""
        sql = f"SELECT user, badge, at, cursor FROM awards WHERE {which} ORDER BY at, user, badge"
        for user, badge, at, cursor in self.db.execute(sql).fetchall():
            award = {"user": user, "badge": badge, "at": at, "cursor": cursor}
            print(json.dumps(award), flush=True)
            with self.db:
                key = (user, badge)
                self.db.execute("UPDATE awards SET told = 1 WHERE user = ? AND badge = ?", key)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:9332", help="where the server's API is")
    parser.add_argument("--state", default="badges.sqlite", help="file for cursor and awards")
    parser.add_argument("--token-file", help="file with a token, for a server that wants one")
    parser.add_argument("--threshold", type=int, default=1000, help="of Template Crafter")
    parser.add_argument("--once", action="store_true", help="take what there is, then end")
    parser.add_argument("--list", action="store_true", help="print all awards, ask no server")
    options = parser.parse_args()
    reader = Reader(options)
    with contextlib.suppress(KeyboardInterrupt):
        reader.tell("1") if options.list else reader.run()


if __name__ == "__main__":
    main()
