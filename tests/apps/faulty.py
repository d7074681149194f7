"""A WSGI app that does to its worker what apps do to theirs."""

import os
import subprocess
import sys
import threading
import time

TEXT = [("Content-Type", "text/plain")]

# While the file is there, a worker lives for a moment only.
BREAKS = os.environ.get("FAULTY_BREAKS", "")
if BREAKS and os.path.exists(BREAKS):
    threading.Timer(0.05, os._exit, [9]).start()


def child(query):
    """A child of the app's that ends with this code."""
    code = subprocess.call([sys.executable, "-S", "-c", f"raise SystemExit({query})"])
    return f"ended with {code}"


def orphan(query):
    """A child's child, whose parent does not wait for it, ends with this code."""
    script = f"sleep 0.2; exit {query}"
    subprocess.call(["sh", "-c", f"({script}) & echo $!"])
    return "left alone"


def block(query):
    """In the kernel, for so many seconds; the interpreter knows nothing of it."""
    print("blocking", file=sys.stderr, flush=True)
    time.sleep(float(query))
    return "back"


def calculate(query):
    """In C, without giving the GIL away."""
    print("calculating", file=sys.stderr, flush=True)
    pow(7, 10**9, 10**40000)
    return "done"


def stay(query):
    """In Python, for ever, whatever is raised."""
    print("staying", file=sys.stderr, flush=True)
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            pass


def eat(query):
    """So many MiB, and each byte of them."""
    held = [b"x" * (1 << 20) for _ in range(int(query))]
    return f"ate {len(held)}"


def hello(query):
    return "hello world!"


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/") or "hello"
    body = globals()[name](environ["QUERY_STRING"]).encode()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


async def events(receive, send):
    """An answer without end."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: begun\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def asgi(scope, receive, send):
    """The same in an event loop."""
    if scope["type"] != "http":
        raise RuntimeError("HTTP only")
    name = scope["path"].strip("/") or "hello"
    if name == "events":
        return await events(receive, send)
    body = globals()[name](scope["query_string"].decode()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
