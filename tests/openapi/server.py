"""What a running server says of itself after it was asked so much: every described operation was
answered as it should be at least once, nothing broke, and webhooks went nowhere.

    server.py URL TOKEN LOG
"""

import collections
import json
import pathlib
import re
import sys
import urllib.request

from hooks import NOWHERE

# Longest silence of the server, seconds.
PATIENCE_S = 30

SAMPLE = re.compile(r'jds_http_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\d+)')


def text(url, token):
    # The token shows addresses of webhooks in full.
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def main(url, token, log):
    by_status, answered = collections.Counter(), set()
    for method, route, status, count in SAMPLE.findall(text(f"{url}/metrics", token)):
        by_status[status] += int(count)
        if status.startswith("2"):
            answered.add(f"{method} {route}")
    print("answers:", ", ".join(f"{count} of {status}" for status, count in sorted(by_status.items())))
    paths = json.loads(text(f"{url}/v1/openapi.json", token))["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    unanswered = sorted(described - answered)
    print(f"{len(described) - len(unanswered)} of {len(described)} operations were answered with 2xx")
    hooks = json.loads(text(f"{url}/v1/webhooks", token))["webhooks"]
    strangers = [hook["url"] for hook in hooks if hook["url"] != NOWHERE]
    print(f"{len(hooks)} webhooks are left, {len(strangers)} of them to somebody else")
    said = pathlib.Path(log).read_text(errors="replace")
    count = {word: said.count(word) for word in ("panicked at", " ERROR ", " WARN ")}
    print("its log:", ", ".join(f"{number} times {word.strip()}" for word, number in count.items()))
    faults = by_status["500"] + count["panicked at"] + count[" ERROR "]
    if said:
        print(said[-4000:])
    if faults or strangers or unanswered:
        sys.exit(f"{faults} faults; never answered well: {unanswered}; webhooks to {strangers}")


if __name__ == "__main__":
    main(*sys.argv[1:])
