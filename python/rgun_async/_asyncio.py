"""The asgi driver, as far as it has to be Python: event loops, the lifespan protocol, the end.

With asyncio's own loop Tokio waits: the loop's selector is one that lets the runtime run until there is something for
Python to do. With uvloop, which takes no selector, the loop waits: Tokio's epoll descriptor is one of its readers.
"""

import asyncio
import contextvars
import os
import selectors
import traceback

# Tokio does not tell when its next timer is due. So there are turns for timers alone, so many seconds apart: those of
# WebSockets, which are of whole seconds. The worker's own make its epoll readable.
TICK = 0.2

# What the lifespan protocol came to.
STARTED, UNSUPPORTED, FAILED = 0, 1, 2


class TokioSelector(selectors.DefaultSelector):
    """Waits in the worker's runtime, in which Python's own epoll is one descriptor among others."""

    def __init__(self):
        super().__init__()
        # There while the worker serves: before and after that, in a process that the app has forked, and for an app that
        # runs the loop within itself, this is a selector like any other.
        self.turns = None

    def select(self, timeout=None):
        turns = self.turns
        ready = None if turns is None else turns.select(timeout)
        while ready:
            events = super().select(0)
            if events:
                return events
            ready = turns.resume()
        return super().select(timeout) if ready is None else ()


def make(uvloop):
    """The event loop, current from now on."""
    if uvloop:
        from uvloop import new_event_loop

        loop = new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop(TokioSelector())
    asyncio.set_event_loop(loop)
    return loop


def drive(loop, turns, fd):
    """Runs the loop until the worker has ended, and then what is left to do."""
    # The app may have run a loop of its own while it was imported.
    asyncio.set_event_loop(loop)
    selector = getattr(loop, "_selector", None)
    if isinstance(selector, TokioSelector):
        turns.watch(selector.fileno())
        selector.turns = turns

        def detach(forked=False):
            selector.turns = None
    else:
        detach = _watch(loop, turns, fd)

    # A process that the app forks must not serve what it shares with the worker.
    os.register_at_fork(after_in_child=lambda: detach(forked=True))
    try:
        while not turns.ended():
            _run(loop.run_forever)
        _run(lambda: loop.run_until_complete(_end(loop, turns)))
    finally:
        detach()
        turns.close()
        _run(loop.close)


def _run(function):
    try:
        function()
    except (KeyboardInterrupt, SystemExit):
        # An app has no say in the worker's life. The task that raised it tells of it.
        pass


def _watch(loop, turns, fd):
    """Has `loop` give the runtime turns."""
    # Else a turn would run in the context of the request that asked for it.
    context = contextvars.copy_context()
    tick, attached = None, True
    turn, rest = turns.turn, turns.rest
    bell, unrung = os.pipe()

    def drain(rung=False):
        if not attached:
            return
        if rung:
            turns.ring()
        turn()
        if rest():
            loop.call_soon(drain, context=context)

    def on_tick():
        nonlocal tick
        drain()
        if attached:
            tick = loop.call_later(TICK, on_tick, context=context)

    def detach(forked=False):
        nonlocal attached
        attached = False
        if forked:
            # What is taken out of the loop's epoll here would be taken out of the worker's: it is one and the same.
            return
        tick.cancel()
        loop.remove_reader(fd)
        loop.remove_reader(bell)
        os.close(bell)
        os.close(unrung)

    # Listening sockets are entered into the loop's epoll in the name of this pipe, to which nobody writes.
    backend = getattr(loop, "_get_backend_id", None)
    turns.connect(
        lambda: loop.call_soon(drain, context=context), backend() if backend else None, bell
    )
    loop.add_reader(fd, drain)
    loop.add_reader(bell, drain, True)
    # The first turn is a timer's, and not a callback: by then the readers above are in the loop's epoll.
    tick = loop.call_later(0, on_tick, context=context)
    return detach


async def _end(loop, turns):
    """What is left to do once the worker's connections are gone, within the time that is left."""
    # Requests that go on after their answer, and those that were cut.
    requests = turns.requests()
    if requests:
        _, pending = await asyncio.wait(requests, timeout=turns.left())
        await _cancel(pending)
    lifespan = turns.lifespan()
    if lifespan is not None:
        await lifespan.stop(turns.left() + turns.moment())
    this = asyncio.current_task()
    await _cancel([task for task in asyncio.all_tasks() if task is not this])
    try:
        await asyncio.wait_for(loop.shutdown_asyncgens(), 0.1)
    except asyncio.TimeoutError:
        pass


async def _cancel(tasks):
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    # Who does not heed it is left behind.
    await asyncio.wait(tasks, timeout=0.1)


class Lifespan:
    """The lifespan protocol with the app: https://asgi.readthedocs.io/en/stable/specs/lifespan.html"""

    def __init__(self, app, asgi, state, told):
        self.app, self.told = app, told
        self.scope = {"type": "lifespan", "asgi": asgi, "state": state}
        self.started = self.stopping = self.failed = False
        self.stop_asked = asyncio.Event()
        self.stopped = asyncio.Event()
        self.received = 0
        self.task = asyncio.get_running_loop().create_task(self.run(), name="lifespan")

    async def run(self):
        try:
            await self.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            raise
        except BaseException:
            if not self.started:
                self.tell(UNSUPPORTED, traceback.format_exc())
            elif not self.failed:
                self.told(FAILED, "Exception in the lifespan of the application\n" + traceback.format_exc())
        else:
            self.tell(UNSUPPORTED, "The application returned from its lifespan before it had started.\n")
        finally:
            self.stopped.set()

    def tell(self, outcome, text=""):
        if not self.started:
            self.started = True
            self.told(outcome, text.rstrip())

    async def receive(self):
        self.received += 1
        if self.received == 1:
            return {"type": "lifespan.startup"}
        if self.received == 2:
            await self.stop_asked.wait()
            return {"type": "lifespan.shutdown"}
        # There is nothing more to come.
        return await asyncio.get_running_loop().create_future()

    async def send(self, message):
        kind = message["type"]
        if not self.started and kind == "lifespan.startup.complete":
            self.tell(STARTED)
        elif not self.started and kind == "lifespan.startup.failed":
            self.failed = True
            self.tell(FAILED, message.get("message", ""))
        elif self.stopping and kind == "lifespan.shutdown.complete":
            self.stopped.set()
        elif self.stopping and kind == "lifespan.shutdown.failed":
            self.failed = True
            self.told(FAILED, "Application shutdown failed. " + message.get("message", ""))
            self.stopped.set()
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}")

    async def stop(self, within):
        """Tells the app that the worker leaves."""
        self.stopping = True
        self.stop_asked.set()
        try:
            await asyncio.wait_for(self.stopped.wait(), within)
        except asyncio.TimeoutError:
            self.told(FAILED, "The application's shutdown has not ended in time.")


async def awaiting(awaitable):
    """A coroutine of what is only awaitable."""
    return await awaitable
