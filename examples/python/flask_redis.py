"""Flask with Redis: each request counts one up and reads the count.

    pip install flask redis gevent
    REDIS_URL=redis://127.0.0.1:6379/0 \\
        rgun-async --chdir examples/python -w 4 -k gevent --worker-connections 1000 flask_redis:app

`REDIS_PORT` alone does for a Redis on this machine.
"""

import os

import redis
from flask import Flask

URL = os.environ.get("REDIS_URL") or f"redis://127.0.0.1:{os.environ.get('REDIS_PORT', '6379')}/0"

# One pool in each worker: the module is imported after the fork. Under gevent every request that waits holds a connection,
# so the pool must not be smaller than the worker's --worker-connections; beyond it a request waits for one.
pool = redis.BlockingConnectionPool.from_url(URL, max_connections=1000, timeout=30)
store = redis.Redis(connection_pool=pool)

app = Flask(__name__)


@app.get("/")
def count():
    store.incr("hits")
    # Always of one length: `ab` takes answers of different lengths for failures.
    return f"{int(store.get('hits')):012d}\n"
