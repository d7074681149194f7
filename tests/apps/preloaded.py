"""What is there before the fork, and what comes of it after."""

import json
import os
import random
import signal
import sys
import threading
import time

# Some 50 MB, in objects that no request touches.
BIG = [("a record", float(number), [number]) for number in range(250_000)]

MASTER = os.getpid()
FORKS = []
LEFT = threading.Event()

os.register_at_fork(
    before=lambda: FORKS.append("before"),
    after_in_child=lambda: FORKS.append("child"),
)

if "THREAD" in os.environ:
    # Not a daemon: an interpreter that ends waits for it.
    started = threading.Thread(target=LEFT.wait, name="ticker", daemon=False)
    started.start()
else:
    started = None

if "GREENLETS" in os.environ:
    import gevent

    # The hub is made here.
    gevent.sleep(0.01)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/sleep":
        time.sleep(0.2)
    facts = {
        "pid": os.getpid(),
        "imported by": MASTER,
        "parent": os.getppid(),
        "forks": FORKS,
        "random": random.getrandbits(64),
        "thread lives": started is not None and started.is_alive(),
        "env": os.environ.get("GIVEN"),
        "length": len(BIG),
        "gevent": "gevent" in sys.modules,
    }
    body = json.dumps(facts).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def live(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("it has none")
    body = json.dumps({"imported by": MASTER}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
