"""One WSGI app with a path for each thing that a server must get right."""

import io
import json
import os
import sys
import threading
import time

TEXT = [("Content-Type", "text/plain")]
CLOSED = []


def environ_(environ, start_response):
    """The environ as JSON, with the types of its values."""
    facts = {
        key: value if isinstance(value, (str, bool, int, list, tuple)) else repr(value)
        for key, value in environ.items()
    }
    types = {key: type(value).__name__ for key, value in environ.items()}
    body = json.dumps({"environ": facts, "types": types}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def pid(environ, start_response):
    start_response("200 OK", TEXT)
    return [str(os.getpid()).encode()]


def sleep(environ, start_response):
    """`?ms=300`"""
    time.sleep(int(environ["QUERY_STRING"].partition("=")[2]) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"slept"]


def slow_pid(environ, start_response):
    """The worker's pid, after the milliseconds in the query."""
    time.sleep(int(environ["QUERY_STRING"]) / 1000)
    return pid(environ, start_response)


def spin(environ, start_response):
    """Never comes back, and never waits."""
    print("spinning", file=sys.stderr, flush=True)
    while True:
        pass


def exit_(environ, start_response):
    os._exit(7)


def wait_for_file(environ, start_response):
    """Waits until the file in the query exists; writes that one with `.here` appended when it has begun."""
    path = environ["QUERY_STRING"]
    with open(path + ".here", "w"):
        pass
    while not os.path.exists(path):
        time.sleep(0.005)
    start_response("200 OK", TEXT)
    return [b"seen"]


def write(environ, start_response):
    send = start_response("200 OK", TEXT)
    send(b"written, ")
    send(b"twice, ")
    return [b"then returned"]


def chunks(environ, start_response):
    start_response("200 OK", TEXT)

    def body():
        yield b"one "
        yield b""
        yield b"two "
        yield b"three"

    return body()


def late(environ, start_response):
    """A generator that calls start_response at its first step, as PEP 3333 allows."""
    start_response("201 Created", [*TEXT, ("X-Late", "yes")])
    yield b"late"


def empty(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"a"')])
    return []


def body_with_304(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"a"')])
    return [b"this must not be sent"]


def hello(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "12")])
    return [b"hello world!"]


def odd_status(environ, start_response):
    start_response("299 Rather Good", TEXT)
    return [b"odd"]


def twice(environ, start_response):
    """Repeated headers."""
    start_response("200 OK", [*TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [b"cookies"]


class Closing:
    """An iterable that tells when it is closed."""

    def __init__(self, name, chunks, fail=False):
        self.name, self.chunks, self.fail = name, iter(chunks), fail

    def __iter__(self):
        return self

    def __next__(self):
        for chunk in self.chunks:
            return chunk
        if self.fail:
            raise RuntimeError("broken in mid-body")
        raise StopIteration

    def close(self):
        CLOSED.append(self.name)


def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(environ["QUERY_STRING"], [b"a", b"b"])


def closing_head(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "2")])
    return Closing(environ["QUERY_STRING"], [b"ab"])


def closing_big(environ, start_response):
    """More than any buffer holds: the client can leave in the middle."""
    start_response("200 OK", TEXT)
    return Closing(environ["QUERY_STRING"], (b"x" * 65536 for _ in range(2000)))


def closing_broken(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return Closing(environ["QUERY_STRING"], [b"a", b"b"], fail=True)


def closed(environ, start_response):
    """What was closed so far in this worker."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(CLOSED).encode()]


def raise_(environ, start_response):
    raise ValueError("the app is wrong")


def replaced(environ, start_response):
    """An error before anything was sent: the answer is replaced, by exc_info."""
    start_response("200 OK", TEXT)
    try:
        raise ValueError("replaced")
    except ValueError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"sorry"]


def no_exc_info(environ, start_response):
    """A second start_response without exc_info is an error of the app."""
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"never"]


def too_late(environ, start_response):
    """exc_info after the headers went: start_response must raise it again."""
    start_response("200 OK", TEXT)
    yield b"begun"
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("500 Internal Server Error", TEXT, sys.exc_info())
    yield b"never"


def no_start(environ, start_response):
    return [b"start_response was not called"]


def text_body(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text, not bytes"]


def injection(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Bad", "a\r\nX-Injected: yes")])
    return [b"never"]


def hop_by_hop(environ, start_response):
    """PEP 3333: hop-by-hop headers are the server's, not the app's."""
    start_response("200 OK", [*TEXT, ("Connection", "close")])
    return [b"hop"]


def too_long(environ, start_response):
    """More than the Content-Length."""
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"four and more"]


def too_short(environ, start_response):
    """Less than the Content-Length."""
    start_response("200 OK", [*TEXT, ("Content-Length", "40")])
    return [b"four"]


def file(environ, start_response):
    """This very file, by wsgi.file_wrapper."""
    start_response("200 OK", [*TEXT, ("Content-Length", str(os.path.getsize(__file__)))])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"), 1000)


def file_like(environ, start_response):
    """Something with read() that is no file."""
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"like a file " * 1000), 100)


def read(environ, start_response):
    """What the body was, and how reading it went."""
    try:
        body = environ["wsgi.input"].read()
        said = {"length": len(body), "text": body[:100].decode("latin-1")}
    except Exception as error:  # noqa: BLE001
        said = {"error": type(error).__name__, "is_os_error": isinstance(error, OSError)}
        print(f"reading failed: {type(error).__name__}", file=sys.stderr, flush=True)
    body = json.dumps(said).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def read_ways(environ, start_response):
    """Every way of reading that PEP 3333 names."""
    stream = environ["wsgi.input"]
    said = [
        stream.read(2).decode(),
        stream.readline().decode(),
        next(iter(stream)).decode(),
        [line.decode() for line in stream.readlines()],
        stream.read().decode(),
        stream.read(10).decode(),
    ]
    body = json.dumps(said).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def not_read(environ, start_response):
    """An answer that does not wait for the body."""
    start_response("200 OK", [*TEXT, ("Content-Length", "8")])
    return [b"not read"]


def thread(environ, start_response):
    """Where the app runs: its thread and the greenlet hub, if there is one."""
    said = {
        # A greenlet is no Thread object of its own, so ask the system which thread this is.
        "main": threading.get_native_id() == os.getpid(),
        "gevent": "gevent" in sys.modules,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "cwd": os.getcwd(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


def orphan(environ, start_response):
    """Makes an orphan that ends when the file in the query appears; answers its pid."""
    path = environ["QUERY_STRING"]
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        if (grandchild := os.fork()) == 0:
            os.close(receive)
            os.close(send)
            while not os.path.exists(path):
                time.sleep(0.01)
            os._exit(0)
        os.write(send, str(grandchild).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(send)
    start_response("200 OK", TEXT)
    return [os.read(receive, 20)]


def exists(environ, start_response):
    """Whether the process in the query exists, be it as a zombie."""
    try:
        os.kill(int(environ["QUERY_STRING"]), 0)
        said = b"yes"
    except ProcessLookupError:
        said = b"no"
    start_response("200 OK", TEXT)
    return [said]


PATHS = {
    "/environ": environ_,
    "/exit": exit_,
    "/raise": raise_,
    **{
        f"/{function.__name__.replace('_', '-')}": function
        for function in (
            pid, slow_pid, sleep, spin, wait_for_file, write, chunks, late, empty, no_content, not_modified,
            body_with_304, hello, odd_status, twice, closing, closing_head, closing_big,
            closing_broken, closed, replaced, no_exc_info, too_late, no_start, text_body,
            injection, hop_by_hop, too_long, too_short, file, file_like, read, read_ways,
            not_read, thread, orphan, exists,
        )
    },
}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    return PATHS.get(path, environ_ if path.startswith("/environ/") else hello)(environ, start_response)
