"""Imports what only Gunicorn has: to hide its name, and to filter its access log."""

import gunicorn
from gunicorn.glogging import Logger

gunicorn.SERVER_SOFTWARE = "nobody"


class Quiet(Logger):
    def access(self, resp, req, environ, request_time):
        if req.path != "/health":
            super().access(resp, req, environ, request_time)


logger_class = Quiet
workers = 1
