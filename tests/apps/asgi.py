"""An ASGI app that does what a path says."""

import asyncio


async def hello(scope, receive, send):
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/plain"), (b"content-length", b"12")],
        }
    )
    await send({"type": "http.response.body", "body": b"hello world!"})


async def sleep(scope, receive, send):
    await asyncio.sleep(int(scope["query_string"] or b"100") / 1000)
    await hello(scope, receive, send)


async def echo(scope, receive, send):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await globals()[scope["path"].strip("/") or "hello"](scope, receive, send)
