"""The app of wsgi.py behind wsgiref.validate, which raises at any breach of PEP 3333 by the server."""

from wsgiref.validate import validator


def inner(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    else:
        body = b"valid"
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]


app = validator(inner)
