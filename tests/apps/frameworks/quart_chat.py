"""A chat in Quart: a WebSocket that tells everybody, a stream, a form, a background task."""

import asyncio

from quart import Quart, abort, jsonify, make_response, request, session, websocket

app = Quart(__name__)
app.secret_key = "a key that only the tests have"
rooms = {}
history = []


@app.before_serving
async def open_rooms():
    rooms["lobby"] = set()


@app.after_serving
async def close_rooms():
    app.logger.warning("chat: closed")


@app.get("/")
async def front():
    session["visits"] = session.get("visits", 0) + 1
    return f"visit {session['visits']}, {len(rooms['lobby'])} here"


@app.post("/say")
async def say():
    form = await request.form
    if not form.get("text"):
        abort(400, "nothing said")
    # Told after the answer, as a newsletter would be.
    app.add_background_task(tell, form["text"])
    return jsonify(said=form["text"]), 202


async def tell(text):
    await asyncio.sleep(0)
    history.append(text)
    for queue in rooms["lobby"]:
        await queue.put(text)


@app.get("/history")
async def what_was_said():
    return jsonify(history)


@app.get("/stream")
async def stream():
    lines = int(request.args["lines"])

    async def text():
        for number in range(lines):
            await asyncio.sleep(0)
            yield f"line {number}\n".encode()

    response = await make_response(text(), {"Content-Type": "text/plain"})
    response.timeout = None
    return response


@app.post("/upload")
async def upload():
    """A body piece by piece."""
    size = 0
    async for chunk in request.body:
        size += len(chunk)
    return jsonify(size=size)


@app.websocket("/lobby")
async def lobby():
    queue = asyncio.Queue()
    rooms["lobby"].add(queue)

    async def outwards():
        while True:
            await websocket.send(await queue.get())

    sender = asyncio.ensure_future(outwards())
    try:
        while True:
            await tell(await websocket.receive())
    finally:
        sender.cancel()
        rooms["lobby"].discard(queue)


@app.errorhandler(404)
async def missing(error):
    return "no such room", 404
