"""Orders in FastAPI: validation, a dependency, a background task, streams, an exception handler, a WebSocket."""

import asyncio
import hashlib
import sys
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import (
    BackgroundTasks, Depends, FastAPI, Header, HTTPException, Path, Query, Request, UploadFile, WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field


class Order(BaseModel):
    item: str = Field(min_length=2)
    count: int = Field(gt=0)


class SoldOut(Exception):
    def __init__(self, item):
        super().__init__(item)
        self.item = item


@asynccontextmanager
async def lifespan(app):
    """What requests find in their state is made here."""
    print("orders: opened", file=sys.stderr, flush=True)
    await asyncio.sleep(0)
    yield {"orders": {}, "audit": []}
    print("orders: closed", file=sys.stderr, flush=True)


app = FastAPI(title="Orders", lifespan=lifespan)


def customer(key: Annotated[str | None, Header(alias="X-Key")] = None) -> str:
    """A dependency in a thread: it is no coroutine."""
    if key is None:
        raise HTTPException(401, "no key")
    return f"customer {key}"


async def record(audit, line):
    await asyncio.sleep(0.01)
    audit.append(line)


@app.post("/orders", status_code=201)
async def create(
    order: Order, request: Request, tasks: BackgroundTasks, who: Annotated[str, Depends(customer)]
):
    if order.item == "unicorn":
        raise SoldOut(order.item)
    orders = request.state.orders
    number = len(orders) + 1
    orders[number] = order
    tasks.add_task(record, request.state.audit, f"{who} ordered {order.count} {order.item}")
    return {"number": number, "order": order, "who": who}


@app.get("/orders/{number}")
async def read(
    request: Request,
    number: Annotated[int, Path(ge=1)],
    fields: Annotated[list[str] | None, Query()] = None,
):
    if number not in request.state.orders:
        raise HTTPException(404, f"no order {number}")
    found = request.state.orders[number].model_dump()
    return {key: value for key, value in found.items() if fields is None or key in fields}


@app.get("/audit")
async def audit(request: Request):
    return request.state.audit


@app.get("/threaded")
def threaded():
    """No coroutine, so it runs in a thread of anyio's."""
    import threading

    return {"main": threading.current_thread() is threading.main_thread()}


@app.post("/digest")
async def digest(file: UploadFile):
    sum_, size = hashlib.sha256(), 0
    while chunk := await file.read(64 * 1024):
        sum_.update(chunk)
        size += len(chunk)
    return {"digest": sum_.hexdigest(), "size": size, "name": file.filename}


@app.get("/export")
async def export(lines: int):
    async def rows():
        for number in range(lines):
            if number % 100 == 0:
                await asyncio.sleep(0)
            yield f"row {number}\n"

    return StreamingResponse(rows(), media_type="text/csv")


@app.get("/broken")
async def broken():
    raise RuntimeError("this path is broken")


@app.exception_handler(SoldOut)
async def sold_out(request: Request, error: SoldOut):
    return JSONResponse({"sold_out": error.item}, status_code=409)


@app.websocket("/echo/{room}")
async def echo(socket: WebSocket, room: str):
    await socket.accept(subprotocol="echo.v1" if "echo.v1" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "bye":
            await socket.send_json({"room": room, "text": text})
        await socket.close(4001, "bye")
    except WebSocketDisconnect as gone:
        socket.state.audit.append(f"{room} left with {gone.code}")
