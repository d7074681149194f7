"""Apps made by a factory, with and without arguments."""


def create(greeting="made", *, mark="."):
    body = f"{greeting}{mark}".encode()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return app


class Holder:
    app = staticmethod(create("held"))


not_callable = 7
