"""Reads every event of a running server, by pages and as a stream, and holds each against the
schema that the server publishes, and that against the one kept in the repository.

    events.py URL SCHEMAS [EVENT ...]

EVENT: a type that has to be among them.
"""

import collections
import http.client
import json
import pathlib
import sys
import urllib.parse

import jsonschema

# Longest silence of the server, seconds.
PATIENCE_S = 30


def connect(url):
    return http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE_S)


def get(url, path):
    """A document of JSON."""
    connection = connect(url)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {body.decode(errors='replace')}")
    return json.loads(body)


def pages(url):
    """All events, page by page."""
    events, after, more = [], "0", True
    while more:
        page = get(url, f"/v1/events?limit=100&after={after}")
        events += page["events"]
        after, more = page["next"], page["more"]
    return events, after


def stream(url, last_id):
    """All events up to an id, as server-sent events."""
    connection = connect(url)
    connection.request("GET", "/v1/events/stream?after=0")
    answer = connection.getresponse()
    content_type = answer.getheader("content-type")
    if (answer.status, content_type) != (200, "text/event-stream"):
        sys.exit(f"/v1/events/stream: {answer.status} {content_type}")
    events, cursor, name = [], None, None
    while not events or events[-1]["id"] < last_id:
        key, _, value = answer.readline().decode().rstrip("\n").partition(": ")
        if key == "id":
            cursor = value
        elif key == "event":
            name = value
        elif key == "data":
            event = json.loads(value)
            if name != event["event"] or not cursor.endswith(f"-{event['id']}"):
                sys.exit(f"/v1/events/stream: {name} at {cursor} holds {event}")
            events.append(event)
    connection.close()
    return events


def main(url, directory, wanted):
    schemas = get(url, "/v1/schemas")
    kept = {path.stem: json.loads(path.read_text()) for path in pathlib.Path(directory).glob("*.json")}
    for name in sorted(schemas.keys() | kept.keys()):
        if schemas.get(name) != kept.get(name):
            sys.exit(f"{name}: the schema of the server is not {directory}/{name}.json")
        if get(url, f"/v1/schemas/{name}") != schemas[name]:
            sys.exit(f"/v1/schemas/{name} is not what /v1/schemas says")
    checks = {}
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        checks[name] = jsonschema.Draft202012Validator(schema)

    events, end = pages(url)
    counts, faults = collections.Counter(), 0
    for number, event in enumerate(events, start=events[0]["id"] if events else 1):
        if event["id"] != number:
            sys.exit(f"event {number} is missing: the next is {event['id']}")
        counts[event["event"]] += 1
        check = checks.get(event["event"])
        if check is None:
            sys.exit(f"{event['event']} has no schema")
        for fault in check.iter_errors(event):
            print(f"event {number}, {event['event']}: {fault.json_path}: {fault.message}")
            faults += 1
    if stream(url, int(end.rpartition("-")[2]))[: len(events)] != events:
        sys.exit("the stream holds other events than the pages")
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    absent = [name for name in wanted if name not in counts]
    if absent:
        sys.exit(f"no event of these types came: {', '.join(absent)}")
    if faults or not events:
        sys.exit(f"{faults} faults in {len(events)} events")
    print(f"{len(events)} events keep to their schemas, without a gap")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
