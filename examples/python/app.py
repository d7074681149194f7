"""A WSGI app that needs nothing but Python.

    cargo run --release -- --chdir examples/python -w 9 --worker-connections 1000 app
"""

import json
import os
import platform
import time
from html import escape
from urllib.parse import parse_qs

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>It runs</title>
<style>
  body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 38rem; margin: 12vh auto; padding: 0 1.5rem;
         color: #222; background: #fdfdfb }}
  code {{ background: #eee8; padding: .1em .35em; border-radius: .25em }}
  a {{ color: #0a5c8a }}
  small {{ color: #777 }}
</style>
<h1>It runs.</h1>
<p>This page comes from a WSGI app, called by worker <code>{pid}</code> of <code>{software}</code>
   in Python {python}.</p>
<ul>
  <li><a href="headers">/headers</a> shows the request as the app sees it.</li>
  <li><a href="sleep?ms=500">/sleep?ms=500</a> waits for half a second, then answers.</li>
  <li><a href="stream?lines=20">/stream?lines=20</a> sends a line every 100&nbsp;ms.</li>
  <li><code>curl -d hello {base}/echo</code> gets its own words back.</li>
</ul>
<p><small>Reload for another worker, if there is more than one.</small></p>
"""


def home(environ, start_response):
    base = f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', environ['SERVER_NAME'])}"
    page = PAGE.format(
        pid=os.getpid(),
        software=escape(environ["SERVER_SOFTWARE"]),
        python=platform.python_version(),
        base=escape(base),
    )
    return respond(start_response, "200 OK", "text/html; charset=utf-8", page.encode())


def headers(environ, start_response):
    shown = {key: environ[key] for key in sorted(environ) if isinstance(environ[key], str)}
    body = json.dumps(shown, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return respond(start_response, "200 OK", "application/json", body + b"\n")


def sleep(environ, start_response):
    ms = number(environ, "ms", 100, 60_000)
    time.sleep(ms / 1000)
    return respond(start_response, "200 OK", "text/plain", b"slept for %d ms\n" % ms)


def stream(environ, start_response):
    lines = number(environ, "lines", 10, 1_000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    for line in range(1, lines + 1):
        yield b"line %d of %d\n" % (line, lines)
        time.sleep(0.1)


def echo(environ, start_response):
    kind = environ.get("CONTENT_TYPE") or "application/octet-stream"
    return respond(start_response, "200 OK", kind, environ["wsgi.input"].read())


def not_found(environ, start_response):
    body = b"There is no %s here.\n" % environ["PATH_INFO"].encode("latin-1")
    return respond(start_response, "404 Not Found", "text/plain; charset=utf-8", body)


PATHS = {"/": home, "/headers": headers, "/sleep": sleep, "/stream": stream, "/echo": echo}


def application(environ, start_response):
    return PATHS.get(environ["PATH_INFO"], not_found)(environ, start_response)


def respond(start_response, status, kind, body):
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def number(environ, name, default, largest):
    """A number from the query, within reason."""
    text = parse_qs(environ["QUERY_STRING"]).get(name, [""])[0]
    return min(int(text), largest) if text.isascii() and text.isdigit() else default
