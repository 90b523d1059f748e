#!/usr/bin/env python3
"""Checks the event log of a Job Declaration Server offline: nothing was changed, removed or put in.

  verify_events.py --authority KEY [--keys keys.json] heads.json events.ndjson

KEY         the server's authority key, as miners pin it
keys.json   the answer to GET /v1/receipts/keys, where another key signs
heads.json  the answer to GET /v1/events/heads
events      the events since the anchor in heads.json, one a line: `jds events export`

Ends with 0 and a line that begins with ok, or with 1 and what is wrong. Shares no code with the
server. Needs Python 3.9 or newer and nothing else.
"""
import argparse, hashlib, json, sys

# secp256k1: the field, the order, the generator.
P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Wrong(Exception):
    """What does not hold."""


def tagged(tag, *parts):
    """The tagged hash of BIP 340."""
    tag = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(tag + tag + b"".join(parts)).digest()


def add(a, b):
    """The sum of two points; None is the point at infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if a[1] != b[1]:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(point, factor):
    """A multiple of a point."""
    result = None
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result


def signed(key, message, signature):
    """Whether a BIP 340 signature is by that x-only key over that message."""
    x, r, s = (int.from_bytes(part, "big") for part in (key, signature[:32], signature[32:]))
    if len(signature) != 64 or x >= P or r >= P or s >= N:
        return False
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return False
    y = y if y % 2 == 0 else P - y
    challenge = tagged("BIP0340/challenge", signature[:32], key, message)
    e = int.from_bytes(challenge, "big") % N
    point = add(times(G, s), times((x, y), N - e))
    return point is not None and point[1] % 2 == 0 and point[0] == r


def public_key(text):
    """The 32 bytes of a key as SV2 writes it: base58check of version 1 and the x-only key."""
    number = 0
    for letter in text:
        number = number * 58 + BASE58.index(letter)
    raw = number.to_bytes(38, "big")
    body, check = raw[:-4], raw[-4:]
    if hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4] != check:
        raise Wrong(f"{text} is not a key: its checksum does not fit")
    if body[:2] != b"\x01\x00":
        raise Wrong(f"{text} is not a key of version 1")
    return body[2:]


def key_id(key):
    return tagged("sv2-jd/receipt-key-id/1", key)[:8].hex()


def trusted_keys(authority, listed):
    """Keys by id: the authority key, and those that it vouches for."""
    keys = {key_id(authority): authority}
    for entry in listed:
        key = bytes.fromhex(entry["x_only"])
        if key != authority:
            word = bytes.fromhex(entry["endorsement"] or "")
            if not signed(authority, tagged("sv2-jd/receipt-key/1", key), word):
                raise Wrong(f"the authority key does not vouch for the key {key_id(key)}")
            keys[key_id(key)] = key
    return keys


def check_head(head, keys):
    """That a head is signed by one of the keys."""
    key = keys.get(head["key_id"])
    if key is None:
        raise Wrong(f"the head at event {head['event_id']} is signed by the unknown key "
                    f"{head['key_id']}")
    message = tagged(
        "sv2-jd/event-head/1",
        bytes.fromhex(head["server_id"]),
        bytes.fromhex(head["epoch"]),
        head["event_id"].to_bytes(8, "big"),
        bytes.fromhex(head["hash"]),
        head["signed_at"].to_bytes(8, "big"),
    )
    if not signed(key, message, bytes.fromhex(head["signature"])):
        raise Wrong(f"the signature of the head at event {head['event_id']} does not fit")


def text_field(text):
    raw = text.encode()
    return len(raw).to_bytes(4, "big") + raw


def event_hash(previous, line, event):
    """The hash of an event, from its line as it is: `data` comes last and is not parsed."""
    data = line[line.index('"data":') + len('"data":') : -1]
    return tagged(
        "sv2-jd/event/1",
        previous,
        event["id"].to_bytes(8, "big"),
        event["timestamp"].to_bytes(8, "big"),
        event["schema"].to_bytes(2, "big"),
        *map(text_field, (event["event"], event["source"], event["protocol"], data)),
    )


def follows(event, last):
    """Whether an event may come after the event with that id."""
    if event["id"] == last + 1:
        return True
    if event["event"] != "stream_epoch_started":
        return False
    # A restored database goes on above what readers may have seen.
    data = event["data"]
    next_id = max(data["previous_last_id"], data["kept_last_id"]) + 1
    return data["kept_last_id"] == last and event["id"] == next_id


def check_events(lines, anchor, heads):
    """Follows the chain from the anchor; returns how many events, and up to where heads reach."""
    last, previous = anchor["id"], bytes.fromhex(anchor["hash"])
    expected = {head["event_id"]: head["hash"] for head in heads}
    count, signed_to = 0, None
    if last in expected and expected.pop(last) != previous.hex():
        raise Wrong(f"the head at event {last} is of another chain")
    for line in lines:
        line = line.rstrip("\n")
        event = json.loads(line)
        if event["id"] <= anchor["id"]:
            continue  # From before the chain.
        if not follows(event, last):
            raise Wrong(f"event {event['id']} comes after {last}: what was between is missing")
        previous, last = event_hash(previous, line, event), event["id"]
        count += 1
        if last in expected:
            if expected.pop(last) != previous.hex():
                raise Wrong(f"what stands up to event {last} is not what its head was signed for")
            signed_to = last
    missing = [id for id in expected if anchor["id"] <= id]
    if missing:
        raise Wrong(f"event {min(missing)} has a signed head, and is not there")
    return count, signed_to, last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--authority", required=True, metavar="KEY")
    parser.add_argument("--keys", metavar="FILE")
    parser.add_argument("heads", metavar="heads.json")
    parser.add_argument("events", metavar="events.ndjson")
    options = parser.parse_args()
    try:
        listed = []
        if options.keys:
            with open(options.keys, encoding="utf-8") as file:
                listed = json.load(file)["keys"]
        keys = trusted_keys(public_key(options.authority), listed)
        with open(options.heads, encoding="utf-8") as file:
            answer = json.load(file)
        for head in answer["items"]:
            check_head(head, keys)
        with open(options.events, encoding="utf-8", newline="\n") as file:
            count, signed_to, last = check_events(file, answer["anchor"], answer["items"])
    except Wrong as wrong:
        sys.exit(f"wrong: {wrong}")
    under = "none" if signed_to is None else f"up to {signed_to}"
    print(f"ok: {count} events to {last}, {len(answer['items'])} heads, signed for: {under}")


if __name__ == "__main__":
    main()
