//! A response that a thread makes while the server sends it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use pyo3::prelude::*;

use super::Shared;
use super::pipe::{Pipe, Room};
use super::pool::Seat;
use super::reply::{Delivery, Reply};
use super::runner::Task;
use crate::app::FileReader;
use crate::app::python::named::{Failure, Named};
use crate::app::python::object::Context;
use crate::app::python::shared::Away;
use crate::app::python::wsgi::{
    ExchangeState, Feed, Head, Returned, Sink, Source, Wrapped, before_start, failed,
};
use crate::error::AnyError;

/// How much may lie between the thread and the server: a response up to this length is taken at once, however slow its
/// client is; beyond, the thread waits.
const AHEAD: usize = 256 * 1024;

/// The way out of one request's thread.
pub(super) struct Output {
    py: Python<'static>,
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    reply: RefCell<Option<Reply>>,
    pipe: RefCell<Option<Arc<Pipe>>>,
}

impl Output {
    pub(super) fn new(
        py: Python<'static>,
        shared: Arc<Shared>,
        seat: Arc<Seat>,
        reply: Reply,
    ) -> Rc<Self> {
        Rc::new(Self {
            py,
            shared,
            seat,
            reply: RefCell::new(Some(reply)),
            pipe: RefCell::new(None),
        })
    }

    /// Answers with all of a response.
    fn answer(&self, response: Response<Delivery>) {
        self.shared.end_if_forked(self.py);
        let reply = self.reply.take();
        if let Some(reply) = reply {
            reply.send(Ok(response));
        }
    }

    /// Answers with all of a body.
    pub(super) fn whole(&self, head: Response<()>, body: Bytes) {
        self.answer(head.map(|()| Delivery::Whole(body)));
    }

    /// Answers that the app has failed; where the head is out, the response is cut.
    pub(super) fn fail(&self, error: AnyError, request: &Named) {
        self.shared.end_if_forked(self.py);
        let reply = self.reply.take();
        if let Some(reply) = reply {
            if reply.is_abandoned() {
                return Failure::new(error, request.clone()).log();
            }
            reply.send(Err(error));
        } else if let Some(pipe) = self.pipe.take() {
            end(&pipe, Err(error), request);
        }
    }

    /// Sends a head, and the first chunk with it.
    fn begin(&self, head: Head, first: Option<Bytes>) -> Arc<Pipe> {
        self.shared.end_if_forked(self.py);
        let pipe = Arc::new(Pipe::new(AHEAD, Arc::clone(&self.shared.board)));
        if let Some(first) = first {
            pipe.push(first);
        }
        self.pipe.replace(Some(Arc::clone(&pipe)));
        let fed = Delivery::Fed(Fed(Arc::clone(&pipe)));
        let reply = self.reply.take();
        if let Some(reply) = reply {
            reply.send(Ok(head.with(fed)));
        }
        pipe
    }

    /// Sends all that `source` gives; with a `head` first, unless `write()` has sent that.
    pub(super) fn stream(&self, head: Option<Head>, mut source: Source) {
        let pipe = match head {
            Some(head) => {
                if let Some(whole) = source.take_whole() {
                    self.answer(head.with(Delivery::Whole(whole)));
                    return source.finish();
                }
                let first = source.take_ready();
                Some(self.begin(head, first))
            }
            None => self.pipe.borrow().clone(),
        };
        let Some(pipe) = pipe else { return };
        // All of it is in memory already: it may as well lie in the pipe, and the thread is free.
        let at_hand = source.is_at_hand();
        let ended = loop {
            match source.next() {
                None => break Ok(()),
                Some(Ok(chunk)) => match self.send(&pipe, chunk, at_hand) {
                    Room::Closed => break Ok(()),
                    Room::Free | Room::Full => {}
                },
                Some(Err(error)) => break Err(failed(self.py, &error)),
            }
        };
        self.shared.end_if_forked(self.py);
        // The client need not wait for the app's `close()`.
        end(&pipe, ended, source.request());
        source.finish();
    }

    /// Sends a file, which the server reads. What is left to do then is done in the request's `context`, which has to be left.
    pub(super) fn file(&self, head: Head, file: Wrapped, context: Context) {
        let Wrapped { range, returned } = file;
        let sent = Sent {
            reader: RefCell::new(range.clone().into()),
            shared: Arc::clone(&self.shared),
            rest: Some(Closing {
                returned: returned.into_away(),
                context: context.into_away(),
            }),
        };
        self.answer(head.with_file(Delivery::Sent(Box::new(sent)), range));
    }

    /// Puts a chunk in, then waits while the pipe is full, unless `at_once`.
    fn send(&self, pipe: &Pipe, chunk: Bytes, at_once: bool) -> Room {
        self.shared.end_if_forked(self.py);
        match pipe.push(chunk) {
            Room::Full if !at_once => {
                self.seat.waits_for_client();
                let room = self.py.detach(|| pipe.wait());
                self.shared.pool.works(&self.seat);
                room
            }
            room @ (Room::Full | Room::Free | Room::Closed) => room,
        }
    }
}

/// Ends a response; an error that nobody is told is logged here.
fn end(pipe: &Pipe, ended: Result<(), AnyError>, request: &Named) {
    let ended = ended.map_err(|error| Failure::new(error, request.clone()));
    if let Err(failure) = pipe.finish(ended) {
        failure.log();
    }
}

impl Sink for Output {
    fn write(&self, state: &ExchangeState, chunk: Bytes) -> PyResult<()> {
        let pipe = self.pipe.borrow().clone();
        let pipe = match (pipe, state.send_head()) {
            (Some(pipe), _) => pipe,
            (None, Some(head)) => self.begin(head, None),
            (None, None) => return Err(before_start()),
        };
        self.send(&pipe, chunk, false);
        Ok(())
    }

    fn hint(&self, fields: HeaderMap) {
        self.shared.end_if_forked(self.py);
        if let Some(reply) = &*self.reply.borrow() {
            reply.hint(fields);
        }
    }
}

/// The server's end of a response that a thread makes.
pub(super) struct Fed(Arc<Pipe>);

impl Feed for Fed {
    fn poll_chunk(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        self.0.poll_take(cx)
    }

    fn exact(&self) -> Option<u64> {
        None
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        if let Some(failure) = self.0.close() {
            failure.log();
        }
    }
}

/// A file on its way.
pub(super) struct Sent {
    reader: RefCell<FileReader>,
    shared: Arc<Shared>,
    /// There until it is left for a thread.
    rest: Option<Closing>,
}

impl Feed for Sent {
    fn poll_chunk(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        let block = self.reader.borrow_mut().poll_block(cx);
        block.map(|block| block.map(|block| block.map_err(AnyError::from)))
    }

    fn exact(&self) -> Option<u64> {
        Some(self.reader.borrow().left())
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            // At the end of the worker nobody does it any more.
            drop(self.shared.pool.push(Task::Close(rest)));
        }
    }
}

/// A file's wrapper, to be closed in its request's context.
pub(super) struct Closing {
    returned: (Away, Named),
    context: Away,
}

impl Closing {
    /// Closes it.
    pub(super) fn close(self, py: Python<'static>) {
        let returned = Returned::of(self.returned, py);
        let context = Context::of(self.context, py);
        // Should the context be entered already, it is dropped all the same.
        let _ = context.run(|| drop(returned));
    }
}
