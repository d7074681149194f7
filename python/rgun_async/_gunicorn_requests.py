"""`pre_request` and `post_request`: an app with Gunicorn's request hooks around each call."""

# The module `_gunicorn`, whose `me` is the worker.
gunicorn = None


class Request:
    """Gunicorn's request, as `pre_request` and `post_request` know it."""

    fragment = ""

    def __init__(self, method, uri, version, scheme, peer, headers, body):
        self.method, self.uri, self.version, self.scheme = method, uri, version, scheme
        self.remote_addr = self.peer_addr = peer
        self.headers, self.body = headers, body
        self.trailers = []
        path, _, self.fragment = uri.partition("#")
        self.path, _, self.query = path.partition("?")

    def should_close(self):
        return False

    def state(self):
        return self.method, self.uri, self.path, self.query, self.scheme, list(self.headers)


class Response:
    """Gunicorn's response, as `post_request` knows it."""

    status = status_code = response_length = None
    headers_sent = chunked = False
    sent = 0

    def __init__(self):
        self.headers = []

    def start(self, status, headers):
        self.status, self.headers = status, [(str(name), str(value)) for name, value in headers]
        code = status.split(" ", 1)[0]
        self.status_code = int(code) if code.isdigit() else None
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdigit():
                self.response_length = int(value)


def finish(post, *about):
    if post is not None:
        worker = gunicorn.me
        try:
            post(worker, *about)
        except Exception:
            worker.log.exception("Exception in post_request hook")


def version(text):
    major, _, minor = text.rpartition("/")[2].partition(".")
    return int(major or 1), int(minor or 0)


def wrap_wsgi(app, pre, post):
    """`app` with the request hooks around each call: in the greenlet or thread that serves the request."""

    def application(environ, start_response):
        get = environ.get
        headers = [
            (name[5:].replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if get(name):
                headers.append((name.replace("_", "-"), environ[name]))
        port = get("REMOTE_PORT", "")
        peer = (get("REMOTE_ADDR", ""), int(port) if port.isdigit() else -1)
        request = Request(
            get("REQUEST_METHOD"),
            get("RAW_URI", ""),
            version(get("SERVER_PROTOCOL", "HTTP/1.1")),
            get("wsgi.url_scheme"),
            peer,
            headers,
            get("wsgi.input"),
        )
        response = None
        try:
            if pre is not None:
                before = request.state()
                pre(gunicorn.me, request)
                if request.state() != before:
                    amend(environ, request, before)
            response = Response()
            return Body(app, environ, start_response, request, response, post)
        except BaseException:
            finish(post, request, environ, response)
            raise

    return application


def amend(environ, request, before):
    """A hook has changed the request: so does the environ."""
    from urllib.parse import unquote_to_bytes

    method, uri, path, query, scheme, headers = before
    if request.uri != uri:
        environ["RAW_URI"] = request.uri
    if request.path != path:
        mount, plain = environ.get("SCRIPT_NAME", ""), unquote_to_bytes(request.path)
        plain = plain.decode("latin-1")
        environ["PATH_INFO"] = plain[len(mount) :] if plain.startswith(mount) else plain
    if request.query != query:
        environ["QUERY_STRING"] = request.query or ""
    environ["REQUEST_METHOD"], environ["wsgi.url_scheme"] = request.method, request.scheme
    if request.headers != headers:
        for name in [name for name in environ if name.startswith("HTTP_")]:
            del environ[name]
        for name, value in request.headers:
            name = name.upper().replace("-", "_")
            if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                name = "HTTP_" + name
                if name in environ:
                    value = environ[name] + "," + value
            environ[name] = value


class Body:
    """What `app` returned, with `post_request` at its end."""

    def __init__(self, app, environ, start_response, request, response, post):
        self.about, self.post = (request, environ, response), post
        self.start_response = start_response
        self.returned = app(environ, self.start)
        self.iterator = None

    def start(self, status, headers, *exc_info):
        write = self.start_response(status, headers, *exc_info)
        response = self.about[2]
        response.start(status, headers)

        def counted(data):
            response.sent += len(data)
            return write(data)

        return counted

    def __iter__(self):
        self.iterator = iter(self.returned)
        return self

    def __next__(self):
        chunk = next(self.iterator)
        response = self.about[2]
        response.headers_sent = True
        response.sent += len(chunk)
        return chunk

    def close(self):
        try:
            close = getattr(self.returned, "close", None)
            if close is not None:
                close()
        finally:
            finish(self.post, *self.about)


def wrap_asgi(app, pre, post):
    """`app` with the request hooks around each HTTP request: in the request's task."""

    async def application(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = [
            (name.decode("latin-1").upper(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        raw = scope.get("raw_path") or scope["path"].encode()
        uri, query = raw.decode("latin-1"), scope["query_string"].decode("latin-1")
        if query:
            uri += "?" + query
        peer = tuple(scope.get("client") or ("", -1))
        request = Request(
            scope["method"],
            uri,
            version(scope["http_version"]),
            scope.get("scheme", "http"),
            peer,
            headers,
            None,
        )
        response = Response()

        async def sent(message):
            if message["type"] == "http.response.start":
                pairs = [
                    (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                    for name, value in message.get("headers", ())
                ]
                response.start(str(message["status"]), pairs)
                response.status = response.status_code
            elif message["type"] == "http.response.body":
                response.headers_sent = True
                response.sent += len(message.get("body", b""))
            await send(message)

        try:
            if pre is not None:
                pre(gunicorn.me, request)
            await app(scope, receive, sent)
        finally:
            finish(post, request, environ_of(scope, request), response)

    return application


def environ_of(scope, request):
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": scope["path"],
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/%d.%d" % request.version,
        "REMOTE_ADDR": request.remote_addr[0],
        "REMOTE_PORT": str(request.remote_addr[1]),
        "wsgi.url_scheme": request.scheme,
    }
    for name, value in request.headers:
        environ["HTTP_" + name.replace("-", "_")] = value
    return environ
