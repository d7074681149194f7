"""Ways to hang on an event loop."""

import asyncio
import ctypes
import sys
import time


def spin():
    while True:
        pass


async def nap():
    await asyncio.sleep(1000)


async def wait():
    await nap()


async def background():
    await asyncio.Event().wait()


def hold_the_gil():
    library = ctypes.PyDLL(None)
    memory = ctypes.create_string_buffer(256)
    library.pthread_mutex_init(memory, None)
    library.pthread_mutex_lock(memory)
    library.pthread_mutex_lock(memory)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("it has none")
    path = scope["path"]
    print("entered", path, file=sys.stderr, flush=True)
    if path == "/spin":
        app.kept = asyncio.create_task(background(), name="in the background")
        await asyncio.sleep(0)
        spin()
    elif path == "/sleep":
        time.sleep(1000)
    elif path == "/hold-the-gil":
        hold_the_gil()
    elif path == "/wait":
        await wait()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
