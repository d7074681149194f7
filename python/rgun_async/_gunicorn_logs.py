"""Gunicorn's loggers, as far as they have to be Python: `gunicorn.error` writes into the server's error log."""

import os
import sys

# Writes a line into the server's error log.
log = None


def handler():
    """A handler that writes into the server's error log."""
    import logging

    class ErrorLog(logging.Handler):
        def emit(self, record):
            try:
                log(record.levelno, self.format(record))
            except Exception:
                self.handleError(record)

    return ErrorLog()


def dress(logging, level):
    """Gives Gunicorn's loggers what they have there."""
    error, access = logging.getLogger("gunicorn.error"), logging.getLogger("gunicorn.access")
    if not getattr(error, "dressed", False):
        error.dressed = True
        error.addHandler(handler())
    error.propagate = access.propagate = False
    error.setLevel(level)
    access.setLevel(logging.INFO)


class Watch:
    """Waits in `sys.meta_path` for the first import of `logging`: who never does that pays nothing for its loggers."""

    def __init__(self):
        self.level = None

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        from importlib.machinery import PathFinder

        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            dress(module, self.level)

        spec.loader.exec_module = exec_module
        return spec


watch = Watch()


def loggers(level):
    """Sees to Gunicorn's loggers, now or when they can be there."""
    watch.level = level
    logging = sys.modules.get("logging")
    if logging is not None and hasattr(logging, "getLogger"):
        dress(logging, level)
    elif watch not in sys.meta_path:
        sys.meta_path.insert(0, watch)


def logconfig(script, json, ini):
    """Python's logging as `logconfig_dict`, `logconfig_json` or `logconfig` says."""
    given = script.namespace.get("logconfig_dict") if script is not None else None
    if given or json is not None:
        from logging.config import dictConfig

        if not given:
            from json import load

            with open(json, encoding="utf-8") as file:
                given = load(file)
        dictConfig({**defaults(), **given})
    elif ini is not None:
        from logging.config import fileConfig

        if not os.path.exists(ini):
            raise RuntimeError(f"log config {ini!r} not found")
        here = os.path.dirname(ini)
        fileConfig(ini, {"__file__": ini, "here": here}, disable_existing_loggers=False)


def defaults():
    """What a logging configuration starts from; the server's own handler is `error_console`."""
    form = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"generic": {"format": form, "datefmt": "[%Y-%m-%d %H:%M:%S %z]"}},
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": "generic",
                "stream": "ext://sys.stdout",
            },
            "error_console": {"()": handler},
        },
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": False},
            "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False},
        },
    }
