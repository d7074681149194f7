//! One request and its response: what the app's `receive` and `send` and the server's side share.
//!
//! No borrow of it is held while Python code can run: what is taken out is dropped, and who is told is told, after it.

mod dialogue;
mod failure;
mod waiting;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Context;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Response, StatusCode};
use pyo3::intern;
use pyo3::prelude::*;

use super::ClientDisconnected;
use super::asyncio::Asyncio;
use super::input::{Input, Piece, read_on};
use super::message::{Message, Messages};
use super::output::{AsgiBody, Outcome, Output, Phase};
use super::port::Leased;
use crate::app::python::named::Named;
use crate::app::python::object::Ref;
use crate::app::python::traceback;
use crate::app::{Client, FileRange, Line};

pub(super) use self::dialogue::{Dialogue, Settings};
use self::failure::{is_cancelled, is_disconnect, outcome};
use self::waiting::{Drained, Receive, Waiting};

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It waits for the answer.
    Here,
    /// It has closed its sending half: it may be gone.
    Left,
    /// The app has been told so: whatever it sends now is a mistake.
    Told,
    /// The connection is closed.
    Gone,
}

/// What an exchange is told of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The method is HEAD: no body is sent.
    pub(super) head: bool,
    /// The client speaks HTTP/1.1, or a later version.
    pub(super) modern: bool,
    /// It takes trailers.
    pub(super) trailers: bool,
}

impl Facts {
    pub(super) fn of(parts: &http::request::Parts) -> Self {
        let modern = parts.version >= http::Version::HTTP_11;
        let accepts = |value: &http::HeaderValue| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        };
        Self {
            head: parts.method == Method::HEAD,
            modern,
            trailers: parts.version == http::Version::HTTP_2
                || (modern && parts.headers.get(http::header::TE).is_some_and(accepts)),
        }
    }
}

/// One request.
pub(in crate::app::python) struct Exchange {
    asgi: Rc<Asyncio>,
    messages: Rc<Messages>,
    line: Line,
    facts: Facts,
    /// There once the scope is made.
    pub(super) request: OnceCell<Named>,
    /// What the request's headers were in: the response's have room there.
    pub(super) room: RefCell<HeaderMap>,
    presence: Cell<Presence>,
    /// There if a WebSocket is asked for. Apart, as few do: glibc is slow with blocks of more than 1 KiB.
    dialogue: Option<Box<Dialogue>>,
    input: RefCell<Input>,
    output: RefCell<Output>,
    /// Futures of those who wait in `receive()`, and in `send()`.
    receivers: Waiting,
    senders: Waiting,
    task: RefCell<Option<Running>>,
    port: RefCell<Option<Leased>>,
}

/// A Task that goes on after its first step.
struct Running {
    task: Ref,
    /// The call that will cancel it.
    sentence: Option<Ref>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("presence", &self.presence)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    pub(super) fn new(
        asgi: Rc<Asyncio>,
        messages: Rc<Messages>,
        line: Line,
        facts: Facts,
        input: Input,
        dialogue: Option<Dialogue>,
    ) -> Rc<Self> {
        Rc::new(Self {
            asgi,
            messages,
            line,
            facts,
            request: OnceCell::new(),
            room: RefCell::default(),
            presence: Cell::new(Presence::Here),
            dialogue: dialogue.map(Box::new),
            input: RefCell::new(input),
            output: RefCell::default(),
            receivers: Waiting::default(),
            senders: Waiting::default(),
            task: RefCell::default(),
            port: RefCell::default(),
        })
    }

    pub(super) fn with_output<T>(&self, work: impl FnOnce(&mut Output) -> T) -> T {
        work(&mut self.output.borrow_mut())
    }

    fn is_complete(&self) -> bool {
        matches!(self.output.borrow().phase, Phase::Complete)
    }

    // What the app does.

    /// `receive()`.
    pub(super) fn receive(self: &Rc<Self>) -> PyResult<Ref> {
        self.asgi.awaitables.make(Receive(Rc::clone(self)))
    }

    /// `send(message)`.
    pub(super) fn send(self: &Rc<Self>, message: &Ref) -> PyResult<Ref> {
        let sent = match &self.dialogue {
            Some(dialogue) => dialogue.send(self, message),
            None => self.send_http(message),
        };
        self.asgi.write_overdue()?;
        sent
    }

    fn send_http(self: &Rc<Self>, message: &Ref) -> PyResult<Ref> {
        let message = self.messages.read(message, || self.room.take())?;
        if matches!(self.presence.get(), Presence::Gone | Presence::Told) && !self.is_complete()
        {
            return Err(ClientDisconnected::new_err("the client has gone"));
        }
        match message {
            Message::Start(head, trailers) => self.start(head, trailers)?,
            Message::Body(bytes, more) => return self.body(bytes, more),
            Message::Path(path) => self.path(&path)?,
            Message::Trailers(fields, more) => self.trail(fields, more)?,
            Message::Hint(fields) => self.hint(&fields)?,
        }
        Ok(self.asgi.awaitables.done())
    }

    fn start(&self, head: Box<Response<AsgiBody>>, trailers: bool) -> PyResult<()> {
        let mut output = self.output.borrow_mut();
        match output.phase {
            Phase::Unstarted => {
                output.phase = Phase::Started(head, trailers);
                Ok(())
            }
            Phase::Started(..) | Phase::Streaming(_) | Phase::Trailing | Phase::Complete => {
                drop(output);
                Err(unexpected(
                    "http.response.start",
                    "the response has started already",
                ))
            }
        }
    }

    fn body(self: &Rc<Self>, bytes: Bytes, more: bool) -> PyResult<Ref> {
        const KIND: &str = "http.response.body";
        let mut output = self.output.borrow_mut();
        let phase = std::mem::replace(&mut output.phase, Phase::Complete);
        match phase {
            Phase::Started(mut head, trailers) => {
                let trails = trailers && self.facts.trailers;
                if !more && !trails {
                    // Trailers that the client does not take are still to come from the app.
                    if trailers {
                        output.phase = Phase::Trailing;
                    }
                    *head.body_mut() = AsgiBody::whole(bytes);
                    output.answer = Some(Ok(head));
                    drop(output);
                    self.answered();
                    if !trailers {
                        self.completed();
                    }
                    return Ok(self.asgi.awaitables.done());
                }
                output.phase = if more {
                    Phase::Streaming(trailers)
                } else {
                    Phase::Trailing
                };
                let bodiless = self.facts.head
                    || matches!(
                        head.status(),
                        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
                    );
                let body = if bodiless {
                    output.sated = true;
                    output.bodiless = true;
                    AsgiBody::whole(Bytes::new())
                } else {
                    output.push(bytes);
                    AsgiBody::stream(Rc::clone(self), length(head.headers()))
                };
                *head.body_mut() = body;
                output.answer = Some(Ok(head));
            }
            Phase::Streaming(trailers) => {
                if output.sated && !output.bodiless && !bytes.is_empty() {
                    tracing::error!(
                        "An application's body is longer than its Content-Length: {}",
                        self.name()
                    );
                }
                output.push(bytes);
                output.phase = match (more, trailers) {
                    (true, _) => Phase::Streaming(trailers),
                    (false, true) => Phase::Trailing,
                    (false, false) => {
                        output.finish(Ok(()));
                        Phase::Complete
                    }
                };
            }
            Phase::Unstarted => {
                output.phase = Phase::Unstarted;
                drop(output);
                return Err(unexpected(KIND, "the response has not started"));
            }
            Phase::Trailing | Phase::Complete => {
                output.phase = phase;
                drop(output);
                return Err(unexpected(KIND, "the body has ended already"));
            }
        }
        let full = more && output.is_full();
        drop(output);
        self.answered();
        if self.is_complete() {
            self.completed();
        }
        if full {
            return self.asgi.awaitables.make(Drained(Rc::clone(self)));
        }
        Ok(self.asgi.awaitables.done())
    }

    fn path(&self, path: &std::path::Path) -> PyResult<()> {
        const KIND: &str = "http.response.pathsend";
        let length = match &self.output.borrow().phase {
            Phase::Started(head, _) => length(head.headers()),
            Phase::Unstarted => return Err(unexpected(KIND, "the response has not started")),
            Phase::Streaming(_) | Phase::Trailing | Phase::Complete => {
                return Err(unexpected(KIND, "the body has begun already"));
            }
        };
        let range = FileRange::open(path, length)?;
        let mut output = self.output.borrow_mut();
        let phase = std::mem::replace(&mut output.phase, Phase::Complete);
        if let Phase::Started(mut response, _) = phase {
            *response.body_mut() = AsgiBody::file(range.clone());
            response.extensions_mut().insert(range);
            output.answer = Some(Ok(response));
        }
        drop(output);
        self.answered();
        self.completed();
        Ok(())
    }

    fn trail(&self, fields: HeaderMap, more: bool) -> PyResult<()> {
        let mut output = self.output.borrow_mut();
        if !matches!(output.phase, Phase::Trailing) {
            drop(output);
            return Err(unexpected(
                "http.response.trailers",
                "it does not follow a body whose start announced it",
            ));
        }
        if self.facts.trailers && !output.sated && !fields.is_empty() {
            output.trailers.get_or_insert_default().extend(fields);
        }
        if more {
            return Ok(());
        }
        output.phase = Phase::Complete;
        output.finish(Ok(()));
        drop(output);
        self.answered();
        self.completed();
        Ok(())
    }

    fn hint(&self, fields: &HeaderMap) -> PyResult<()> {
        let started = !matches!(
            self.output.borrow().phase,
            Phase::Unstarted | Phase::Started(..)
        );
        if started {
            return Err(unexpected(
                "http.response.early_hint",
                "the response is on its way",
            ));
        }
        if self.facts.modern && !fields.is_empty() {
            let _ = self.line.inform(StatusCode::EARLY_HINTS, fields);
        }
        Ok(())
    }

    /// The request as the log names it.
    fn name(&self) -> &dyn std::fmt::Display {
        match self.request.get() {
            Some(request) => request,
            None => &"(its scope could not be made)",
        }
    }

    /// There is something for the server's side.
    fn answered(&self) {
        let waker = self.output.borrow_mut().waker.take();
        if let Some(waker) = waker {
            self.asgi.board.wake(self.asgi.py(), waker);
        }
    }

    /// The response is complete: nobody waits for anything more of the client, and the Task may go on without it.
    fn completed(&self) {
        self.receivers.tell(&self.asgi);
        self.pardon();
    }

    /// What `receive()` gives now; `None` if it has to wait.
    fn next_message(self: &Rc<Self>) -> PyResult<Option<Ref>> {
        if let Some(dialogue) = &self.dialogue {
            return dialogue.next(self);
        }
        if self.presence.get() == Presence::Gone || self.is_complete() {
            return self.disconnect().map(Some);
        }
        // Asked outside a turn, the connection would be woken the dear way.
        let can_poll = self.asgi.board.is_turning();
        let piece = self.input.borrow_mut().take(can_poll);
        match piece {
            Piece::Bytes(bytes, more) => self.messages.request(&bytes, more).map(Some),
            Piece::Broken => {
                self.condemn();
                self.disconnect().map(Some)
            }
            Piece::Wait(body) => {
                if let Some(body) = body {
                    let reading = read_on(Rc::clone(self), body);
                    self.asgi.board.spawn(self.asgi.py(), reading);
                }
                Ok(None)
            }
            Piece::Given if self.presence.get() != Presence::Here => {
                self.presence.set(Presence::Told);
                self.disconnect().map(Some)
            }
            Piece::Given => Ok(None),
        }
    }

    fn disconnect(&self) -> PyResult<Ref> {
        self.messages.disconnect()
    }

    // What the server's side does.

    /// The app's answer, if it is there; else the task is woken when it is.
    pub(super) fn poll_answer(&self, cx: &Context<'_>) -> Option<Outcome> {
        let mut output = self.output.borrow_mut();
        let answer = output.answer.take();
        if answer.is_none() {
            output.park(cx);
        } else {
            let over = matches!(output.phase, Phase::Complete);
            drop(output);
            if over {
                self.close_input();
            }
        }
        answer.map(|answer| answer.map(|answer| *answer))
    }

    /// An app that waits for the client to take more goes on, if it has taken enough.
    pub(super) fn let_send(&self) {
        if !self.senders.is_empty() && self.output.borrow().has_room() {
            self.senders.tell(&self.asgi);
        }
    }

    /// More of the body is here.
    pub(super) fn hold(&self, input: Input) {
        self.input.replace(input);
        self.receivers.tell(&self.asgi);
    }

    /// Whether a task that reads the body is to go on; it is woken when that changes.
    pub(super) fn awaits_body(&self, cx: &Context<'_>) -> bool {
        match &mut *self.input.borrow_mut() {
            Input::Reading(waker) => {
                *waker = Some(cx.waker().clone());
                true
            }
            Input::Empty
            | Input::Held(..)
            | Input::Coming(_)
            | Input::Given
            | Input::Broken => false,
        }
    }

    /// What the app has not read of the body is the connection's to read. Should it still ask, it is not coming.
    fn close_input(&self) {
        let mut input = self.input.borrow_mut();
        let unread = match &*input {
            Input::Held(..) | Input::Coming(_) | Input::Reading(_) => {
                std::mem::replace(&mut *input, Input::Broken)
            }
            Input::Empty | Input::Given | Input::Broken => return,
        };
        drop(input);
        if let Input::Reading(Some(waker)) = unread {
            self.asgi.board.wake(self.asgi.py(), waker);
        }
        self.receivers.tell(&self.asgi);
    }

    /// The client has all that it gets.
    pub(super) fn sate(&self) {
        let dropped = self.output.borrow_mut().clear();
        drop(dropped);
        self.close_input();
        self.senders.tell(&self.asgi);
    }

    /// The connection is closed, or the request given up.
    pub(super) fn gone(&self) {
        self.presence.set(Presence::Gone);
        let mut output = self.output.borrow_mut();
        let dropped = (output.clear(), output.answer.take(), output.waker.take());
        drop(output);
        drop(dropped);
        self.close_input();
        self.receivers.tell(&self.asgi);
        self.senders.tell(&self.asgi);
        self.condemn();
    }

    /// Gives the Task what is left to it without a client.
    fn condemn(&self) {
        if self.asgi.board.is_over() || (self.is_complete() && self.dialogue.is_none()) {
            return;
        }
        let task = match &*self.task.borrow() {
            Some(running) if running.sentence.is_none() => running.task.clone(),
            Some(_) | None => return,
        };
        let condemn = || -> PyResult<Ref> {
            let cancel = task.getattr(intern!(self.asgi.py(), "cancel"))?;
            self.asgi.call_later(self.asgi.grace, &cancel)
        };
        match condemn() {
            Ok(sentence) => {
                if let Some(running) = &mut *self.task.borrow_mut() {
                    running.sentence = Some(sentence);
                }
            }
            Err(error) => tracing::error!(
                "The task of a request cannot be cancelled: {}\n{}",
                self.name(),
                traceback::text(self.asgi.py(), &error)
            ),
        }
    }

    /// Takes that back.
    fn pardon(&self) {
        let sentence = match &mut *self.task.borrow_mut() {
            Some(running) => running.sentence.take(),
            None => None,
        };
        if let Some(sentence) = sentence {
            drop(sentence.call_method0(intern!(self.asgi.py(), "cancel")));
        }
    }

    // The Task.

    /// The first step of the Task is done.
    pub(super) fn started(self: &Rc<Self>, task: Ref, port: Leased) {
        if let Err(error) = self.settle(task, port) {
            self.conclude(Some(&error));
        }
    }

    fn settle(self: &Rc<Self>, task: Ref, port: Leased) -> PyResult<()> {
        let py = self.asgi.py();
        if task.call_method0(intern!(py, "done"))?.is_truthy()? {
            let error = outcome(&task);
            drop(task);
            self.conclude(error.as_ref());
            port.give_back();
            return Ok(());
        }
        self.port.replace(Some(port));
        self.asgi.keep(&task, self)?;
        self.task.replace(Some(Running {
            task,
            sentence: None,
        }));
        if !self.is_complete() {
            let this: Weak<Self> = Rc::downgrade(self);
            self.line.mind(this);
        }
        self.asgi.board.tell_loop();
        Ok(())
    }

    /// The Task has ended after it had gone on.
    pub(super) fn ended(&self, task: &Ref) {
        let error = outcome(task);
        // Not to be kept alive by a timer.
        self.pardon();
        let running = self.task.take();
        drop(running);
        self.conclude(error.as_ref());
        let port = self.port.take();
        if let Some(port) = port {
            port.give_back();
        }
    }

    /// The Task, if it goes on.
    pub(super) fn task(&self) -> Option<Ref> {
        self.task
            .borrow()
            .as_ref()
            .map(|running| running.task.clone())
    }
}

impl Client for Exchange {
    fn left(&self) {
        if self.presence.get() == Presence::Here {
            self.presence.set(Presence::Left);
            self.receivers.tell(&self.asgi);
            self.condemn();
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unexpected(kind: &str, why: &str) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err(format!(
        "Unexpected ASGI message '{kind}': {why}"
    ))
}
