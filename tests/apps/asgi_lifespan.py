"""Apps that are told of the worker's start and end, each in its own way."""

import asyncio
import sys


def say(*words):
    print(*words, file=sys.stderr, flush=True)


async def serve(scope, receive, send):
    text = str(scope["state"].get("started")).encode()
    scope["state"]["started"] = "overwritten"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": text})


def lifespan(function):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await function(scope, receive, send)
        else:
            await serve(scope, receive, send)

    return app


@lifespan
async def good(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    await asyncio.sleep(0.01)
    scope["state"]["started"] = "yes"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await asyncio.sleep(0.01)
    say("the lifespan has ended")
    await send({"type": "lifespan.shutdown.complete"})


@lifespan
async def refuses(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


@lifespan
async def breaks(scope, receive, send):
    raise RuntimeError("a lifespan that breaks")


@lifespan
async def ends_badly(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "could not save"})


@lifespan
async def never_ends(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    try:
        await asyncio.sleep(3600)
    finally:
        say("the lifespan was cut")


@lifespan
async def dies(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    raise RuntimeError("a lifespan that dies young")


@lifespan
async def with_work(scope, receive, send):
    """Has a task of its own, which it ends itself, and a generator that nobody ends."""
    await receive()

    async def work():
        try:
            await asyncio.sleep(3600)
        finally:
            say("the work has ended")

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            say("the generator has ended")

    task = asyncio.create_task(work())
    scope["state"]["numbers"] = generator = numbers()
    await generator.__anext__()
    leaked = asyncio.create_task(asyncio.sleep(3600))
    leaked.add_done_callback(lambda task: say("leaked task cancelled:", task.cancelled()))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    task.cancel()
    await asyncio.wait([task])
    await send({"type": "lifespan.shutdown.complete"})
