"""What WSGI and ASGI apps are told of TLS; and long answers."""

import hashlib
import json
import os
import time


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/long":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"0123456789abcdef" * 4096 for _ in range(320))
    if path == "/slow":
        time.sleep(1)
    if path == "/digest":
        body = environ["wsgi.input"].read()
        text = json.dumps({"length": len(body), "digest": hashlib.sha256(body).hexdigest()})
    else:
        told = {
            key: value
            for key, value in environ.items()
            if key.startswith("SSL_") or key in ("HTTPS", "wsgi.url_scheme")
        }
        text = json.dumps({"pid": os.getpid(), **told})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text.encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            text = event["text"]
            if text == "scope":
                text = json.dumps([scope["scheme"], scope["extensions"]["tls"]["tls_version"]])
            await send({"type": "websocket.send", "text": text})
        return
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    told = {
        "pid": os.getpid(),
        "scheme": scope["scheme"],
        "tls": scope["extensions"].get("tls"),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
