"""Replaces workers that have grown: nobody needs `max_requests` for that."""

import os

limit = int(os.environ["LIMIT"])


def post_request(worker, req):
    if worker.nr >= limit and worker.alive:
        worker.log.warning("worker %s has grown: leaving after %d requests", worker.pid, worker.nr)
        worker.alive = False
