"""What an app sees of the threads that it runs in, and what it may do with them."""

import atexit
import contextvars
import gc
import json
import os
import signal
import sys
import threading
import time
import weakref

LOCAL = threading.local()
VARIABLE = contextvars.ContextVar("variable", default="fresh")
TEXT = [("Content-Type", "text/plain")]
RUNNING = threading.Semaphore(0)
CLOSED = []
SIGNALS = []

signal.signal(signal.SIGHUP, lambda number, frame: SIGNALS.append(threading.current_thread().name))


@atexit.register
def leave():
    print("the exit handler runs", file=sys.stderr, flush=True)


def thread(environ, start_response):
    """Who runs this request, and what is left of the requests before."""
    LOCAL.count = getattr(LOCAL, "count", 0) + 1
    current = threading.current_thread()
    said = {
        "name": current.name,
        "type": type(current).__name__,
        "daemon": current.daemon,
        "main": current is threading.main_thread(),
        "known": current in threading.enumerate(),
        "count": LOCAL.count,
        "variable": VARIABLE.get(),
    }
    VARIABLE.set("left by a request")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


def context(environ, start_response):
    """A generator sees one context from its start to its close."""
    VARIABLE.set(environ["QUERY_STRING"])
    start_response("200 OK", TEXT)

    def chunks():
        for _ in range(3):
            yield VARIABLE.get().encode()

    return chunks()


def meet(environ, start_response):
    """Comes back once the number in the query are here at the same time."""
    RUNNING.release()
    barrier(int(environ["QUERY_STRING"]))
    start_response("200 OK", TEXT)
    return [b"met"]


BARRIERS = {}
LOCK = threading.Lock()


def barrier(parties):
    with LOCK:
        one = BARRIERS.setdefault(parties, threading.Barrier(parties))
    one.wait()


def sleep(environ, start_response):
    """`?ms=300`"""
    time.sleep(int(environ["QUERY_STRING"].partition("=")[2]) / 1000)
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"slept"]


def compute(environ, start_response):
    """Holds the GIL for the milliseconds in the query, as far as it may."""
    until = time.monotonic() + int(environ["QUERY_STRING"]) / 1000
    while time.monotonic() < until:
        pass
    start_response("200 OK", TEXT)
    return [b"computed"]


def hang(environ, start_response):
    print("hanging", file=sys.stderr, flush=True)
    threading.Event().wait()


class Closing:
    def __init__(self, chunks):
        self.chunks = chunks

    def __iter__(self):
        return self.chunks

    def close(self):
        CLOSED.append(threading.current_thread().name)
        print("closed", file=sys.stderr, flush=True)


def slow_close(environ, start_response):
    """Works on for a while when all has been sent: `?ms=300`."""

    def chunks():
        yield b"whole"
        time.sleep(int(environ["QUERY_STRING"].partition("=")[2]) / 1000)
        print("the work is done", file=sys.stderr, flush=True)

    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Closing(chunks())


def begin_and_wait(environ, start_response):
    """Waits for the file in the query, and answers then."""
    print("begun", file=sys.stderr, flush=True)
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.005)
    start_response("200 OK", TEXT)
    return Closing(iter([b"seen"]))


def written_and_raised(environ, start_response):
    """More than fits anywhere but at a client that reads."""
    write = start_response("200 OK", TEXT)
    for _ in range(1000):
        write(bytes(65536))
    raise ValueError("nobody is there")


def large_and_raised(environ, start_response):
    """More than the network takes from a client that does not read; what is raised then lies behind it."""
    write = start_response("200 OK", TEXT)
    write(bytes(32 << 20))
    print("raising", file=sys.stderr, flush=True)
    raise ValueError("nobody reads so far")


def closed(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(CLOSED).encode()]


def stream(environ, start_response):
    """As many KiB as the query says, made piece by piece."""
    start_response("200 OK", TEXT)
    return Closing(b"x" * 1024 for _ in range(int(environ["QUERY_STRING"])))


def pieces(environ, start_response):
    """As many MiB as the query says, all of it there."""
    start_response("200 OK", TEXT)
    return [bytes(64 * 1024) for _ in range(16 * int(environ["QUERY_STRING"]))]


def block(environ, start_response):
    """One new MiB."""
    start_response("200 OK", TEXT)
    return [bytes(1024 * 1024)]


class File(Closing):
    """A file that tells its end."""


def file(environ, start_response):
    """The file in the query, by wsgi.file_wrapper."""
    VARIABLE.set("the file's request")
    opened = open(environ["QUERY_STRING"], "rb")
    weakref.finalize(opened, lambda: print("the file is freed", file=sys.stderr, flush=True))
    start_response("200 OK", [*TEXT, ("Content-Length", str(os.path.getsize(environ["QUERY_STRING"])))])
    return environ["wsgi.file_wrapper"](opened)


def signals(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(SIGNALS).encode()]


def fork(environ, start_response):
    """A process that comes back to the server, as one forgets to end it; answers how it ended."""
    child = os.fork()
    start_response("200 OK", TEXT)
    if child == 0:
        return [b"from a process that is no worker"]
    return [str(os.waitpid(child, 0)[1]).encode()]


def helper(environ, start_response):
    """Another thread calls start_response, write and wsgi.errors, and lets go of them last."""
    kept = []

    def work():
        kept.append(start_response("200 OK", TEXT))
        kept[0](b"written elsewhere, ")
        environ["wsgi.errors"].write("told elsewhere\n")

    other = threading.Thread(target=work)
    other.start()
    other.join()
    # A cycle: whichever thread collects garbage frees it.
    kept.append(kept)
    kept.append(start_response)
    return [b"returned here"]


def collect(environ, start_response):
    start_response("200 OK", TEXT)
    return [str(gc.collect()).encode()]


def app(environ, start_response):
    return globals()[environ["PATH_INFO"][1:].replace("-", "_") or "thread"](environ, start_response)
