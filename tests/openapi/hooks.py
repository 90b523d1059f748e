"""What the tool can not know of us."""

import re

import schemathesis

# Nobody listens there. Webhooks made by the tool must not reach anybody else.
NOWHERE = "http://127.0.0.1:9/hook"

# A wait that is long enough to be one, milliseconds.
WAIT_MS = 200


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps made-up webhooks on this machine, and long polls short."""
    if isinstance(case.body, dict) and re.match(r"\s*https?:", str(case.body.get("url")), re.I):
        case.body["url"] = NOWHERE
    wait = (case.query or {}).get("wait_ms")
    if isinstance(wait, (int, str)) and re.fullmatch(r"[0-9]{4,5}", str(wait)) and int(wait) <= 30_000:
        case.query["wait_ms"] = WAIT_MS


@schemathesis.check
def writes_need_the_token(context, response, case):
    """Nothing is written for those who show nothing."""
    sent = {name.lower() for name in response.request.headers}
    reads = response.request.method in ("GET", "HEAD", "OPTIONS")
    if "authorization" not in sent and not reads:
        assert response.status_code == 401, f"{response.status_code} without a token"


@schemathesis.check
def errors_are_problems(context, response, case):
    """Every error is a problem of RFC 9457 that says its own status."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    if case.operation.path == "/readyz" and response.status_code == 503:
        return
    content_type = response.headers.get("content-type", [""])[0]
    assert content_type == "application/problem+json", f"{response.status_code} as {content_type}"
    problem = response.json()
    assert problem["status"] == response.status_code, problem
    assert problem["type"].startswith("/docs#problem-"), problem
