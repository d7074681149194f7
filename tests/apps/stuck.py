"""Ways to hang, and to end."""

import ctypes
import faulthandler
import os
import queue
import re
import sys
import threading
import time

if "FAULTHANDLER" in os.environ:
    faulthandler.enable()

if "HANG" in os.environ:
    while True:
        pass

if "gevent" in sys.modules:
    from gevent.monkey import get_original

    Lock = get_original("_thread", "allocate_lock")
else:
    Lock = threading.Lock


def spin():
    while True:
        pass


def sleep():
    ctypes.CDLL(None).usleep(0)
    pause = time.sleep
    if "gevent" in sys.modules:
        pause = get_original("time", "sleep")
    pause(1000)


def lock():
    held = Lock()
    held.acquire()
    held.acquire()


def waiting_queue():
    queue.SimpleQueue().get()


def regex():
    re.match("(a+)+$", "a" * 64 + "b")


def mutex(library):
    """Waits in C for what never comes, and goes on waiting when a signal comes."""
    memory = ctypes.create_string_buffer(256)
    library.pthread_mutex_init(memory, None)
    library.pthread_mutex_lock(memory)
    library.pthread_mutex_lock(memory)


def hold_the_gil():
    mutex(ctypes.PyDLL(None))


def release_the_gil():
    mutex(ctypes.CDLL(None))


def crash():
    ctypes.string_at(0)


def fail():
    raise ValueError("the app is wrong")


def wait():
    # Of greenlets, under gevent.
    time.sleep(1000)


def ticker():
    threading.Event().wait()


WAYS = {
    "/" + way.__name__.replace("_", "-"): way
    for way in (spin, sleep, lock, waiting_queue, regex, hold_the_gil, release_the_gil, crash, fail, wait)
}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/thread":
        threading.Thread(target=ticker, name="the ticker", daemon=True).start()
    elif path in WAYS:
        print("entered", path, file=sys.stderr, flush=True)
        WAYS[path]()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
