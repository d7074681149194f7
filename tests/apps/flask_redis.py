"""Flask and Redis: INCR and GET for each request. `REDIS_URL` says where Redis is."""

import os

import redis
from flask import Flask

app = Flask(__name__)
# redis-py caps its pool at 100 connections and fails past it; a gevent worker may have more requests waiting than that.
store = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=2000)


@app.route("/")
def count():
    store.incr("hits")
    # Of one length whatever the number is: `ab` counts an answer of another length as failed.
    return f"hits {int(store.get('hits')):012d}\n"


@app.route("/hits")
def hits():
    return str(int(store.get("hits") or 0))
