"""What a server that ends must still finish: slow answers and long ones, as WSGI (`app`) and as ASGI (`asgi`)."""

import asyncio
import os
import time


def query(text):
    return dict(pair.split("=") for pair in text.split("&") if pair)


def lines(count, ms):
    for number in range(count):
        yield b"data: %d\n\n" % number
        time.sleep(ms / 1000)


def app(environ, start_response):
    """`/sleep?ms=`, `/stuck?ms=`, `/events?count=&ms=`"""
    asked = query(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return lines(int(asked["count"]), int(asked["ms"]))
    if environ["PATH_INFO"] == "/stuck":
        print("in the app", flush=True)
    time.sleep(int(asked.get("ms", 0)) / 1000)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """The same."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    asked = query(scope["query_string"].decode())
    pause = int(asked.get("ms", 0)) / 1000
    if scope["path"] == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(int(asked["count"])):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b""})
        return
    await asyncio.sleep(pause)
    body = str(os.getpid()).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
