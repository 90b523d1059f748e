"""What a running server says of itself after it was asked so much.

    server.py URL LOG
"""

import collections
import json
import pathlib
import re
import sys
import urllib.request


def text(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def main(url, log):
    by_status = collections.Counter()
    sample = re.compile(r'jds_http_requests_total\{.*status="(\d+)".*\} (\d+)')
    for status, count in sample.findall(text(f"{url}/metrics")):
        by_status[status] += int(count)
    print("requests by status:", ", ".join(f"{s}: {n}" for s, n in sorted(by_status.items())))
    faults = [status for status in by_status if status == "500"]
    hooks = json.loads(text(f"{url}/v1/webhooks"))["webhooks"]
    strangers = [hook["url"] for hook in hooks if not hook["url"].startswith("http://127.0.0.1:9/")]
    print(f"{len(hooks)} webhooks are left, {len(strangers)} of them to somebody else")
    said = pathlib.Path(log).read_text(errors="replace")
    panics = said.count("panicked at")
    print(f"{panics} panics and {len(said.splitlines())} lines in its log")
    if panics or faults or strangers:
        print(said[-4000:])
        sys.exit("the server did not stand it")


if __name__ == "__main__":
    main(*sys.argv[1:])
