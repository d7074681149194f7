"""An ASGI app that shows its scope, wherever it is asked."""

import asgi


async def app(scope, receive, send):
    if scope["type"] == "http":
        await asgi.facts(scope, receive, send)
