"""Notes in Litestar: plain text, JSON both ways, a dependency, an exception of its own, a stream."""

from dataclasses import dataclass

from litestar import Litestar, Request, get, post, websocket_listener
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream


@dataclass
class Note:
    title: str
    pages: int


class Notes:
    """Where notes are kept; a plain dictionary would be copied on its way into a handler."""

    def __init__(self):
        self.by_title = {}


async def open_notes(app: Litestar) -> None:
    app.state.notes = Notes()


async def notes_of(request: Request) -> Notes:
    return request.app.state.notes


@get("/")
async def hello() -> str:
    return "hello from Litestar"


@post("/notes")
async def write(data: JSONBody[Note], notes: NamedDependency[Notes]) -> Note:
    notes.by_title[data.title] = data
    return data


@get("/notes/{title:str}")
async def read(title: FromPath[str], notes: NamedDependency[Notes]) -> Note:
    if title not in notes.by_title:
        raise NotFoundException(f"no note {title}")
    return notes.by_title[title]


@get("/threaded", sync_to_thread=True)
def threaded() -> dict[str, bool]:
    import threading

    return {"main": threading.current_thread() is threading.main_thread()}


@get("/stream")
async def stream(lines: FromQuery[int]) -> Stream:
    async def text():
        for number in range(lines):
            yield f"line {number}\n"

    return Stream(text(), media_type="text/plain")


@websocket_listener("/upper")
async def upper(data: str) -> str:
    return data.upper()


app = Litestar(
    [hello, write, read, threaded, stream, upper],
    dependencies={"notes": Provide(notes_of)},
    on_startup=[open_notes],
)
