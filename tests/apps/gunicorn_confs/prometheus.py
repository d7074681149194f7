"""Prometheus with several processes: the directory is emptied at the start, and what a worker has counted as alive goes
with it."""

import os
import shutil

# Before the import, which decides by it.
directory = os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["METRICS"]

from prometheus_client import multiprocess

workers = 2


def on_starting(server):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    server.log.info("forgot the gauges of %s", worker.pid)
