"""The gevent driver, as far as it has to be Python: the hub's watchers.

gevent's hub waits; one of its watchers is Tokio's epoll descriptor. When that is readable, the
runtime gets a turn, then greenlets serve the requests it has read, then a turn writes the answers.
"""

import os
import sys

# Seconds that greenlets get to end in, once they are killed; the master has not much more patience with the worker.
GRACE = 0.2


patched = False


def patch():
    """Patches the standard library; returns what had been imported, or started, too early for that."""
    global patched
    late = []
    if patched:
        # In the master, before the app was preloaded.
        return late
    patched = True
    if "ssl" in sys.modules:
        late.append("the ssl module had been imported")
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        late.append("threads had been started")
    from importlib import metadata

    from gevent import monkey

    # gevent asks for plugins some thirty times, and each time the files of all that is installed are read.
    ask, known = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = known.select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = ask
    return late


def drive(turns, fd):
    """Runs the hub until the worker has ended."""
    from gevent import GreenletExit, sleep
    from gevent.hub import get_hub
    from greenlet import getcurrent, greenlet

    hub = get_hub()
    loop = hub.loop
    main = getcurrent()
    drain, run = turns.drain, turns.run
    runners = set()
    # Not a callback: those run one after another without a look at the watchers between.
    timer = loop.timer(0)

    def soon():
        if not timer.active:
            timer.start(drain)

    def on_fork():
        turns.forget()
        for watcher in (readable, listening, timer):
            watcher.stop()

    # Listening sockets are entered into the hub's epoll in the name of this pipe, to which nobody writes.
    bell, unrung = os.pipe()
    fileno = getattr(loop, "fileno", None)
    turns.connect(
        # gevent's own asks the greenlet that leaves whether it may; ours always may.
        greenlet.switch.__get__(hub),
        getcurrent,
        lambda: greenlet(run, hub),
        runners,
        soon,
        lambda: loop.run_callback(main.switch),
        lambda: loop.run_callback(drain),
        fileno() if fileno else None,
        bell,
    )
    readable, listening = loop.io(fd, 1), loop.io(bell, 1)
    readable.start(drain)
    listening.start(turns.ring)
    # By the time of the first turn the watchers above are in the hub's epoll.
    soon()
    os.register_at_fork(after_in_child=on_fork)
    try:
        hub.switch()
        # Whoever still serves a request is out of time.
        for runner in turns.busy():
            loop.run_callback(runner.throw, GreenletExit)
        left = GRACE
        while left > 0 and turns.busy():
            sleep(0.01)
            left -= 0.01
    finally:
        for watcher in (readable, listening, timer):
            watcher.close()
        os.close(bell)
        os.close(unrung)
