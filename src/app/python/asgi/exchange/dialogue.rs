//! A WebSocket: what an exchange becomes when the app accepts it. ASGI, "HTTP & WebSocket ASGI Message Format", "WebSocket".
//!
//! Until then it is a request that waits for its answer, and what the app does not accept is answered as one: 403, a
//! response of the app's own (the extension `websocket.http.response`), or 500.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::super::message::{Messages, bytes, class, required};
use super::super::output::{AsgiBody, Phase};
use super::{ClientDisconnected, Exchange, Presence, is_cancelled, is_disconnect, unexpected};
use crate::app::python::awaitable::{Step, Stepped};
use crate::app::python::named::Named;
use crate::app::python::object::Ref;
use crate::app::python::traceback;
use crate::app::{Departure, Drain, Origin};
use crate::config::{Config, WebsocketCompression};
use crate::websocket::close::{self, Close};
use crate::websocket::handshake::{Handshake, Refused};
use crate::websocket::receive::Kind;
use crate::websocket::session::Session;
use crate::websocket::socket::{Heartbeat, Listener, Socket};

/// The settings of every WebSocket.
#[derive(Debug)]
pub(in super::super) struct Settings {
    /// The largest message, in bytes.
    limit: u64,
    heartbeat: Heartbeat,
    compress: bool,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            limit: config.websocket_max_message_size,
            heartbeat: Heartbeat {
                interval: config.websocket_ping_interval,
                timeout: config.websocket_ping_timeout,
            },
            compress: config.websocket_compression == WebsocketCompression::On,
        }
    }
}

/// How far it has come.
#[derive(Clone, Debug)]
enum Stage {
    /// The app has not been told of it.
    Fresh,
    /// The app is to accept it or not.
    Asked,
    /// The app answers by a response of its own.
    Denied,
    /// The answer is no.
    Refused,
    /// Accepted.
    Open(Rc<Socket>),
}

/// The WebSocket's half of an exchange.
#[derive(Debug)]
pub(in super::super) struct Dialogue {
    handshake: Handshake,
    upgrade: RefCell<Option<OnUpgrade>>,
    settings: Rc<Settings>,
    drain: Drain,
    stage: RefCell<Stage>,
}

impl Dialogue {
    /// What a request asks for, if it asks for a WebSocket, or the answer where its handshake is wrong.
    pub(in super::super) fn asked(
        parts: &mut Parts,
        origin: &Origin,
        settings: &Rc<Settings>,
    ) -> Result<Option<Self>, Box<Response<AsgiBody>>> {
        // There where a connection may be upgraded at all, which few ask for.
        let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            return Ok(None);
        };
        if !Handshake::is_asked(&parts.headers) {
            return Ok(None);
        }
        match Handshake::read(&parts.method, &parts.headers, settings.compress) {
            Ok(handshake) => Ok(Some(Self {
                handshake,
                upgrade: RefCell::new(Some(upgrade)),
                settings: Rc::clone(settings),
                drain: origin.drain().clone(),
                stage: RefCell::new(Stage::Fresh),
            })),
            Err(refused) => Err(Box::new(refusal(refused, &Named::of(parts)))),
        }
    }

    /// Makes a request's scope one of a WebSocket.
    pub(in super::super) fn settle(&self, scope: &Bound<'static, PyDict>) -> PyResult<()> {
        let py = scope.py();
        scope.set_item(intern!(py, "type"), intern!(py, "websocket"))?;
        scope.del_item(intern!(py, "method"))?;
        let scheme = scope.get_item(intern!(py, "scheme"))?;
        let secure = scheme.is_some_and(|scheme| scheme.eq("https").unwrap_or(false));
        scope.set_item(intern!(py, "scheme"), if secure { "wss" } else { "ws" })?;
        scope.set_item(intern!(py, "subprotocols"), &self.handshake.protocols)?;
        let extensions = PyDict::new(py);
        extensions.set_item("websocket.http.response", PyDict::new(py))?;
        let tls = intern!(py, "tls");
        if let Some(before) = scope.get_item(intern!(py, "extensions"))?
            && let Ok(known) = before.get_item(tls)
        {
            extensions.set_item(tls, known)?;
        }
        scope.set_item(intern!(py, "extensions"), extensions)
    }

    fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    fn enter(&self, stage: Stage) {
        let before = self.stage.replace(stage);
        drop(before);
    }

    /// What `receive()` gives now; `None` if it has to wait.
    pub(super) fn next(&self, exchange: &Exchange) -> PyResult<Option<Ref>> {
        let py = exchange.asgi.py();
        let here = exchange.presence.get() == Presence::Here;
        match self.stage() {
            Stage::Fresh => {
                self.enter(Stage::Asked);
                message(py, "websocket.connect").map(|message| Some(message.into_any()))
            }
            Stage::Asked if here => Ok(None),
            Stage::Denied if here && !exchange.is_complete() => Ok(None),
            Stage::Asked | Stage::Denied | Stage::Refused => {
                disconnect(py, &Close::bare(close::ABNORMAL)).map(Some)
            }
            Stage::Open(socket) => {
                let Some((kind, data)) = socket.take_message() else {
                    return socket.end().map(|close| disconnect(py, &close)).transpose();
                };
                if let Some(task) = socket.paused_task() {
                    exchange.asgi.board.wake(py, task);
                }
                received(py, kind, &data).map(Some)
            }
        }
    }

    /// `send(message)`.
    pub(super) fn send(&self, exchange: &Rc<Exchange>, message: &Ref) -> PyResult<Ref> {
        let py = exchange.asgi.py();
        let message = message.cast::<PyDict>().map_err(|_| {
            PyTypeError::new_err(format!("send() takes a dict, not {}", class(message)))
        })?;
        let kind = required(message, intern!(py, "type"))?;
        let kind = kind
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err("the type of a message must be a str"))?;
        let kind = kind.to_str()?;
        match (kind, self.stage()) {
            ("websocket.send", Stage::Open(socket)) => {
                return say(exchange, &socket, message);
            }
            ("websocket.close", Stage::Open(socket)) => {
                let close = closing(message)?;
                if socket.is_open() {
                    socket.close(&close);
                    wake(exchange, &socket);
                } else if socket.end().is_none() {
                    return Err(unexpected(kind, "the connection has been closed"));
                }
            }
            ("websocket.accept", Stage::Fresh | Stage::Asked) => {
                let answer = self.acceptance(&exchange.messages, message)?;
                self.accept(exchange, answer)?;
            }
            ("websocket.close", Stage::Fresh | Stage::Asked) => {
                closing(message)?;
                self.enter(Stage::Refused);
                exchange.settle_by(status(StatusCode::FORBIDDEN));
            }
            ("websocket.http.response.start", Stage::Fresh | Stage::Asked) => {
                let sent = exchange.send_http(&as_http(message, kind)?)?;
                self.enter(Stage::Denied);
                return Ok(sent);
            }
            ("websocket.http.response.body", Stage::Denied) => {
                return exchange.send_http(&as_http(message, kind)?);
            }
            (_, stage) => return Err(unexpected(kind, stage.state())),
        }
        Ok(exchange.asgi.awaitables.done())
    }

    /// The fields of the answer that accepts it, as the app wants it.
    fn acceptance(
        &self,
        messages: &Messages,
        message: &Bound<'static, PyDict>,
    ) -> PyResult<HeaderMap> {
        let py = message.py();
        let fields = message.get_item(intern!(py, "headers"))?;
        let mut fields = match fields.filter(|fields| !fields.is_none()) {
            Some(fields) => messages.headers(HeaderMap::new(), &fields)?,
            None => HeaderMap::new(),
        };
        if let Some(name) = fields
            .keys()
            .find(|name| name.as_str().starts_with("sec-websocket-"))
        {
            return Err(PyValueError::new_err(format!(
                "header {name} is not for the app to set"
            )));
        }
        let chosen = message.get_item(intern!(py, "subprotocol"))?;
        if let Some(chosen) = chosen.filter(|chosen| !chosen.is_none()) {
            let chosen = chosen.extract::<String>()?;
            let value = HeaderValue::try_from(&chosen).ok();
            let value = value.filter(|_| self.handshake.protocols.contains(&chosen));
            let Some(value) = value else {
                return Err(PyValueError::new_err(format!(
                    "the client does not offer the subprotocol {chosen:?}"
                )));
            };
            fields.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        self.handshake.accept(&mut fields);
        Ok(fields)
    }

    fn accept(&self, exchange: &Rc<Exchange>, fields: HeaderMap) -> PyResult<()> {
        let upgrade = self.upgrade.take();
        let (Presence::Here, Some(upgrade)) = (exchange.presence.get(), upgrade) else {
            return Err(gone());
        };
        let this: Weak<Exchange> = Rc::downgrade(exchange);
        // No other answer comes: nobody needs the memory for its fields.
        drop(exchange.room.take());
        let session = Session::new(self.settings.limit, self.handshake.agreement.as_ref());
        let socket = Rc::new(Socket::new(session, this));
        self.enter(Stage::Open(Rc::clone(&socket)));
        let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
        *answer.headers_mut() = fields;
        exchange.settle_by(answer);
        let served = Rc::clone(exchange);
        exchange.asgi.board.spawn(exchange.asgi.py(), async move {
            let dialogue = served.dialogue.as_deref();
            match upgrade.await.ok().zip(dialogue) {
                Some((stream, dialogue)) => {
                    let leaving = async {
                        dialogue.drain.begun().await;
                        Close::bare(match dialogue.drain.departure() {
                            Some(Departure::End) => close::GOING_AWAY,
                            Some(Departure::Replaced) | None => close::SERVICE_RESTART,
                        })
                    };
                    let stream = TokioIo::new(stream);
                    socket
                        .serve(stream, dialogue.settings.heartbeat, leaving)
                        .await;
                }
                // The client left before it had the answer.
                None => socket.abandon(),
            }
            served.condemn();
        });
        Ok(())
    }

    /// The app is done. False if the exchange ends as any request.
    pub(super) fn conclude(&self, exchange: &Exchange, error: Option<&PyErr>) -> bool {
        let Stage::Open(socket) = self.stage() else {
            return false;
        };
        let py = exchange.asgi.py();
        let ended = socket.end().is_some();
        let code = match error {
            None => close::NORMAL,
            Some(error) if ended && (is_disconnect(py, error) || is_cancelled(py, error)) => {
                close::NORMAL
            }
            Some(error) => {
                tracing::error!(
                    "Error handling WebSocket {}:\n{}",
                    exchange
                        .request
                        .get()
                        .map_or("", Named::path)
                        .escape_debug(),
                    traceback::text(py, error)
                );
                close::INTERNAL_ERROR
            }
        };
        socket.close(&Close::bare(code));
        wake(exchange, &socket);
        true
    }
}

impl Stage {
    /// Why a message is not expected.
    const fn state(&self) -> &'static str {
        match self {
            Self::Fresh | Self::Asked => "the connection is not accepted yet",
            Self::Denied => "the connection is being answered by a response",
            Self::Refused => "the connection has been refused",
            Self::Open(_) => "the connection is accepted already",
        }
    }
}

impl Exchange {
    /// The scope, if it is one of a WebSocket, says so.
    pub(in super::super) fn settle_scope(
        &self,
        scope: &Bound<'static, PyDict>,
    ) -> PyResult<()> {
        match &self.dialogue {
            Some(dialogue) => dialogue.settle(scope),
            None => Ok(()),
        }
    }

    /// The answer is this one, and it is whole.
    fn settle_by(&self, answer: Response<AsgiBody>) {
        let mut output = self.output.borrow_mut();
        output.phase = Phase::Complete;
        output.answer = Some(Ok(Box::new(answer)));
        drop(output);
        self.answered();
        self.receivers.tell(&self.asgi);
    }
}

impl Listener for Exchange {
    fn heard(&self) {
        self.receivers.tell(&self.asgi);
    }

    fn relieved(&self) {
        self.senders.tell(&self.asgi);
    }
}

/// `websocket.send`.
fn say(
    exchange: &Rc<Exchange>,
    socket: &Rc<Socket>,
    message: &Bound<'static, PyDict>,
) -> PyResult<Ref> {
    let py = message.py();
    if socket.end().is_some() {
        return Err(gone());
    }
    if !socket.is_open() {
        return Err(unexpected(
            "websocket.send",
            "the connection has been closed",
        ));
    }
    let given = |key: &Bound<'static, PyString>| {
        PyResult::Ok(message.get_item(key)?.filter(|value| !value.is_none()))
    };
    if let Some(data) = given(intern!(py, "bytes"))? {
        match data.cast::<PyBytes>() {
            Ok(data) => socket.send(Kind::Binary, data.as_bytes()),
            Err(_) => socket.send(Kind::Binary, &bytes(&data)?),
        }
    } else if let Some(text) = given(intern!(py, "text"))? {
        let text = text.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("text must be a str, not {}", class(&text)))
        })?;
        socket.send(Kind::Text, text.to_str()?.as_bytes());
    } else {
        return Err(PyValueError::new_err(
            "websocket.send needs either bytes or text",
        ));
    }
    wake(exchange, socket);
    if socket.is_ready() {
        return Ok(exchange.asgi.awaitables.done());
    }
    let relieved = Relieved(Rc::clone(exchange), Rc::clone(socket));
    exchange.asgi.awaitables.make(relieved)
}

/// `websocket.send` of more than the client has read.
struct Relieved(Rc<Exchange>, Rc<Socket>);

impl Step for Relieved {
    fn step(&mut self) -> PyResult<Stepped> {
        let Self(exchange, socket) = self;
        if socket.end().is_some() {
            return Err(gone());
        }
        if socket.is_ready() {
            return Ok(Stepped::Done(None));
        }
        exchange.senders.join(&exchange.asgi)
    }
}

/// What the app did to the socket is carried out.
fn wake(exchange: &Exchange, socket: &Socket) {
    if let Some(task) = socket.task() {
        exchange.asgi.board.wake(exchange.asgi.py(), task);
    }
}

fn gone() -> PyErr {
    ClientDisconnected::new_err("the client has gone")
}

/// `websocket.close`.
fn closing(message: &Bound<'static, PyDict>) -> PyResult<Close> {
    let py = message.py();
    let given = |key: &Bound<'static, PyString>| {
        PyResult::Ok(message.get_item(key)?.filter(|value| !value.is_none()))
    };
    let code = match given(intern!(py, "code"))? {
        Some(code) => code
            .extract::<u16>()
            .ok()
            .filter(|&code| close::may_be_sent(code))
            .ok_or_else(|| PyValueError::new_err(format!("Invalid close code {code}")))?,
        None => close::NORMAL,
    };
    let reason = match given(intern!(py, "reason"))? {
        Some(reason) => reason.extract::<String>()?,
        None => String::new(),
    };
    Ok(Close { code, reason })
}

/// A message of the extension as that of a plain response.
fn as_http(message: &Bound<'static, PyDict>, kind: &str) -> PyResult<Ref> {
    let copy = message.copy()?;
    let kind = kind.strip_prefix("websocket.").unwrap_or(kind);
    copy.set_item(intern!(message.py(), "type"), kind)?;
    Ok(copy.into_any())
}

fn message(py: Python<'static>, kind: &str) -> PyResult<Bound<'static, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), PyString::intern(py, kind))?;
    Ok(message)
}

/// `websocket.receive`.
fn received(py: Python<'static>, kind: Kind, data: &[u8]) -> PyResult<Ref> {
    let message = message(py, "websocket.receive")?;
    match kind {
        Kind::Binary => message.set_item(intern!(py, "bytes"), PyBytes::new(py, data))?,
        Kind::Text => {
            let text = PyString::from_bytes(py, data)
                .map_err(|_| PyRuntimeError::new_err("the text of a message is not UTF-8"))?;
            message.set_item(intern!(py, "text"), text)?;
        }
    }
    Ok(message.into_any())
}

/// `websocket.disconnect`.
fn disconnect(py: Python<'static>, close: &Close) -> PyResult<Ref> {
    let message = message(py, "websocket.disconnect")?;
    message.set_item(intern!(py, "code"), close.code)?;
    message.set_item(intern!(py, "reason"), &close.reason)?;
    Ok(message.into_any())
}

fn status(status: StatusCode) -> Response<AsgiBody> {
    let mut response = Response::new(AsgiBody::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The answer to a handshake that cannot be accepted; no app is asked.
fn refusal(refused: Refused, request: &Named) -> Response<AsgiBody> {
    tracing::warn!("Invalid WebSocket handshake of {request}: {refused}");
    let text = Bytes::from(format!("{refused}\n"));
    let mut response = Response::new(AsgiBody::whole(text));
    *response.status_mut() = refused.status();
    refused.explain(response.headers_mut());
    response
}
