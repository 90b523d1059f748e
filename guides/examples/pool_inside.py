#!/usr/bin/env python3
"""A toy pool that keeps its miners' connections and asks the pool interface about their templates.

A miner declared a template to the Job Declaration Server and shows its receipt here. The pool has the
job verified, makes work of the answer, mines a few shares on it (a real pool's miners would), and at
last a block. What counted is credited once, although pool and server may be killed at any moment:

  - a batch of shares is written down, with its key, before it is sent
  - a batch that may have been sent is sent again as it was, with the same key
  - `duplicate-share` of a batch that was sent again counted the first time

Needs Python 3.9 or newer and nothing else.
"""
import argparse, hashlib, http.client, json, os, pathlib, socket, sys, time, uuid

TIMEOUT_S = 30
RETRY_S = 0.2  # Pause before another attempt at a server that is away.
GIVE_UP_S = 60  # Longest time without one.
EASIEST = "f" * 64  # The target of the toy's miners: every hash meets it.
MORE_HASHES = 1 << 20  # Tries for one share.
BROKEN = (OSError, http.client.HTTPException)


class Interface(http.client.HTTPConnection):
    """HTTP over the unix socket of `[pool_interface]`."""

    def __init__(self, path):
        super().__init__("pool", timeout=TIMEOUT_S)
        self.path = path
        self.repeated = False  # The last request was made more than once.

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def post(self, path, body, key=None):
        """The answer to a request, which is made again for as long as the server is away."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        until = time.monotonic() + GIVE_UP_S
        self.repeated = False
        while True:
            try:
                self.request("POST", path, json.dumps(body), headers)
                answer = self.getresponse()
                text = answer.read()
                if answer.status == 200:
                    return json.loads(text)
                if answer.status < 500 and answer.status != 409:
                    sys.exit(f"{path}: {answer.status} {text.decode()}")
                problem = text.decode()  # Too much at once, or the same request is under way.
            except BROKEN as error:
                problem = repr(error)
            self.close()
            self.repeated = True
            if time.monotonic() > until:
                sys.exit(f"{path}: {problem}")
            time.sleep(RETRY_S)


def sha256d(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class Job:
    """Work of what `custom-jobs/verify` answered."""

    def __init__(self, job):
        self.name, self.user = job["job"], job["user"]
        self.version, self.ntime = job["version"], job["min_ntime"]
        self.prefix, self.suffix = bytes.fromhex(job["coinbase_prefix"]), bytes.fromhex(job["coinbase_suffix"])
        self.path = [bytes.fromhex(digest) for digest in job["merkle_path"]]
        self.extranonce_bytes = job["extranonce_bytes"]
        bits = int(job["nbits"], 16)
        self.target = (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)
        # A header begins with version and parent, and ends with time, nBits and nonce.
        self.front = self.version.to_bytes(4, "little") + bytes.fromhex(job["prev_hash"])[::-1]
        self.back = self.ntime.to_bytes(4, "little") + bits.to_bytes(4, "little")

    def mine(self, number, block):
        """A share with that number as extranonce, which is a block or is none."""
        extranonce = number.to_bytes(self.extranonce_bytes, "big")
        root = sha256d(self.prefix + extranonce + self.suffix)
        for beside in self.path:
            root = sha256d(root + beside)
        for nonce in range(MORE_HASHES):
            digest = sha256d(self.front + root + self.back + nonce.to_bytes(4, "little"))
            if (int.from_bytes(digest, "little") <= self.target) == block:
                return {"job": self.name, "extranonce": extranonce.hex(), "ntime": self.ntime,
                        "nonce": nonce, "version": self.version, "target": EASIEST}
        sys.exit("no block here: this toy mines on regtest")


class Books:
    """What the pool must not forget, in one file that is replaced as a whole."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.all = {"extranonce": 0, "credited": 0, "pending": None}
        if self.path.exists():
            self.all = json.loads(self.path.read_text())

    def write(self, **changes):
        self.all.update(changes)
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(self.all, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


class Pool:
    def __init__(self, options):
        self.options, self.books = options, Books(options.state)
        self.interface = Interface(options.socket)

    def verify(self):
        verdict = self.interface.post("/v1/pool/custom-jobs/verify",
                                      {"token": self.options.receipt, "connection": self.options.connection})
        if not verdict["accepted"]:
            sys.exit(f"refused: {verdict['code']}: {verdict['detail']}")
        return Job(verdict["job"])

    def send(self):
        """Sends the batch that is written down, and credits what counted."""
        pending = self.books.all["pending"]
        results = self.interface.post("/v1/pool/shares", pending["shares"], pending["key"])
        again = ("duplicate-share",) if pending["resent"] or self.interface.repeated else ()
        counted = [result for result in results if result["valid"] or result.get("code") in again]
        self.books.write(credited=self.books.all["credited"] + len(counted), pending=None)
        for result in results:
            if result["is_block"]:
                print(json.dumps({"block": result["hash"]}), flush=True)
            elif result not in counted:
                print(json.dumps(result), flush=True)

    def batch(self, job, count, block=False):
        first = self.books.all["extranonce"]
        shares = [job.mine(number, block) for number in range(first, first + count)]
        pending = {"key": str(uuid.uuid4()), "shares": shares, "resent": False}
        self.books.write(extranonce=first + count, pending=pending)
        self.send()

    def run(self):
        if self.books.all["pending"]:  # Whether it arrived is not known.
            self.books.all["pending"]["resent"] = True
            self.send()
        job = self.verify()
        print(json.dumps({"job": job.name, "user": job.user}), flush=True)
        while self.books.all["credited"] < self.options.shares:
            self.batch(job, min(self.options.batch, self.options.shares - self.books.all["credited"]))
            print(json.dumps({"credited": self.books.all["credited"]}), flush=True)
        self.batch(job, 1, block=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--socket", required=True, help="the unix socket of [pool_interface]")
    parser.add_argument("--receipt", required=True, help="hex, as the miner shows it")
    parser.add_argument("--connection", default="", help="what the pool calls the miner's connection")
    parser.add_argument("--state", default="pool.json", help="the pool's books")
    parser.add_argument("--shares", type=int, default=10, help="before the block")
    parser.add_argument("--batch", type=int, default=5, help="shares sent together")
    Pool(parser.parse_args()).run()
