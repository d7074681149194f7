"""Flask with its logger led to the server's, as is done under Gunicorn."""

import logging

from flask import Flask

app = Flask(__name__)

if __name__ != "__main__":
    theirs = logging.getLogger("gunicorn.error")
    app.logger.handlers = theirs.handlers
    app.logger.setLevel(theirs.level)

logging.getLogger("shop").info("nobody hears this")


@app.get("/")
def index():
    app.logger.debug("a detail")
    app.logger.info("sold %d", 3)
    app.logger.warning("nearly out of stock")
    return "sold"


@app.get("/fails")
def fails():
    raise ValueError("out of stock")
