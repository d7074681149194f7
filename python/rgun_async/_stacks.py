"""What a worker that hangs is doing: the stack of every thread, greenlet and task, as text.

Called by a signal handler, wherever the worker's code is: nothing here waits for a lock of the app's, and a module
that is loaded may be so by half.
"""

import gc
import sys

# Frames of one stack: the outermost, and the innermost.
OUTER, INNER = 15, 45
# Stacks, and requests named beside one.
STACKS, NAMED = 100, 8


# The frames of whoever called the server: of no interest.
CALLERS = []


def report(interrupted, callers):
    """Yields the text in pieces. `interrupted` is the frame that the signal interrupted, if there was one."""
    CALLERS[:] = callers
    yield from told("threads", lambda: threads(interrupted))
    yield from told("greenlets", lambda: greenlets(of_types(greenlet_types())))
    yield from told("tasks", lambda: tasks(of_types(task_types())))


def told(what, stacks):
    """What `stacks` gives; if it fails, the others are told all the same."""
    try:
        yield from stacks()
    except Exception as error:
        yield "The %s cannot be told: %s: %s\n" % (what, type(error).__name__, error)


def part(module, name):
    """What a module has by this name; None where it is not loaded, or has not come so far."""
    return getattr(sys.modules.get(module), name, None)


def threads(interrupted):
    here = sys._getframe()
    known = dict(part("threading", "_active") or ())
    stacks = []
    for ident, frame in sys._current_frames().items():
        if any(one is here for one in outwards(frame)):
            heading = "The worker's main thread" + running_in()
            stacks.insert(0, (heading, list(outwards(interrupted))))
            continue
        thread = known.get(ident)
        name = repr(thread.name) if thread is not None else "unknown to threading"
        daemon = ", a daemon" if getattr(thread, "daemon", False) else ""
        stacks.append(("Thread %s (0x%x)%s" % (name, ident, daemon), list(outwards(frame))))
    yield from grouped(stacks, "threads")


def running_in():
    """The greenlet or task that the main thread runs, where it is one of the app's."""
    getcurrent = part("greenlet", "getcurrent")
    current = getcurrent() if getcurrent is not None else None
    if current is not None and current.parent is not None:
        return ", in gevent's hub" if is_hub(current) else ", in %s" % label(current)
    current_task = part("asyncio.tasks", "current_task")
    if current_task is not None:
        try:
            task = current_task()
        except RuntimeError:
            task = None
        if task is not None:
            return ", in task %r" % task.get_name()
    return ""


def greenlet_types():
    return present("greenlet", "greenlet")


def task_types():
    return list({*present("asyncio.tasks", "Task"), *present("asyncio.tasks", "_PyTask")})


def present(module, name):
    thing = part(module, name)
    return [] if thing is None else [thing]


def of_types(types):
    """All objects of these types. By their real class: a proxy's `__class__` is the app's code."""
    types = tuple(types)
    return [thing for thing in gc.get_objects() if issubclass(type(thing), types)] if types else []


def greenlets(found):
    """Those that wait. One that runs is its thread's stack; the hub is of no interest where it only waits."""
    stacks = []
    for greenlet in found:
        frame = greenlet.gr_frame
        if frame is None or is_hub(greenlet):
            continue
        stack = list(outwards(frame))
        # The server's own wait for what comes next.
        if not is_ours(stack[0]):
            stacks.append((label(greenlet).capitalize(), stack))
    yield from grouped(stacks, "greenlets")


def is_hub(greenlet):
    return type(greenlet).__name__ == "Hub"


def label(greenlet):
    name = getattr(greenlet, "name", None)
    return "greenlet %s" % (name if isinstance(name, str) else "0x%x" % id(greenlet))


def tasks(found):
    stacks = []
    for task in found:
        if not task.done():
            stacks.append(("Task %r" % task.get_name(), awaiting(task.get_coro())))
    yield from grouped(stacks, "tasks")


def awaiting(coroutine):
    """The frames of a coroutine and what it awaits, the innermost first."""
    frames = []
    while coroutine is not None and len(frames) < 1000:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, kind + "_frame", None)
            if frame is not None:
                frames.append(frame)
                break
        else:
            break
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else kind + "_await", None)
    return frames[::-1]


def outwards(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_ours(frame):
    return frame.f_code.co_filename.startswith("rgun_async/") or any(
        frame is caller for caller in CALLERS
    )


def grouped(stacks, plural):
    """One stack for all that are at the same place."""
    groups = {}
    for heading, frames in stacks:
        place = tuple((frame.f_code, frame.f_lineno) for frame in frames)
        # What runs is not at the place that its last frame tells.
        groups.setdefault(place or heading, []).append((heading, frames))
    for number, group in enumerate(groups.values()):
        if number == STACKS:
            yield "and %d more stacks of %s\n" % (len(groups) - STACKS, plural)
            return
        heading, frames = group[0]
        if len(group) > 1:
            heading = "%d %s at the same place" % (len(group), plural)
        serving = [name for name in (request(frames) for _, frames in group) if name]
        if serving:
            more = len(serving) - NAMED
            serving = ", ".join(serving[:NAMED]) + (" and %d more" % more if more > 0 else "")
            heading += ", serving " + serving
        yield "%s:\n%s" % (heading, lines(frames))


def request(frames):
    """The request that a stack serves: an app's own frames have it in their arguments."""
    for frame in reversed(frames):
        code = frame.f_code
        if is_ours(frame) or not code.co_argcount:
            continue
        try:
            known = frame.f_locals
            for name in code.co_varnames[: code.co_argcount]:
                value = known.get(name)
                if type(value) is dict:
                    told = wsgi(value) or asgi(value)
                    if told:
                        return told
        except Exception:
            continue
    return None


def wsgi(environ):
    if "wsgi.version" not in environ:
        return None
    target = environ.get("RAW_URI") or environ.get("PATH_INFO")
    return "%s %s" % (environ.get("REQUEST_METHOD"), target)


def asgi(scope):
    if scope.get("type") not in ("http", "websocket") or "path" not in scope:
        return None
    return "%s %s" % (scope.get("method", "WEBSOCKET"), scope["path"])


def lines(frames):
    """As in a traceback, the innermost frame last."""
    frames = [frame for frame in frames[::-1] if not is_ours(frame)]
    if not frames:
        return "  (not in Python code)\n"
    text = []
    left_out = len(frames) - OUTER - INNER
    parts = [frames[:OUTER], frames[-INNER:]] if left_out > 0 else [frames]
    for number, some in enumerate(parts):
        if number:
            text.append("  ... %d frames ...\n" % left_out)
        text.extend(formatted(some))
    return "".join(text)


def formatted(frames):
    try:
        from traceback import StackSummary

        return StackSummary.extract((frame, frame.f_lineno) for frame in frames).format()
    except Exception:
        # It, or what it reads sources by, is loaded by half.
        return [
            '  File "%s", line %s, in %s\n' % (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            for frame in frames
        ]
