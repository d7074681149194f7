"""An ASGI app that does what the path says."""

import asyncio
import contextvars
import gc
import json
import sys

SEEN = contextvars.ContextVar("SEEN", default="nothing")


def say(*words):
    print(*words, file=sys.stderr, flush=True)


async def start(send, status=200, headers=(), **more):
    await send(
        {"type": "http.response.start", "status": status, "headers": list(headers), **more}
    )


async def body(send, body=b"", more_body=False):
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def answer(send, text, **start_with):
    if not isinstance(text, bytes):
        text = str(text).encode()
    await start(send, **start_with)
    await body(send, text)


async def whole(receive):
    """The request's body, and in how many messages it came."""
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts), len(parts)


def milliseconds(scope, default=100):
    return int(scope["query_string"] or default) / 1000


async def hello(scope, receive, send):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"12")]
    await answer(send, b"hello world!", headers=headers)


async def sleep(scope, receive, send):
    await asyncio.sleep(milliseconds(scope))
    await answer(send, "slept")


async def echo(scope, receive, send):
    text, _ = await whole(receive)
    await answer(send, text)


async def count(scope, receive, send):
    text, messages = await whole(receive)
    await answer(send, f"{len(text)} bytes in {messages} messages")


async def facts(scope, receive, send):
    """The scope, and of what type each value is."""
    shown = {key: repr(value) for key, value in scope.items()}
    types = {key: type(value).__name__ for key, value in scope.items()}
    await answer(send, json.dumps({"scope": shown, "types": types}))


async def context(scope, receive, send):
    """What an earlier request has left in the context, and whether the task is a real one."""
    seen = SEEN.get()
    SEEN.set(scope["query_string"].decode())
    here = asyncio.current_task()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    same = asyncio.current_task() is here and SEEN.get() == scope["query_string"].decode()
    await answer(send, f"{seen} {type(here).__name__} {same} {here.get_loop() is loop}")


async def kept(scope, receive, send):
    """Whether `receive` and `send` of one request are not those of the next, which the app might still have."""
    store = scope["state"].setdefault("kept", [])
    before = list(KEPT)
    KEPT.append(send)
    store.append(1)
    told = []
    for old in before:
        try:
            await old({"type": "http.response.body", "body": b"stolen"})
        except Exception as error:
            told.append(type(error).__name__)
    await answer(send, f"{len(store)} {told}")


KEPT = []


async def streams(scope, receive, send):
    """Three pieces, a pause between them."""
    await start(send, headers=[(b"content-type", b"text/plain")])
    for piece in (b"one ", b"two ", b"three"):
        await body(send, piece, more_body=True)
        await asyncio.sleep(milliseconds(scope, 10))
    await body(send)


async def piecewise(scope, receive, send):
    """Each message of the request, answered when it comes."""
    await start(send)
    while True:
        message = await receive()
        await body(send, message["body"], more_body=message["more_body"])
        if not message["more_body"]:
            return


async def flood(scope, receive, send):
    """Far more than any buffer holds; says how much went before the app had to wait."""
    await start(send)
    sent = 0
    while sent < 64 << 20:
        await body(send, b"x" * 65536, more_body=True)
        sent += 65536
        if sent % (1 << 20) == 0:
            say("flooded", sent >> 20)
    await body(send)


async def late(scope, receive, send):
    """Answers before it has read the body."""
    await answer(send, "early")
    say("after the answer:", (await receive())["type"])


async def leave(scope, receive, send):
    """Waits for the client to go, and then tries to answer."""
    await whole(receive)
    say("waiting")
    say("heard", (await receive())["type"])
    try:
        await answer(send, "anybody?")
    except OSError as error:
        say("send raised", type(error).__name__)


async def deaf(scope, receive, send):
    """Never asks for the client."""
    try:
        say("deaf")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def chatty(scope, receive, send):
    """Sends until that fails."""
    await start(send)
    try:
        while True:
            await body(send, b"chat " * 1000, more_body=True)
            await asyncio.sleep(0.01)
    except OSError as error:
        say("chat ended by", type(error).__name__)
        raise


async def timed(scope, receive, send):
    """Gives up a `receive()`, and loses nothing by it."""
    given_up = 0
    while True:
        task = asyncio.ensure_future(receive())
        try:
            message = await asyncio.wait_for(task, 0.05)
        except asyncio.TimeoutError:
            given_up += 1
            say("gave up")
            continue
        break
    await answer(send, message["body"] + f" after {min(given_up, 1)}".encode())


async def patient(scope, receive, send):
    """Asks again and again for a client that does not go."""
    await whole(receive)
    for _ in range(200):
        try:
            await asyncio.wait_for(receive(), 0.001)
        except asyncio.TimeoutError:
            pass
    waiting = [o for o in gc.get_objects() if isinstance(o, asyncio.Future) and o.cancelled()]
    await answer(send, f"{len(waiting) < 50}")


async def sated(scope, receive, send):
    """Has sent all that it announced, and reads on."""
    await start(send, headers=[(b"content-length", b"4")])
    await body(send, b"full", more_body=True)
    await asyncio.sleep(0.05)
    say("then came", (await receive())["type"])
    await body(send)


async def half(scope, receive, send):
    """Answers a client that has closed its half, and has work to do after that."""
    await whole(receive)
    await asyncio.sleep(0.1)
    await answer(send, "in time")
    await asyncio.sleep(0.4)
    say("worked on")


async def background(scope, receive, send):
    """Goes on after its answer."""
    await answer(send, "answered")
    await asyncio.sleep(milliseconds(scope))
    say("background work done")


async def stubborn(scope, receive, send):
    """Goes on for ever after its answer."""
    await answer(send, "answered")
    try:
        await asyncio.sleep(3600)
    finally:
        say("stubborn work cut")


async def hints(scope, receive, send):
    message = {
        "type": "http.response.early_hint",
        "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"],
    }
    await send(message)
    await asyncio.sleep(milliseconds(scope, 0))
    await send(message)
    await answer(send, "hinted", headers=[(b"x-final", b"1")])


async def path(scope, receive, send):
    headers = [(b"content-type", b"text/x-python")]
    await start(send, headers=headers)
    await send({"type": "http.response.pathsend", "path": __file__})


async def nopath(scope, receive, send):
    await start(send)
    try:
        await send({"type": "http.response.pathsend", "path": "/no/such/file"})
    except FileNotFoundError:
        await body(send, b"not there")


async def trailers(scope, receive, send):
    await start(send, headers=[(b"trailer", b"x-sum")], trailers=True)
    await body(send, b"one ", more_body=True)
    await asyncio.sleep(0)
    await body(send, b"two")
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"2")]})


async def nothing(scope, receive, send):
    await start(send, status=int(scope["query_string"]), headers=[(b"content-length", b"5")])
    await body(send, b"abc", more_body=True)
    await body(send, b"de")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError("no lifespan here")
    assert scope["type"] == "http"
    await globals()[scope["path"].strip("/").split("/")[0] or "hello"](scope, receive, send)


class ByMethod:
    async def handle(self, scope, receive, send):
        await answer(send, "by a method")

    def __call__(self, scope, receive, send):
        return self.handle(scope, receive, send)


class Awaitable:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


def by_awaitable(scope, receive, send):
    return Awaitable(answer(send, "by an awaitable"))


by_method = ByMethod()
