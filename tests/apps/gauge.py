"""A worker that counts itself as alive, for Prometheus with several processes."""

import os

from prometheus_client import CollectorRegistry, Gauge, generate_latest, multiprocess

ALIVE = Gauge("workers_alive", "Workers.", multiprocess_mode="livesum")
ALIVE.set(1)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/pid":
        body = str(os.getpid()).encode()
    else:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
