//! A response that a greenlet produces while the server sends it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use pyo3::prelude::*;

use super::hub::Hub;
use super::pipe::{Pipe, Room, Side, Taken};
use crate::app::python::named::{Failure, Named};
use crate::app::python::reply::{Outcome, Reply};
use crate::app::python::wsgi::{
    ExchangeState, Feed, Head, PyBody, Sink, Source, Wrapped, before_start, failed,
};
use crate::app::{FileReader, Line};
use crate::error::AnyError;

type Outgoing = Pipe<Failure, Py<PyAny>>;

/// How much may lie between the greenlet and the server; beyond, the greenlet waits.
const AHEAD: usize = 64 * 1024;

/// The way out of one request's greenlet.
pub(super) struct Output {
    hub: Rc<Hub>,
    reply: RefCell<Option<Reply>>,
    pipe: RefCell<Option<Rc<Outgoing>>>,
    line: Line,
}

impl Output {
    pub(super) fn new(hub: Rc<Hub>, reply: Reply, line: Line) -> Self {
        Self {
            hub,
            reply: RefCell::new(Some(reply)),
            pipe: RefCell::new(None),
            line,
        }
    }

    /// Answers with all of a response.
    pub(super) fn answer(&self, response: Response<PyBody>) {
        let reply = self.reply.take();
        if let Some(reply) = reply {
            self.send_reply(reply, Ok(response));
        }
    }

    /// Answers that the app has failed; where the head is out, the response is cut.
    pub(super) fn fail(&self, error: AnyError, request: &Named) {
        let reply = self.reply.take();
        if let Some(reply) = reply {
            if reply.is_abandoned() {
                return Failure::new(error, request.clone()).log();
            }
            self.send_reply(reply, Err(error));
        } else if let Some(pipe) = self.pipe.take() {
            self.end(&pipe, Err(error), request);
        }
    }

    /// Ends a response; an error that nobody is told is logged here.
    fn end(&self, pipe: &Outgoing, ended: Result<(), AnyError>, request: &Named) {
        match pipe.finish(ended.map_err(|error| Failure::new(error, request.clone()))) {
            Ok(reader) => self.hub.tell(reader),
            Err(failure) => failure.log(),
        }
    }

    fn send_reply(&self, reply: Reply, outcome: Outcome) {
        if let Some(task) = reply.send(outcome) {
            self.hub.board.wake(self.hub.py(), task);
        }
    }

    /// Sends a head whose body is to come.
    fn begin(&self, head: Head) -> Rc<Outgoing> {
        let pipe = Rc::new(Outgoing::new(AHEAD));
        self.pipe.replace(Some(Rc::clone(&pipe)));
        let fed = Fed {
            hub: Rc::clone(&self.hub),
            pipe: Rc::clone(&pipe),
        };
        let response = head.with(PyBody::fed(fed));
        let task = self.reply.take().and_then(|reply| reply.send(Ok(response)));
        if let Some(task) = task {
            self.hub.board.wake(self.hub.py(), task);
        }
        pipe
    }

    /// Sends all that `source` gives; with a `head` first, unless `write()` has sent that.
    pub(super) fn stream(&self, head: Option<Head>, mut source: Source) {
        let pipe = match head {
            Some(head) => match source.take_whole() {
                Some(whole) => {
                    self.answer(head.with(PyBody::whole(whole)));
                    return source.finish();
                }
                None => Some(self.begin(head)),
            },
            None => self.pipe.borrow().clone(),
        };
        let Some(pipe) = pipe else { return };
        let ended = loop {
            match source.next() {
                None => break Ok(()),
                Some(Ok(chunk)) => match self.send(&pipe, chunk) {
                    Ok(Room::Closed) => break Ok(()),
                    Ok(Room::Free | Room::Full) => {}
                    Err(error) => break Err(failed(self.hub.py(), &error)),
                },
                Some(Err(error)) => break Err(failed(self.hub.py(), &error)),
            }
        };
        // The client need not wait for the app's `close()`.
        self.end(&pipe, ended, source.request());
        source.finish();
    }

    /// Sends a file, and waits until the server has done with it.
    pub(super) fn file(&self, head: Head, file: Wrapped) {
        let Wrapped { range, returned } = file;
        let pipe = Rc::new(Outgoing::new(AHEAD));
        let sent = Sent {
            hub: Rc::clone(&self.hub),
            pipe: Rc::clone(&pipe),
            reader: RefCell::new(range.clone().into()),
        };
        self.answer(head.with_file(PyBody::fed(sent), range));
        while !matches!(pipe.room(), Room::Closed) {
            let waited = self.hub.wait(|side| pipe.park_writer(Some(side)));
            pipe.park_writer(None);
            if waited.is_err() {
                // Killed: the server has a descriptor of its own.
                break;
            }
        }
        drop(returned);
    }

    /// Puts a chunk in, then waits while the pipe is full.
    fn send(&self, pipe: &Outgoing, chunk: Bytes) -> PyResult<Room> {
        self.hub.tell(pipe.push(chunk));
        loop {
            match pipe.room() {
                Room::Full => {
                    let waited = self.hub.wait(|side| pipe.park_writer(Some(side)));
                    pipe.park_writer(None);
                    waited?;
                }
                room @ (Room::Free | Room::Closed) => return Ok(room),
            }
        }
    }
}

impl Sink for Output {
    fn write(&self, state: &ExchangeState, chunk: Bytes) -> PyResult<()> {
        let pipe = self.pipe.borrow().clone();
        let pipe = match (pipe, state.send_head()) {
            (Some(pipe), _) => pipe,
            (None, Some(head)) => self.begin(head),
            (None, None) => {
                return Err(before_start());
            }
        };
        self.send(&pipe, chunk).map(drop)
    }

    fn hint(&self, fields: HeaderMap) {
        // A hint that cannot be sent is no loss.
        let _ = self.line.inform(StatusCode::EARLY_HINTS, &fields);
    }
}

/// The server's end.
struct Fed {
    hub: Rc<Hub>,
    pipe: Rc<Outgoing>,
}

impl Feed for Fed {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        let (taken, writer) = self.pipe.take();
        self.hub.tell(writer);
        match taken {
            Taken::Chunk(chunk) => Poll::Ready(Some(Ok(chunk))),
            Taken::End(Ok(())) => Poll::Ready(None),
            Taken::End(Err(failure)) => Poll::Ready(Some(Err(failure.into_error()))),
            Taken::Nothing => {
                self.pipe.park_reader(Some(Side::Task(cx.waker().clone())));
                Poll::Pending
            }
        }
    }

    fn exact(&self) -> Option<u64> {
        None
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.hub.note(self.pipe.close());
        if let Some(failure) = self.pipe.untold() {
            failure.log();
        }
    }
}

/// A file on its way.
struct Sent {
    hub: Rc<Hub>,
    /// Nothing goes through it: its end tells the greenlet.
    pipe: Rc<Outgoing>,
    reader: RefCell<FileReader>,
}

impl Feed for Sent {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        let block = self.reader.borrow_mut().poll_block(cx);
        block.map(|block| block.map(|block| block.map_err(AnyError::from)))
    }

    fn exact(&self) -> Option<u64> {
        Some(self.reader.borrow().left())
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.hub.note(self.pipe.close());
    }
}
