"""Prometheus with several processes: the directory is emptied at the start, and what a worker has counted as alive goes
with it."""

import os
import shutil

from prometheus_client import multiprocess

workers = 2
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={os.environ['METRICS']}"]


def on_starting(server):
    directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    server.log.info("forgot the gauges of %s", worker.pid)
