"""One app as WSGI and as ASGI, for requests that come by way of a front end."""

import asyncio
import hashlib
import json
import os
import sys
import time

PIECE = b"0123456789abcdef" * 4096
BIG = 160  # pieces: 10 MiB


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def showable(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [showable(item) for item in value]
    if isinstance(value, (str, int, float, type(None))):
        return value
    return type(value).__name__


def digest(body):
    return json.dumps([len(body), hashlib.sha256(body).hexdigest()]).encode()


def wsgi(environ, start_response):
    def start(status="200 OK", **headers):
        fields = [(name.replace("_", "-"), str(value)) for name, value in headers.items()]
        start_response(status, [("Content-Type", "text/plain"), *fields])

    def pieces(count):
        try:
            for _ in range(count):
                yield PIECE
        except GeneratorExit:
            say("the client is gone")
            raise

    path = environ["PATH_INFO"]
    if path == "/big":
        start(Content_Length=BIG * len(PIECE))
        return pieces(BIG)
    if path == "/stream":
        start()
        return pieces(BIG)
    if path == "/endless":
        start()
        return pieces(1 << 40)
    if path == "/digest":
        body = digest(environ["wsgi.input"].read())
        start(Content_Length=len(body))
        return [body]
    if path == "/unread":
        start(Content_Length=6)
        return [b"unread"]
    if path == "/304":
        start("304 Not Modified", ETag='"a"')
        return []
    if path == "/204":
        start("204 No Content")
        return []
    if path == "/raise":
        raise ValueError("the app is wrong")
    if path == "/hints":
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        start(Content_Length=5)
        return [b"hints"]
    if path == "/wait":
        say("waiting")
        while not os.path.exists(environ["QUERY_STRING"]):
            time.sleep(0.005)
        start(Content_Length=6)
        return [b"waited"]
    body = json.dumps({key: showable(value) for key, value in environ.items()}).encode()
    start(Content_Length=len(body))
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        return await echo(receive, send)
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])

    async def start(status=200, **headers):
        fields = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
        await send({
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain"), *fields],
        })

    async def body(text=b"", more_body=False):
        await send({"type": "http.response.body", "body": text, "more_body": more_body})

    async def read():
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            parts.append(message["body"])
            if not message["more_body"]:
                return b"".join(parts)

    path = scope["path"]
    if path in ("/big", "/stream"):
        await start(**({"content_length": BIG * len(PIECE)} if path == "/big" else {}))
        for _ in range(BIG):
            await body(PIECE, more_body=True)
        return await body()
    if path == "/endless":
        await start()
        try:
            while True:
                await body(PIECE, more_body=True)
        finally:
            say("the client is gone")
    if path == "/digest":
        text = digest(await read())
        await start(content_length=len(text))
        return await body(text)
    if path == "/unread":
        await start(content_length=6)
        return await body(b"unread")
    if path == "/304":
        await start(304, etag='"a"')
        return await body()
    if path == "/204":
        await start(204)
        return await body()
    if path == "/raise":
        raise ValueError("the app is wrong")
    if path == "/hints":
        if "http.response.early_hint" in scope["extensions"]:
            await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await start(content_length=5)
        return await body(b"hints")
    if path == "/wait":
        say("waiting")
        while not os.path.exists(scope["query_string"].decode()):
            await asyncio.sleep(0.005)
        await start(content_length=6)
        return await body(b"waited")
    told = {key: showable(value) for key, value in scope.items()}
    told["extensions"] = sorted(scope["extensions"])
    text = json.dumps(told).encode()
    await start(content_length=len(text))
    await body(text)


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message.get("text")})
