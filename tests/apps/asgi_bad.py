"""ASGI apps that break the rules, each by its path."""

import asyncio
import sys

TEXT = [(b"content-type", b"text/plain")]


async def start(send, **more):
    await send({"type": "http.response.start", "status": 200, "headers": TEXT, **more})


async def body(send, body=b"", more_body=False, **more):
    await send({"type": "http.response.body", "body": body, "more_body": more_body, **more})


async def good(receive, send):
    await start(send)
    await body(send, b"good")


async def raises_at_once(receive, send):
    raise ValueError("at once")


async def raises_later(receive, send):
    await asyncio.sleep(0.01)
    raise ValueError("later")


async def raises_after_start(receive, send):
    await start(send)
    raise ValueError("after the start")


async def raises_in_body(receive, send):
    await start(send)
    await body(send, b"part", more_body=True)
    await asyncio.sleep(0.05)
    raise ValueError("in the body")


async def raises_after_end(receive, send):
    await good(receive, send)
    raise ValueError("after the end")


async def exits(receive, send):
    sys.exit(9)


async def exits_later(receive, send):
    await asyncio.sleep(0.01)
    sys.exit(9)


async def cancels_itself(receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


async def silent(receive, send):
    pass


async def silent_later(receive, send):
    await asyncio.sleep(0.01)


async def only_start(receive, send):
    await start(send)


async def unfinished(receive, send):
    await start(send)
    await body(send, b"part", more_body=True)
    await asyncio.sleep(0.05)


async def starts_twice(receive, send):
    await start(send)
    await start(send)


async def starts_in_body(receive, send):
    await start(send)
    await body(send, b"part", more_body=True)
    await asyncio.sleep(0.05)
    await start(send)


async def body_first(receive, send):
    await body(send, b"early")


async def unknown_message(receive, send):
    await send({"type": "http.response.dance"})


async def no_type(receive, send):
    await send({"status": 200})


async def no_dict(receive, send):
    await send(b"http.response.start")


async def more_after_end(receive, send):
    await good(receive, send)
    await body(send, b"more")


async def str_body(receive, send):
    await start(send)
    await body(send, "a str")


async def str_header(receive, send):
    await start(send, headers=[("content-type", "text/plain")])


async def odd_header(receive, send):
    await start(send, headers=[(b"one", b"two", b"three")])


async def newline_in_header(receive, send):
    await start(send, headers=[(b"x-evil", b"a\r\nset-cookie: stolen=1")])


async def newline_at_end_of_header(receive, send):
    await start(send, headers=[(b"x-evil", b"a\r\n")])


async def newline_in_name(receive, send):
    await start(send, headers=[(b"x-evil\r\nset-cookie", b"a")])


async def bad_status(receive, send):
    await start(send, status=99)


async def interim_status(receive, send):
    await start(send, status=100)


async def str_status(receive, send):
    await start(send, status="200 OK")


async def no_status(receive, send):
    await send({"type": "http.response.start", "headers": TEXT})


async def bad_length(receive, send):
    await start(send, headers=[(b"content-length", b"four")])
    await body(send, b"good")


async def too_short(receive, send):
    await start(send, headers=[(b"content-length", b"10")])
    await body(send, b"short")


async def too_short_in_pieces(receive, send):
    await start(send, headers=[(b"content-length", b"10")])
    await body(send, b"sho", more_body=True)
    await asyncio.sleep(0.05)
    await body(send, b"rt")


async def too_long(receive, send):
    await start(send, headers=[(b"content-length", b"4")])
    await body(send, b"good and more")


async def too_long_in_pieces(receive, send):
    await start(send, headers=[(b"content-length", b"4")])
    await body(send, b"good", more_body=True)
    await asyncio.sleep(0.05)
    await body(send, b" and more")


async def unawaited(receive, send):
    async def forgotten():
        pass

    forgotten()
    await good(receive, send)


async def trailers_unasked(receive, send):
    await start(send)
    await send({"type": "http.response.trailers", "headers": []})


async def awaits_twice(receive, send):
    message = receive()
    await message
    await message


async def blocks(receive, send):
    import time

    time.sleep(0.3)
    await good(receive, send)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await globals()[scope["path"].strip("/")](receive, send)


def two(scope, receive):
    """Cannot be called with three."""


def not_awaitable(scope, receive, send):
    return "a str"


not_callable = 5
