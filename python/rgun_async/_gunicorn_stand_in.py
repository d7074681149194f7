"""What configuration files import of the package gunicorn, for where that is not installed: names to set, and a logger class
to derive from. It is there while the file is read."""

import sys

MODULES = ("gunicorn", "gunicorn.glogging")


class StandIn:
    """The last finder in `sys.meta_path`, and the loader of what it finds."""

    used = False

    def __enter__(self):
        sys.meta_path.append(self)
        return self

    def __exit__(self, *_):
        sys.meta_path.remove(self)
        if self.used:
            for name in MODULES:
                sys.modules.pop(name, None)

    def find_spec(self, name, path=None, target=None):
        if name not in MODULES:
            return None
        from importlib.machinery import ModuleSpec

        self.used = True
        return ModuleSpec(name, self, is_package=name == "gunicorn")

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if module.__name__ == "gunicorn":
            module.__version__ = module.SERVER_SOFTWARE = module.SERVER = "rgun-async"
        else:
            module.Logger = logger()
            module.CONFIG_DEFAULTS = {}


def logger():
    class Logger:
        """A base for a logger class; the server's logs are not written by one."""

        def __init__(self, cfg):
            self.cfg = cfg

        def setup(self, cfg):
            pass

        def access(self, resp, req, environ, request_time):
            pass

    return Logger
