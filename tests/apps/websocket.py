"""An ASGI app of WebSockets: what it does is the path's, what it is told it prints."""

import asyncio
import json

released = asyncio.Event()


def told(**facts):
    print("told:", json.dumps(facts), flush=True)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        if scope["path"] == "/release":
            released.set()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"plain"})
    else:
        assert scope["type"] == "websocket", scope["type"]
        await ACTS[scope["path"].split("/")[1]](scope, receive, send)


async def connect(receive, send, **accept):
    message = await receive()
    assert message == {"type": "websocket.connect"}, message
    await send({"type": "websocket.accept", **accept})


async def echo(scope, receive, send):
    await connect(receive, send)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            told(code=message["code"], reason=message["reason"])
            return
        assert message.pop("type") == "websocket.receive"
        assert len(message) == 1, message
        await send({"type": "websocket.send", **message})


async def show(scope, receive, send):
    """What the scope has."""
    await connect(receive, send)
    scope["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    for key in ("raw_path", "query_string"):
        scope[key] = scope[key].decode()
    await send({"type": "websocket.send", "text": json.dumps(scope)})
    await send({"type": "websocket.close", "code": 4001, "reason": "shown"})
    message = await receive()
    told(code=message["code"])


async def choose(scope, receive, send):
    """The last subprotocol of those offered, and a header."""
    await connect(
        receive,
        send,
        subprotocol=scope["subprotocols"][-1],
        headers=[(b"x-app", b"yes"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
    )
    assert (await receive())["type"] == "websocket.disconnect"


async def foreign(scope, receive, send):
    """What a server must not send."""
    for accept in (
        {"subprotocol": "never offered"},
        {"headers": [(b"sec-websocket-protocol", b"x")]},
        {"headers": [("text", b"x")]},
    ):
        try:
            await connect(receive, send, **accept)
        except (ValueError, TypeError) as error:
            told(error=type(error).__name__)
            receive = already_connected
    await send({"type": "websocket.accept"})
    for message in (
        {"type": "websocket.accept"},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": b"bytes"},
        {"type": "websocket.close", "code": 1005},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "http.response.start", "status": 200},
        {"no": "type"},
        "text",
    ):
        try:
            await send(message)
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            told(error=type(error).__name__)
    await send({"type": "websocket.send", "bytes": bytearray(b"alive"), "text": None})
    await send({"type": "websocket.close"})
    try:
        await send({"type": "websocket.send", "text": "late"})
    except RuntimeError as error:
        told(late=str(error))


async def already_connected():
    return {"type": "websocket.connect"}


async def refuse(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.close", "code": 4000})
    message = await receive()
    told(type=message["type"], code=message["code"])


async def respond(scope, receive, send):
    """A response in place of the WebSocket, in two pieces."""
    assert "websocket.http.response" in scope["extensions"]
    assert (await receive())["type"] == "websocket.connect"
    await send(
        {
            "type": "websocket.http.response.start",
            "status": 401,
            "headers": [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")],
        }
    )
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"you"})
    message = await receive()
    told(type=message["type"], code=message["code"])


async def leave(scope, receive, send):
    """Returns without a word."""
    if scope["path"].endswith("/accepted"):
        await connect(receive, send)


async def fail(scope, receive, send):
    if scope["path"].endswith("/accepted"):
        await connect(receive, send)
    raise RuntimeError("it went wrong")


async def flood(scope, receive, send):
    """Sends until it has to wait, tells how much that was, and goes on to the end."""
    await connect(receive, send)
    piece, total = b"x" * 65536, 400
    for sent in range(total):
        task = asyncio.ensure_future(send({"type": "websocket.send", "bytes": piece}))
        done, _ = await asyncio.wait([task], timeout=0.5)
        if not done:
            told(waits=sent)
        try:
            await task
        except OSError as error:
            told(gone=type(error).__name__)
            return
    told(sent=total)


async def idle(scope, receive, send):
    """Takes nothing before it is told to, then tells how much came."""
    await connect(receive, send)
    await released.wait()
    count = 0
    while (await receive())["type"] == "websocket.receive":
        count += 1
    told(count=count)


async def wait(scope, receive, send):
    """Never answers the handshake."""
    assert (await receive())["type"] == "websocket.connect"
    message = await receive()
    told(type=message["type"], code=message["code"])
    try:
        await send({"type": "websocket.accept"})
    except OSError as error:
        told(gone=type(error).__name__)


async def deaf(scope, receive, send):
    """Sends without ever listening, until that fails."""
    await connect(receive, send)
    try:
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.02)
    except OSError as error:
        told(gone=type(error).__name__)


async def stuck(scope, receive, send):
    """Waits for what never comes."""
    await connect(receive, send)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told(cancelled=True)
        raise


ACTS = {
    act.__name__: act
    for act in (
        echo,
        show,
        choose,
        foreign,
        refuse,
        respond,
        leave,
        fail,
        flood,
        idle,
        wait,
        deaf,
        stuck,
    )
}
