"""The smallest ASGI app."""

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"12")],
}
BODY = {"type": "http.response.body", "body": b"hello world!"}


async def app(scope, receive, send):
    if scope["type"] != "http":
        # Lifespan and WebSocket are not served: the protocol's way to say so.
        raise NotImplementedError(scope["type"])
    await send(START)
    await send(BODY)
