"""Tells others by files: a proxy that the server is there, a tool for coverage that a worker has ended."""

import os
from pathlib import Path

raw_env = [f"MARKS={os.environ['PLACE']}"]


def ready():
    return Path(os.environ["MARKS"]) / "app-initialized"


def when_ready(server):
    ready().touch()


def worker_exit(server, worker):
    (Path(os.environ["MARKS"]) / f"worker-{worker.pid}").write_text(str(worker.nr))


def on_exit(server):
    ready().unlink()
