"""The app's loggers as JSON on standard output, by a formatter of the file's own."""

import json
import logging

loglevel = "debug"
logger_class = "json_logs.Logger"


class Lines(logging.Formatter):
    def format(self, record):
        return json.dumps({"logger": record.name, "level": record.levelname, "text": record.getMessage()})


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": Lines}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "gunicorn.error": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "shop": {"handlers": ["console"], "level": "DEBUG", "propagate": False},
    },
}


def post_worker_init(worker):
    worker.log.info("worker is ready")
