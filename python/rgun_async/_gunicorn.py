"""Gunicorn's configuration file and server hooks, as far as they have to be Python: the file is run here, and its hooks are
called with objects that have the attributes of Gunicorn's arbiter, workers and requests.

The sources of what is imitated: gunicorn/app/base.py, config.py, arbiter.py, workers/base.py, http/message.py.
"""

import os
import sys

# Worker classes by the last part of their names, as the server knows them.
CLASSES = (
    "syncworker threadworker geventworker geventpywsgiworker asgiworker uvicornworker uvicornh11worker"
).split()
PLAIN = "sync gevent gevent_pywsgi gevent_wsgi gthread asgi auto eventlet tornado".split()
# Settings whose empty text is a text, not none.
TEXTS = {"root_path", "dogstatsd_tags", "statsd_prefix"}
SCHEMES = {"http", "https", "uwsgi", "tcp"}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

# Writes a line into the server's error log.
log = None
server = None
# How many arguments each hook may have.
HOOKS = {}
# The worker that this process is, and the file its hooks are from.
me = script_of_me = None


# ----- the file -----


class Script:
    """A configuration file that has been run."""

    def __init__(self, namespace):
        self.notes = []
        self.namespace = namespace
        self.hooks = {}
        self.values = {}
        self.cfg = None
        for name, value in namespace.items():
            if name in HOOKS:
                if value is not None:
                    self.hooks[name] = hook(name, value, HOOKS[name])
            elif name in ("worker_class", "logger_class"):
                self.values[name] = self.resolve(name, value)
            elif not name.startswith("_") and not isinstance(value, (type, type(os))):
                self.values[name] = value

    def resolve(self, name, value):
        """A class, a function that gives one, or its name."""
        if callable(value) and not isinstance(value, type):
            value = value()
        if name == "logger_class":
            return spelt(value) if isinstance(value, type) else value
        if isinstance(value, str):
            last = value.replace("#", ".").rsplit(".", 1)[-1].lower()
            if last in CLASSES or last in PLAIN or "." not in value:
                return value
            module, _, attribute = value.rpartition(".")
            try:
                value = getattr(__import__(module, fromlist=[attribute]), attribute)
            except Exception:
                return value
        if not isinstance(value, type):
            return value
        for base in value.__mro__:
            if base.__name__.lower() in CLASSES:
                if base is not value:
                    self.notes.append(
                        f"worker_class {spelt(value)} is served as {base.__name__}: what it adds is not run"
                    )
                return base.__name__
        return spelt(value)


def spelt(value):
    return f"{value.__module__}.{value.__qualname__}"


def hook(name, value, arities):
    """What is called for `name`."""
    if isinstance(value, str):
        module, dot, attribute = value.rpartition(".")
        if not dot:
            raise TypeError(f"{name}: {value!r} is no import string, such as module.function")
        value = getattr(__import__(module, fromlist=[attribute]), attribute)
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    count = arity(value)
    if count is not None and count not in arities:
        wanted = " or ".join(map(str, arities))
        raise TypeError(f"{name} must have {wanted} arguments, not {count}")
    if name == "post_request" and count in (2, 3):
        return lambda *arguments: value(*arguments[:count])
    return value


def arity(function):
    """How many positional arguments `function` has; None where that cannot be said."""
    bound = hasattr(function, "__self__")
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is not None and not hasattr(function, "__wrapped__"):
        # 4: it takes any number of them.
        return None if code.co_flags & 4 else code.co_argcount - bound
    from inspect import signature

    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def read(path, module, cwd, stand_in):
    """Runs the file `path`, or imports `module`, in the directory `cwd`; `stand_in` has what is missing of gunicorn."""
    with stand_in.StandIn() as gunicorn:
        script = Script(run(path, module, cwd))
    if gunicorn.used:
        script.notes.append(
            "gunicorn is not installed: what the configuration file imports of it has no effect"
        )
    return script


def run(path, module, cwd):
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    if module is not None:
        import importlib

        known = sys.modules.pop(module, None)
        try:
            found = importlib.import_module(module)
        except BaseException:
            if known is not None:
                sys.modules[module] = known
            raise
        return vars(found)
    from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader

    name = "__config__"
    loader = (SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader)(name, path)
    found = type(sys)(name)
    found.__file__, found.__loader__ = path, loader
    found.__spec__ = ModuleSpec(name, loader, origin=path)
    sys.modules[name] = found
    if path.endswith(".pyc"):
        code = loader.get_code(name)
    else:
        # Not by the loader's cache, which takes a file of the same second and length for the same.
        code = loader.source_to_code(loader.get_data(path), path)
    exec(code, vars(found))
    return vars(found)


# ----- cfg -----


class Setting:
    def __init__(self, name, value):
        self.name, self.value, self.default = name, value, None

    def get(self):
        return self.value

    def __repr__(self):
        return f"<Setting {self.name} with value {self.value!r}>"


class Config:
    """Gunicorn's `cfg`: every setting as an attribute."""

    def __init__(self, values):
        settings = {name: Setting(name, value) for name, value in values.items()}
        object.__setattr__(self, "settings", settings)

    def __getattr__(self, name):
        try:
            return self.settings[name].value
        except KeyError:
            raise AttributeError(f"No configuration setting for: {name}") from None

    def __setattr__(self, name, value):
        if name in self.settings:
            raise AttributeError("Invalid access!")
        object.__setattr__(self, name, value)

    def set(self, name, value):
        """Changes what hooks see; the server goes by what it has read."""
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        log(30, f"cfg.set({name!r}, ...) in a hook has no effect on the server")
        self.settings[name].value = value

    @property
    def env(self):
        return dict(pair.split("=", 1) for pair in self.raw_env)

    @property
    def address(self):
        return [address(bind) for bind in self.bind]

    @property
    def uid(self):
        return self.user

    @property
    def gid(self):
        return self.group

    @property
    def proc_name(self):
        return self.settings["proc_name"].value or self.default_proc_name

    @property
    def worker_class_str(self):
        return self.worker_class

    @property
    def is_ssl(self):
        return bool(self.certfile or self.keyfile)

    @property
    def sendfile(self):
        return False


def address(bind):
    scheme, _, place = bind.partition(":")
    if scheme in SCHEMES and place.startswith(("//", "unix:", "fd:")):
        # Seldom needed.
        from urllib.parse import unquote

        place = place.removeprefix("//").partition("?")[0]
        bind = unquote(place.rpartition("=")[0] if scheme == "tcp" else place)
    if bind.startswith("unix:"):
        return bind[5:]
    if bind.startswith("fd://"):
        return int(bind[5:])
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def configure(script, values, foreign):
    """Gives `script` its `cfg`: `values` are ours, in our notation, `foreign` Gunicorn's defaults of what is not here."""
    plain = {}
    for name, value in values.items():
        if isinstance(value, str):
            number, unit = value[:-3], value[-3:]
            if unit in UNITS and number.isdigit():
                value = int(number) * UNITS[unit]
            elif not value and name not in TEXTS:
                value = None
        plain[name] = value
    plain["secure_scheme_headers"] = dict(
        pair.split("=", 1) for pair in plain["secure_scheme_headers"]
    )
    plain["forwarded_allow_ips"] = (plain["forwarded_allow_ips"] or "").split(",")
    plain["pythonpath"] = ",".join(plain["pythonpath"]) or None
    plain["chdir"] = plain["chdir"] or os.getcwd()
    plain["user"] = account(plain["user"], os.geteuid(), "pwd", "getpwnam", "pw_uid")
    plain["group"] = account(plain["group"], os.getegid(), "grp", "getgrnam", "gr_gid")
    for name, value in foreign.items():
        plain[name] = script.namespace.get(name, value)
    if "default_proc_name" not in script.namespace:
        plain["default_proc_name"] = plain["wsgi_app"] or "gunicorn"
    for name in HOOKS:
        plain[name] = script.hooks.get(name) or nothing
    script.cfg = Config(plain)


def account(name, default, module, function, field):
    if name is None:
        return default
    try:
        return int(name)
    except ValueError:
        return getattr(getattr(__import__(module), function)(name), field)


def nothing(*_):
    """The default of every hook."""


# ----- server and worker -----


class Logger:
    """Gunicorn's `log`: the logger `gunicorn.error` behind the names of its levels."""

    def __init__(self, cfg):
        self.cfg = cfg

    @property
    def error_log(self):
        from logging import getLogger

        return getLogger("gunicorn.error")

    @property
    def access_log(self):
        from logging import getLogger

        return getLogger("gunicorn.access")

    def critical(self, message, *arguments, **more):
        self.error_log.critical(message, *arguments, **more)

    def error(self, message, *arguments, **more):
        self.error_log.error(message, *arguments, **more)

    def warning(self, message, *arguments, **more):
        self.error_log.warning(message, *arguments, **more)

    warn = warning

    def info(self, message, *arguments, **more):
        self.error_log.info(message, *arguments, **more)

    def debug(self, message, *arguments, **more):
        self.error_log.debug(message, *arguments, **more)

    def exception(self, message, *arguments, **more):
        self.error_log.exception(message, *arguments, **more)

    def log(self, level, message, *arguments, **more):
        if isinstance(level, str):
            level = getattr(__import__("logging"), level.upper(), 20)
        self.error_log.log(level, message, *arguments, **more)

    def reopen_files(self):
        pass

    def close_on_exec(self):
        pass


class App:
    def __init__(self, cfg):
        self.cfg = cfg

    @property
    def callable(self):
        return me.wsgi if me is not None else None

    def wsgi(self):
        return self.callable


class Listener:
    def __init__(self, url, fd):
        self.url, self.fd = url, fd

    def __str__(self):
        return self.url

    def fileno(self):
        return self.fd

    @property
    def sock(self):
        import socket

        return socket.socket(fileno=os.dup(self.fd))

    def getsockname(self):
        with self.sock as sock:
            return sock.getsockname()


class Environ:
    """What `raw_env` has changed in the environment of the master, where hooks look for it."""

    def __init__(self):
        self.before = {}

    def change(self, env):
        """Takes back the last change, and makes another."""
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.before = {name: os.environ.get(name) for name in env}
        os.environ.update(env)


class Server:
    """Gunicorn's arbiter, as hooks know it."""

    reexec_pid = master_pid = 0
    master_name = "Master"
    pidfile = cfg = None

    def __init__(self):
        self.environ = Environ()
        self.WORKERS, self.LISTENERS = {}, []
        self.worker_age = 0
        # Workers by their age.
        self._known = {}
        self.START_CTX = {"args": [sys.executable, *sys.argv], "cwd": os.getcwd(), 0: sys.executable}

    def update(self, cfg, pid, wanted, age, listeners):
        if cfg is not self.cfg:
            self.environ.change(cfg.env)
        self.cfg, self.pid, self.num_workers, self.worker_age = cfg, pid, wanted, age
        self.app, self.log = App(cfg), Logger(cfg)
        self.address, self.timeout, self.proc_name = cfg.address, cfg.timeout, cfg.proc_name
        if [(lis.url, lis.fd) for lis in self.LISTENERS] != listeners:
            self.LISTENERS = [Listener(*both) for both in listeners]

    def kill_worker(self, pid, sig):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass

    def kill_workers(self, sig):
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)


class Tmp:
    """The heartbeat file of a worker."""

    def __init__(self, fd):
        self.fd = fd

    def notify(self):
        from time import monotonic

        now = monotonic()
        os.utime(self.fd, (now, now))

    def last_update(self):
        return os.fstat(self.fd).st_mtime

    def fileno(self):
        return self.fd

    def close(self):
        pass


class Worker:
    """Gunicorn's worker, as hooks know it."""

    pid = "[booting]"
    booted = aborted = initialised = False
    reloader = wsgi = None
    _alive = True
    _requests = None

    def __init__(self, age, fd):
        self.age, self.tmp = age, Tmp(fd)
        self.ppid = server.pid
        self.sockets = server.LISTENERS
        self.cfg, self.app, self.log = server.cfg, server.app, server.log
        self.timeout = self.cfg.timeout / 2
        self.max_requests = self.cfg.max_requests or sys.maxsize

    def __str__(self):
        return f"<Worker {self.pid}>"

    @property
    def nr(self):
        return self._requests() if self._requests else 0

    @property
    def alive(self):
        return self._alive

    @alive.setter
    def alive(self, alive):
        self._alive = bool(alive)
        if not alive and self.booted:
            self.leave()

    def leave(self):
        """Finishes what is under way and ends, as at SIGTERM."""
        from signal import SIGTERM

        os.kill(os.getpid(), SIGTERM)

    def notify(self):
        self.tmp.notify()


def update(script, pid, wanted, age, listeners):
    global server
    if server is None:
        server = Server()
    server.update(script.cfg, pid, wanted, age, listeners)


def server_hook(script, name, *arguments):
    """A hook of the master's: `name(server, ...)`."""
    script.hooks.get(name, nothing)(server, *arguments)
    if name == "pre_exec":
        # The new master reads its own.
        server.environ.change({})


def pre_fork(script, age, fd):
    worker = server._known[age] = Worker(age, fd)
    script.hooks.get("pre_fork", nothing)(server, worker)


def forked(age, pid):
    worker = server._known[age]
    worker.pid = pid
    server.WORKERS[pid] = worker


def child_exit(script, age, pid):
    worker = server._known.pop(age, None)
    server.WORKERS.pop(pid, None)
    if worker is not None:
        script.hooks.get("child_exit", nothing)(server, worker)


def post_fork(script, age, fd, requests):
    global me, script_of_me
    me, script_of_me = server._known[age], script
    me.pid, me.tmp, me._requests = os.getpid(), Tmp(fd), requests
    script.hooks.get("post_fork", nothing)(server, me)


def initialise(script):
    """The app is loaded: `post_worker_init`, once."""
    if me is not None and not me.initialised:
        me.initialised = True
        script.hooks.get("post_worker_init", nothing)(me)


def booted():
    me.booted = True
    if not me.alive:
        me.leave()


def worker_int(script):
    me._alive = False
    script.hooks.get("worker_int", nothing)(me)


def abort():
    """The worker has been silent for too long."""
    if me is not None:
        me._alive, me.aborted = False, True
        try:
            script_of_me.hooks.get("worker_abort", nothing)(me)
        finally:
            worker_exit(script_of_me)


def worker_exit(script):
    script.hooks.get("worker_exit", nothing)(server, me)


def wrap(script, app, asgi, requests):
    """`app` with the request hooks of `script`, if it has any, by the module `requests`."""
    pre, post = script.hooks.get("pre_request"), script.hooks.get("post_request")
    # A preloaded app may have been wrapped in the master, by a file that was read before.
    app = getattr(app, "_app_without_hooks", app)
    if me is not None:
        me.wsgi = app
    if pre is None and post is None:
        return app
    wrapped = (requests.wrap_asgi if asgi else requests.wrap_wsgi)(app, pre, post)
    wrapped._app_without_hooks = app
    return wrapped
