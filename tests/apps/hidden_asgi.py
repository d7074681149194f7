"""An app whose kind its source does not show."""


class App:
    async def __call__(self, *arguments):
        scope, _, send = arguments
        if scope["type"] == "lifespan":
            raise RuntimeError("it has none")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"hidden"})


def create():
    return App()
