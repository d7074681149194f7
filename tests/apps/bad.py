"""WSGI apps that break PEP 3333, a path each. What they return tells `/closed` when it is closed."""

import json
import sys
from urllib.parse import parse_qs

TEXT = [("Content-Type", "text/plain")]
CLOSED = []

not_callable = "not an app"


class Body:
    """An iterable of chunks, or of exceptions to raise in their place; counts its `close()`."""

    def __init__(self, environ, *chunks, closing=None):
        self.name = environ["PATH_INFO"]
        self.chunks = iter(chunks)
        self.closing = closing

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self.chunks)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self):
        CLOSED.append(self.name)
        if self.closing:
            raise self.closing


class NotIterable:
    def __init__(self, environ):
        self.name = environ["PATH_INFO"]

    def close(self):
        CLOSED.append(self.name)


def none(environ, start_response):
    start_response("200 OK", TEXT)


def number(environ, start_response):
    start_response("200 OK", TEXT)
    return 42


def not_iterable(environ, start_response):
    start_response("200 OK", TEXT)
    return NotIterable(environ)


def text(environ, start_response):
    start_response("200 OK", TEXT)
    return "text"


def text_chunk(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, "text")


def text_later(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, b"bytes", "text")


def text_written(environ, start_response):
    start_response("200 OK", TEXT)("text")
    return Body(environ, b"never")


def newline(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Bad", "a\r\nX-Injected: yes")])
    return Body(environ, b"never")


def newline_in_name(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Bad\r\nX-Injected", "yes")])
    return Body(environ, b"never")


def newline_in_status(environ, start_response):
    start_response("200 OK\r\nX-Injected: yes", TEXT)
    return Body(environ, b"never")


def bytes_value(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Bad", b"bytes")])
    return Body(environ, b"never")


def bytes_name(environ, start_response):
    start_response("200 OK", [*TEXT, (b"X-Bad", "text")])
    return Body(environ, b"never")


def number_value(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", 5)])
    return Body(environ, b"never")


def not_latin1(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Bad", "\u20ac")])
    return Body(environ, b"never")


def no_pair(environ, start_response):
    start_response("200 OK", [*TEXT, "X-Bad: text"])
    return Body(environ, b"never")


def none_headers(environ, start_response):
    start_response("200 OK", None)
    return Body(environ, b"never")


def no_number(environ, start_response):
    start_response("OK", TEXT)
    return Body(environ, b"never")


def number_status(environ, start_response):
    start_response(200, TEXT)
    return Body(environ, b"never")


def interim(environ, start_response):
    start_response("100 Continue", TEXT)
    return Body(environ, b"never")


def no_start(environ, start_response):
    return Body(environ, b"start_response was not called")


def no_start_empty(environ, start_response):
    return Body(environ)


def no_start_list(environ, start_response):
    return [b"start_response was not called"]


def written_too_early(environ, start_response):
    write = start_response.__self__.write
    write(b"start_response was not called")
    return Body(environ, b"never")


def twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return Body(environ, b"never")


def exc_info_before(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        raise ValueError("before the head went")
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    return Body(environ, b"replaced")


def exc_info_after(environ, start_response):
    start_response("200 OK", TEXT)

    def chunks():
        yield b"begun"
        try:
            raise ValueError("after the head went")
        except ValueError:
            start_response("503 Sorry", TEXT, sys.exc_info())
        yield b"never"

    body = Body(environ)
    body.chunks = chunks()
    return body


def exc_info_wrong(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("503 Sorry", TEXT, "not what sys.exc_info() returns")
    return Body(environ, b"replaced all the same")


def raises(environ, start_response):
    raise ValueError("raised at once")


def raises_started(environ, start_response):
    start_response("200 OK", TEXT)
    raise ValueError("raised after start_response")


def raises_first(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, ValueError("raised at first"))


def raises_later(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, b"begun", ValueError("raised in the middle"))


def raises_at_the_end(environ, start_response):
    """All that was announced has been sent."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Body(environ, b"whole", ValueError("raised at the end"))


def raises_in_close(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Body(environ, b"whole", closing=ValueError("raised in close"))


def longer(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Body(environ, b"four and more")


def longer_later(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Body(environ, b"fo", b"ur", b" and more")


def longer_list(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"four", b" and more"]


def shorter(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "40")])
    return Body(environ, b"four")


def shorter_list(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "40")])
    return [b"four"]


def shorter_empty(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "40")])
    return Body(environ)


def two_lengths(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4"), ("Content-Length", "5")])
    return Body(environ, b"four")


def endless(environ, start_response):
    """Until the client leaves."""
    start_response("200 OK", TEXT)
    body = Body(environ)
    body.chunks = (b"x" * 65536 for _ in iter(int, 1))
    return body


EXITS = {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit()}


def exits(environ, start_response):
    """`?how=NAME&when=called|first|middle|close`: an exception that is no error."""
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    error = EXITS[query["how"]]
    if query["when"] == "called":
        raise error
    start_response("200 OK", TEXT)
    chunks = {"first": (error,), "middle": (b"begun", error), "close": (b"whole",)}
    return Body(environ, *chunks[query["when"]], closing=error if query["when"] == "close" else None)


def closed(environ, start_response):
    """What was closed since the last question."""
    start_response("200 OK", [("Content-Type", "application/json")])
    names = json.dumps(CLOSED).encode()
    CLOSED.clear()
    return [names]


def hello(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "12")])
    return [b"hello world!"]


def app(environ, start_response):
    name = environ["PATH_INFO"][1:].replace("-", "_") or "hello"
    return globals()[name](environ, start_response)
