"""Says where in its life the server is: the example that Gunicorn ships, as most have copied it."""

import sys
import threading
import traceback

workers = 1


def on_starting(server):
    server.log.info("hook on_starting: %d workers on %s", server.cfg.workers, server.address)


def nworkers_changed(server, new_value, old_value):
    server.log.info("hook nworkers_changed: from %s to %s", old_value, new_value)


def when_ready(server):
    listeners = ",".join(str(listener) for listener in server.LISTENERS)
    server.log.info("hook when_ready: %s, %s", listeners, server.proc_name)


def on_reload(server):
    server.log.info("hook on_reload: %d workers", server.num_workers)


def pre_fork(server, worker):
    worker.marked_by = server.pid
    server.log.info("hook pre_fork: %s of age %d", worker, worker.age)


def post_fork(server, worker):
    server.log.info("hook post_fork: (pid: %s) of %s", worker.pid, worker.marked_by)


def post_worker_init(worker):
    worker.log.info("hook post_worker_init: %s serves %s", worker.pid, worker.wsgi.__name__)


def pre_exec(server):
    server.log.info("hook pre_exec: forked child, re-executing.")


def worker_int(worker):
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():
        lines.append(f"# Thread: {names.get(ident, '')}({ident})")
        lines += [line.strip() for line in traceback.format_stack(frame)]
    worker.log.info("hook worker_int: %d lines of stacks", len(lines))


def worker_abort(worker):
    worker.log.info("hook worker_abort: %s", worker.pid)


def worker_exit(server, worker):
    server.log.info("hook worker_exit: %s after %d requests", worker.pid, worker.nr)


def child_exit(server, worker):
    others = sorted(server.WORKERS)
    server.log.info("hook child_exit: %s, marked by %s, %d left", worker.pid, worker.marked_by, len(others))


def on_exit(server):
    server.log.info("hook on_exit: %d workers left", len(server.WORKERS))
