"""Times requests, gives each a number, and hides health checks."""

import itertools
import time

numbers = itertools.count(1)


def pre_request(worker, req):
    req.start_time = time.monotonic()
    req.number = next(numbers)
    if req.path == "/refused":
        raise PermissionError("not this one")
    req.headers.append(("X-REQUEST-ID", f"{worker.age}-{req.number}"))


def post_request(worker, req, environ, resp):
    if req.path.startswith("/health"):
        return
    took = time.monotonic() - req.start_time
    status = resp.status if resp else None
    worker.log.info(
        "request %d: %s %s?%s from %s: %s, %s bytes, %s ms",
        req.number,
        req.method,
        req.path,
        req.query,
        req.remote_addr[0],
        status,
        resp.sent if resp else 0,
        int(took * 1000),
    )
    if req.path == "/bad-hook":
        raise ValueError("the hook's own")
