#!/usr/bin/env python3
"""Checks a verdict of a Job Declaration Server offline: the receipt of an accepted template, or the
proof of a rejection.

  verify_receipt.py --authority KEY [--keys keys.json] [--user NAME] [--template FILE] TOKEN
  verify_receipt.py --authority KEY [--keys keys.json] [--user NAME] [--code CODE] DETAILS

KEY        the server's authority key, as miners pin it
keys.json  the answer to GET /v1/receipts/keys, where another key signs
TOKEN      new_mining_job_token of DeclareMiningJob.Success, hex
DETAILS    error_details of DeclareMiningJob.Error, CODE its error_code
FILE       the answer to GET /v1/templates/HASH: is the receipt about this template?

Ends with 0 and a line that begins with ok, or with 1 and what is wrong. Shares no code with the
server. Needs Python 3.9 or newer, and verify_events.py beside it.
"""
import argparse, json, struct, sys
from hashlib import sha256

from verify_events import Wrong, key_id, public_key, signed, tagged, trusted_keys

RECEIPT = struct.Struct(">BB8s8sQQ16sI32s32s32s64s")
PROOF = struct.Struct(">BB8s8sQ16s32s64s")
SIGNATURE_BYTES = 64


def user_hash(user):
    return tagged("jds/user", user.encode())[:16]


def wtxid_root(wtxids):
    """The root over the wtxids, as they are hashed, with zeros for the coinbase (BIP 141)."""
    row = [bytes(32), *wtxids]
    while len(row) > 1:
        row += row[-1:] if len(row) % 2 else []
        pairs = zip(row[::2], row[1::2])
        row = [sha256(sha256(left + right).digest()).digest() for left, right in pairs]
    return row[0]


def template_hash(version, prefix, suffix, wtxids):
    return tagged(
        "sv2-jd/template/1",
        struct.pack("<IQ", version, len(prefix)), prefix,
        struct.pack("<Q", len(suffix)), suffix,
        struct.pack("<Q", len(wtxids)), wtxid_root(wtxids),
    )


def key_of(keys, raw):
    if raw not in keys:
        raise Wrong(f"signed by the key {raw.hex()}, which is not the authority's or vouched for")
    return keys[raw]


def check_receipt(token, keys):
    """What a receipt says, once it is known who says it."""
    if len(token) != RECEIPT.size or token[:2] != b"\x01A":
        raise Wrong("this is no receipt of version 1")
    _, _, key, server, at, expires, user, height, template, root, prev, signature = RECEIPT.unpack(token)
    message = tagged("sv2-jd/receipt/1", token[:-SIGNATURE_BYTES])
    if not signed(key_of(keys, key), message, signature):
        raise Wrong("the signature does not fit")
    return {"server": server, "at_us": at, "expires_us": expires, "user_hash": user, "height": height,
            "template_hash": template, "wtxid_root": root, "prev_hash": prev}


def check_rejection(code, details, keys):
    """What the proof of a rejection says, once it is known who says it."""
    words, _, proof = details.rpartition(" proof=")
    proof = bytes.fromhex(proof)
    if len(proof) != PROOF.size or proof[:2] != b"\x01R":
        raise Wrong("this is no proof of version 1")
    _, _, key, server, at, user, template, signature = PROOF.unpack(proof)
    words = f"{code} {words}"
    message = tagged("sv2-jd/rejection/1", proof[:-SIGNATURE_BYTES], words.encode())
    if not signed(key_of(keys, key), message, signature):
        raise Wrong("the signature does not fit")
    return {"server": server, "at_us": at, "user_hash": user, "template_hash": template, "words": words}


def hash_of_file(path):
    """The hash of a template as the API describes it."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)["content"]
    halves = (bytes.fromhex(content["coinbase"][half]) for half in ("prefix_hex", "suffix_hex"))
    wtxids = [bytes.fromhex(tx["wtxid"])[::-1] for tx in content["transactions"]]
    return template_hash(content["version"], *halves, wtxids)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--authority", required=True, metavar="KEY")
    parser.add_argument("--keys", metavar="FILE")
    parser.add_argument("--user", metavar="NAME")
    parser.add_argument("--template", metavar="FILE")
    parser.add_argument("--code", default="invalid-job")
    parser.add_argument("verdict", metavar="TOKEN|DETAILS")
    options = parser.parse_args()
    try:
        listed = []
        if options.keys:
            with open(options.keys, encoding="utf-8") as file:
                listed = json.load(file)["keys"]
        keys = trusted_keys(public_key(options.authority), listed)
        keys = {bytes.fromhex(name): key for name, key in keys.items()}
        if " proof=" in options.verdict:
            facts = check_rejection(options.code, options.verdict, keys)
        else:
            facts = check_receipt(bytes.fromhex(options.verdict), keys)
        if options.user is not None:
            # Older servers signed the whole of `USER.WORKER`.
            names = options.user, options.user.partition(".")[0]
            if facts["user_hash"] not in map(user_hash, names):
                raise Wrong(f"it is not about the user {options.user}")
        if options.template and hash_of_file(options.template) != facts["template_hash"]:
            raise Wrong("it is about another template")
    except (Wrong, ValueError) as wrong:
        sys.exit(f"wrong: {wrong}")
    for name, value in facts.items():
        print(f"{name}: {value.hex() if isinstance(value, bytes) else value}")
    print("ok: " + ("rejected" if "words" in facts else "accepted"))


if __name__ == "__main__":
    main()
