"""Logs by a logger of its own."""

import logging

log = logging.getLogger("shop.orders")


def app(environ, start_response):
    log.debug("order %s", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "0")])
    return []
