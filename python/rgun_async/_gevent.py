"""The gevent driver, as far as it has to be Python: hub watchers and greenlet switches.

gevent's hub waits; one of its watchers is Tokio's epoll descriptor. When that is readable, the
runtime gets a turn, then greenlets serve the requests it has read, then a turn writes the answers.
"""

import os
import sys

# Greenlets that are kept for later requests.
KEEP = 1000
# Turns in a row before the hub looks at its other watchers.
ROUNDS = 4
# Seconds between the turns that only Tokio's timers need.
TICK = 0.2
# Seconds that greenlets get to end in, once they are killed.
GRACE = 0.5

WAITERS = 2


def patch():
    """Patches the standard library; returns what had been imported, or started, too early for that."""
    late = []
    if "ssl" in sys.modules:
        late.append("the ssl module had been imported")
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        late.append("threads had been started")
    from gevent import monkey

    monkey.patch_all()
    return late


def drive(turns, fd):
    """Runs the hub until the worker has ended."""
    from gevent import GreenletExit, sleep
    from gevent.hub import get_hub
    from greenlet import getcurrent, greenlet

    hub = get_hub()
    loop = hub.loop
    main = getcurrent()
    turn, serve, waiting, rest = turns.turn, turns.serve, turns.waiting, turns.rest
    parked = []
    runners = set()
    state = {"ended": False}

    def run():
        this = getcurrent()
        try:
            while len(parked) < KEEP and not state["ended"]:
                serve()
                parked.append(this)
                hub.switch()
        finally:
            runners.discard(this)

    def start():
        runner = greenlet(run, hub)
        runners.add(runner)
        return runner

    def drain():
        for _ in range(ROUNDS):
            work = turn()
            if not work:
                break
            if work & WAITERS:
                for waiter in turns.waiters():
                    waiter.switch(None)
            while waiting():
                (parked.pop() if parked else start()).switch()
        if rest() and not state["ended"]:
            state["ended"] = True
            loop.run_callback(main.switch)

    def connection():
        turns.ring()
        drain()

    # Listening sockets are entered into the hub's epoll in the name of this pipe, to which nobody writes.
    bell, unrung = os.pipe()
    fileno = getattr(loop, "fileno", None)
    turns.connect(lambda: loop.run_callback(drain), fileno() if fileno else None, bell)
    readable = loop.io(fd, 1)
    listening = loop.io(bell, 1)
    tick = loop.timer(TICK, TICK)
    first = loop.timer(0)
    readable.start(drain)
    listening.start(connection)
    tick.start(drain)
    # Not a callback: by the time of a timer, the watchers above are in the hub's epoll.
    first.start(drain)
    try:
        hub.switch()
        # Whoever still serves a request is out of time.
        for runner in runners.difference(parked):
            loop.run_callback(runner.throw, GreenletExit)
        left = GRACE
        while left > 0 and runners.difference(parked):
            sleep(0.01)
            left -= 0.01
    finally:
        for watcher in (readable, listening, tick, first):
            watcher.stop()
            watcher.close()
        os.close(bell)
        os.close(unrung)
