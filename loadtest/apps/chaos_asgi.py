"""What the chaos test asks for, as examples/axum.rs answers it. Who has loaded it writes that down, for servers that do not tell."""

import asyncio
import os

with open(os.environ["CHAOS_LOADED"], "a") as loaded:
    loaded.write(f"{os.getpid()}\n")


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    _, kind, value = scope["path"].split("/")
    if kind == "sleep":
        await asyncio.sleep(int(value) / 1000)
        body = f"slept {value} ms".encode()
    else:
        body = f"user {value}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
