"""A WSGI app that sends early hints, a path for each way to do so."""

import os
import threading
import time

LINKS = [("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")]
TEXT = [("Content-Type", "text/plain")]
KEPT = []


def plain(environ, hint):
    hint(LINKS)
    hint([("X-Second", "1")])


def held(environ, hint):
    """The answer comes when the file in the query is there: the client has the hint before."""
    hint([*LINKS, ("X-Query", environ["QUERY_STRING"])])
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.005)


def busy(environ, hint):
    """The same, and nobody else gets a turn meanwhile."""
    hint(LINKS)
    while not os.path.exists(environ["QUERY_STRING"]):
        pass


def body(environ, hint):
    """Behind a body."""
    length = len(environ["wsgi.input"].read())
    hint([("X-Length", str(length))])


def odd(environ, hint):
    """Bytes, an iterator, lists as pairs, and what has no place in an interim response."""
    hint(
        iter(
            [
                (b"X-Bytes", b"\xfc "),
                ["X-List", " \u00fc"],
                ("Connection", "close"),
                ("Content-Length", "5"),
                ("Transfer-Encoding", "chunked"),
            ]
        )
    )
    # Nothing is left of it.
    hint([])
    hint([("Keep-Alive", "5")])


def wrong(environ, hint):
    """Each is refused, and harms nothing."""
    for headers, error in [
        ([("X-Line", "a\r\nX-Smuggled: 1")], ValueError),
        ([("X-Line\r\nX-Smuggled", "1")], ValueError),
        ([(" X-Blank", "1")], ValueError),
        ([("", "1")], ValueError),
        ([("X-Point", "\u20ac")], ValueError),
        ([("X-Number", 1)], TypeError),
        ([("X-Alone",)], TypeError),
        ([1], TypeError),
        (1, TypeError),
    ]:
        try:
            hint(headers)
        except error as refused:
            assert "\r" not in str(refused), refused
        else:
            raise AssertionError(f"{headers} was taken")


def keep(environ, hint):
    """For `kept` to call when this request is over."""
    KEPT.append((environ, hint))


def kept(environ, hint):
    """What an earlier request has left does nothing, and is not this one's."""
    for _, old in KEPT:
        assert old is not hint
        old([("X-Old", "1")])
    KEPT.clear()


def thread(environ, hint):
    helper = threading.Thread(target=hint, args=(LINKS,))
    helper.start()
    helper.join()


def app(environ, start_response):
    hint = environ["wsgi.early_hints"]
    way = environ["PATH_INFO"][1:]
    if way == "started":
        start_response("200 OK", TEXT)
        # Nothing is sent before there is a body.
        hint(LINKS)
        return [b"started"]
    if way == "generated":
        return generated(start_response, hint)
    if way == "written":
        write = start_response("200 OK", TEXT)
        hint(LINKS)
        write(b"written ")
        hint([("X-Late", "1")])
        return [b"late"]
    if way == "begun-meanwhile":
        write = start_response("200 OK", TEXT)

        def headers():
            write(b"begun")
            yield ("X-Late", "1")

        hint(headers())
        return []
    globals()[way](environ, hint)
    start_response("200 OK", TEXT)
    return [way.encode()]


def generated(start_response, hint):
    hint(LINKS)
    start_response("200 OK", TEXT)
    yield b"generated "
    hint([("X-Late", "1")])
    yield b"late"
