"""A notice board in Starlette: middleware of both kinds, static files, server-sent events, a session."""

import asyncio
import os
import time

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

listening = set()


class Timing:
    """Middleware as the ASGI specification has it: a callable around a callable."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        began = time.perf_counter()

        async def timed(message):
            if message["type"] == "http.response.start":
                took = f"{time.perf_counter() - began:.6f}".encode()
                message["headers"] = [*message["headers"], (b"x-took", took)]
            await send(message)

        await self.app(scope, receive, timed if scope["type"] == "http" else send)


class Signed(BaseHTTPMiddleware):
    """Middleware as Starlette offers it: the app runs in a task of its own behind it."""

    async def dispatch(self, request, call_next):
        if request.headers.get("x-banned"):
            return PlainTextResponse("go away", status_code=403)
        response = await call_next(request)
        response.headers["x-signed"] = "board"
        return response


async def front(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return PlainTextResponse(f"visit {request.session['visits']}")


async def long(request):
    """Long enough for GZipMiddleware."""
    return PlainTextResponse("all work and no play\n" * 1000)


async def events(request):
    """Server-sent events, for ever or for `?count=`."""
    count = int(request.query_params.get("count", "0"))
    me = object()

    async def tell():
        listening.add(me)
        try:
            number = 0
            while not count or number < count:
                yield f"id: {number}\ndata: tick {number}\n\n"
                number += 1
                await asyncio.sleep(0.01)
        finally:
            listening.discard(me)

    return StreamingResponse(tell(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def count(request):
    """How many listen to `events`."""
    return JSONResponse(len(listening))


async def measure(request):
    """A body as it comes, in pieces."""
    size = pieces = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            pieces += bool(chunk)
    except ClientDisconnect:
        return PlainTextResponse("gone")
    return JSONResponse({"size": size, "pieces": pieces})


async def scope(request):
    """What the server told."""
    told = request.scope
    return JSONResponse(
        {
            "root_path": told["root_path"],
            "path": told["path"],
            "raw_path": told["raw_path"].decode(),
            "query": told["query_string"].decode(),
            "client": told["client"][0],
            "server": list(told["server"]),
            "url": str(request.url),
        }
    )


async def reverse(socket):
    await socket.accept()
    async for data in socket.iter_bytes():
        await socket.send_bytes(data[::-1])


app = Starlette(
    routes=[
        Route("/", front),
        Route("/long", long),
        Route("/events", events),
        Route("/listening", count),
        Route("/measure", measure, methods=["POST"]),
        Route("/scope/{rest:path}", scope),
        WebSocketRoute("/reverse", reverse),
        Mount("/static", StaticFiles(directory=os.path.join(os.path.dirname(__file__), "shop/static"))),
    ],
    middleware=[
        Middleware(Timing),
        Middleware(SessionMiddleware, secret_key="a key that only the tests have"),
        Middleware(GZipMiddleware, minimum_size=1000),
        Middleware(Signed),
    ],
)
