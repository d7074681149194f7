"""Apps whose answers the server works on: files that they name, and text that is compressed."""

import os
import time
from urllib.parse import parse_qsl, unquote

TEXT = b"All the same words, again and again, are compressed well.\n" * 400


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/named":
        # `X-Sendfile: PATH`, with the status of the second part.
        name, _, status = query.partition(",")
        fields = [("Content-Type", "text/csv"), ("X-Sendfile", name), ("X-App", "was here")]
        start_response(status.replace("+", " ") or "200 OK", fields)
        return [b"not this"]
    if path == "/wrapped":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](open(query, "rb"))
    if path == "/text":
        # The fields of the query.
        start_response("200 OK", [("Content-Type", "text/plain"), *parse_qsl(query)])
        return [TEXT]
    if path == "/typed":
        start_response("200 OK", [("Content-Type", "text/plain")] * ("Content-Type" not in query) + parse_qsl(query))
        return [TEXT]
    if path == "/short-text":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"short"]
    if path == "/stream":
        # The second piece comes when the file of the query is there.
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(unquote(query))
    if path == "/short":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "100000")])
        return iter([TEXT, b""])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the app was asked for ", path.encode()]


def stream(path):
    yield b"first piece\n"
    wait_for(path)
    yield b"second piece\n"


async def asgi(scope, receive, send):
    assert scope["type"] == "http", "there is no lifespan"
    path, query = scope["path"], scope["query_string"].decode()
    fields = [(b"content-type", b"text/plain")]
    if path == "/named":
        fields.append((b"x-sendfile", query.encode()))
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if path == "/path":
        await send({"type": "http.response.pathsend", "path": query})
    elif path == "/stream":
        import asyncio

        await send({"type": "http.response.body", "body": b"first piece\n", "more_body": True})
        while not os.path.exists(query):
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"second piece\n"})
    else:
        await send({"type": "http.response.body", "body": TEXT})
