"""The gevent driver, as far as it has to be Python: hub watchers and greenlet switches.

gevent's hub waits; one of its watchers is Tokio's epoll descriptor. When that is readable, the
runtime gets a turn, then greenlets serve the requests it has read, then a turn writes the answers.
"""

import os
import sys

# Greenlets that are kept for later requests.
KEEP = 1000
# Turns in a row before the hub looks at its other watchers: the app's sockets, the listeners.
ROUNDS = 2
# Tokio does not tell when its next timer is due. So there are turns for timers alone, soon after one that may have set
# a timer, then at twice the distance each, up to the second figure: what is due in a while is never late by more than that
# while again. In seconds.
TICKS = (0.002, 0.2)
# Seconds that greenlets get to end in, once they are killed; the master has not much more patience with the worker.
GRACE = 0.2

# What `turn` and `rest` answer.
WAITERS = 2
MORE, ENDED = 1, 2


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
    ended = forked = False
    pause, tick, quiet = TICKS[0], None, False
    # Not a callback: those run one after another without a look at the watchers between.
    soon = loop.timer(0)

    def run():
        this = getcurrent()
        try:
            while len(parked) < KEEP and not ended:
                serve()
                parked.append(this)
                hub.switch()
        finally:
            runners.discard(this)

    def start():
        runner = greenlet(run, hub)
        runners.add(runner)
        return runner

    def drain(rung=False):
        nonlocal ended, quiet
        quiet = False
        for _ in range(ROUNDS):
            # Asked anew each time: whatever runs between may be the one that forks.
            if forked:
                return
            if rung:
                turns.ring()
            work = turn()
            if not work:
                break
            if work & WAITERS:
                for waiter in turns.waiters():
                    waiter.switch(None)
            while not forked and waiting():
                (parked.pop() if parked else start()).switch()
        if forked:
            return
        if pause > TICKS[0]:
            arm(TICKS[0])
        state = rest()
        if state & MORE and not soon.active:
            soon.start(drain)
        if state & ENDED and not ended:
            ended = True
            loop.run_callback(main.switch)

    def arm(seconds):
        nonlocal pause, tick
        if tick is not None:
            tick.close()
        pause, tick = seconds, loop.timer(seconds)
        tick.start(on_tick)

    def on_fork():
        # A process that the app forked is no worker: it must not serve what it shares with one.
        nonlocal forked
        forked = True
        for watcher in (readable, listening, tick, soon):
            watcher.stop()

    def on_tick():
        nonlocal pause, quiet
        following = min(pause * 2, TICKS[1]) if quiet else TICKS[0]
        # So that `drain` does not take this turn for one that may have set a timer.
        pause = 0
        drain()
        quiet = True
        arm(following)

    # Listening sockets are entered into the hub's epoll in the name of this pipe, to which nobody writes.
    bell, unrung = os.pipe()
    fileno = getattr(loop, "fileno", None)
    turns.connect(lambda: loop.run_callback(drain), fileno() if fileno else None, bell)
    readable, listening = loop.io(fd, 1), loop.io(bell, 1)
    readable.start(drain)
    listening.start(drain, True)
    # The first turn is a timer's, and not a callback: by then the watchers above are in the hub's epoll.
    arm(TICKS[0])
    os.register_at_fork(after_in_child=on_fork)
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
        for watcher in (readable, listening, tick, soon):
            watcher.close()
        os.close(bell)
        os.close(unrung)
