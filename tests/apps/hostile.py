"""Something large, and something small, by each protocol that an app can have."""

HELLO = b"hello world!"
CHUNK = b"x" * 65536
# More than all buffers of the kernel hold.
CHUNKS = 1000


async def app(scope, receive, send):
    if scope["type"] == "http":
        await answer(scope, receive, send)
    elif scope["type"] == "websocket":
        await talk(receive, send)
    else:
        assert scope["type"] == "lifespan"
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})


async def answer(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    large = scope["path"] == "/large"
    length = len(CHUNK) * CHUNKS if large else len(HELLO)
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if large:
        for _ in range(CHUNKS):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": HELLO})


async def talk(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") != "large":
            await send({"type": "websocket.send", "text": HELLO.decode()})
            continue
        for _ in range(CHUNKS):
            await send({"type": "websocket.send", "bytes": CHUNK})


async def lines(reader, writer):
    """A service: each line is answered."""
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            # It is too long.
            return
        if not line:
            return
        if line != b"large\n":
            writer.write(HELLO + b"\n")
            await writer.drain()
            continue
        for _ in range(CHUNKS):
            writer.write(CHUNK)
            await writer.drain()
