//! What an app sends, and what it receives, as Python dicts.
//!
//! ASGI, "HTTP & WebSocket ASGI Message Format", version 2.5, and the extensions `http.response.early_hint`,
//! `http.response.pathsend` and `http.response.trailers`. What breaks the rules raises an exception in the app, at its
//! `send`: nothing of it reaches the client.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::PathBuf;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, LINK};
use http::{HeaderMap, Response, StatusCode};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PySequence, PyString, PyTuple,
};

use super::output::AsgiBody;
use crate::app::python::names::Names;
use crate::app::python::object::{self, Ref};
use crate::app::python::texts::texts;

/// A message of an app.
#[derive(Debug)]
pub(super) enum Message {
    /// `http.response.start`: the head, for a body to be put in, and whether trailers follow that.
    Start(Box<Response<AsgiBody>>, bool),
    /// `http.response.body`: bytes, and whether more follow.
    Body(Bytes, bool),
    /// `http.response.pathsend`: a file as the body.
    Path(PathBuf),
    /// `http.response.trailers`: fields, and whether more follow.
    Trailers(HeaderMap, bool),
    /// `http.response.early_hint`: fields of an interim response.
    Hint(HeaderMap),
}

texts! {
    struct Keys {
        kind = "type",
        status = "status",
        headers = "headers",
        trailers = "trailers",
        body = "body",
        more_body = "more_body",
        path = "path",
        more_trailers = "more_trailers",
        links = "links",
    }
}

/// Reads and makes messages.
pub(super) struct Messages {
    keys: Keys,
    /// `http.request` without a body.
    request: Bound<'static, PyDict>,
    disconnect: Bound<'static, PyDict>,
    names: RefCell<Names<()>>,
}

impl Messages {
    pub(super) fn new(py: Python<'static>) -> PyResult<Self> {
        let keys = Keys::new(py);
        let request = PyDict::new(py);
        request.set_item(&keys.kind, PyString::intern(py, "http.request"))?;
        request.set_item(&keys.body, PyBytes::new(py, b""))?;
        request.set_item(&keys.more_body, false)?;
        let disconnect = PyDict::new(py);
        disconnect.set_item(&keys.kind, PyString::intern(py, "http.disconnect"))?;
        Ok(Self {
            keys,
            request,
            disconnect,
            names: RefCell::default(),
        })
    }

    /// `http.request`.
    pub(super) fn request(&self, body: &[u8], more: bool) -> PyResult<Ref> {
        let py = self.request.py();
        let message = self.request.copy()?;
        if !body.is_empty() {
            message.set_item(&self.keys.body, PyBytes::new(py, body))?;
        }
        if more {
            message.set_item(&self.keys.more_body, true)?;
        }
        Ok(message.into_any())
    }

    /// `http.disconnect`.
    pub(super) fn disconnect(&self) -> PyResult<Ref> {
        Ok(self.disconnect.copy()?.into_any())
    }

    /// What `message` says. A response's headers go into `room`, which is empty.
    ///
    /// # Errors
    /// Where it is none, or breaks a rule.
    pub(super) fn read(
        &self,
        message: &Ref,
        room: impl FnOnce() -> HeaderMap,
    ) -> PyResult<Message> {
        let message = message.cast::<PyDict>().map_err(|_| {
            PyTypeError::new_err(format!("send() takes a dict, not {}", class(message)))
        })?;
        let keys = &self.keys;
        let kind = required(message, &keys.kind)?;
        let kind = kind
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err("the type of a message must be a str"))?;
        match kind.to_str()? {
            "http.response.body" => {
                let body = match message.get_item(&keys.body)? {
                    Some(body) => bytes(&body)?,
                    None => Bytes::new(),
                };
                Ok(Message::Body(body, flag(message, &keys.more_body)?))
            }
            "http.response.start" => {
                let status = status(&required(message, &keys.status)?)?;
                let mut head = Response::new(AsgiBody::whole(Bytes::new()));
                *head.status_mut() = status;
                if let Some(fields) = message.get_item(&keys.headers)? {
                    *head.headers_mut() = self.headers(room(), &fields)?;
                }
                if status == StatusCode::NO_CONTENT {
                    // RFC 9110, section 8.6.
                    head.headers_mut().remove(CONTENT_LENGTH);
                }
                let trailers = flag(message, &keys.trailers)?;
                Ok(Message::Start(Box::new(head), trailers))
            }
            "http.response.pathsend" => {
                let path = required(message, &keys.path)?;
                Ok(Message::Path(path.extract()?))
            }
            "http.response.trailers" => {
                let fields = match message.get_item(&keys.headers)? {
                    Some(fields) => self.headers(HeaderMap::new(), &fields)?,
                    None => HeaderMap::new(),
                };
                let more = flag(message, &keys.more_trailers)?;
                Ok(Message::Trailers(fields, more))
            }
            "http.response.early_hint" => {
                let mut fields = HeaderMap::new();
                if let Some(links) = message.get_item(&keys.links)? {
                    for link in links.try_iter()? {
                        fields.append(LINK, value(&link?, &LINK)?);
                    }
                }
                Ok(Message::Hint(fields))
            }
            other => Err(PyRuntimeError::new_err(format!(
                "Unexpected ASGI message '{other}'"
            ))),
        }
    }
}

pub(super) fn required(
    message: &Bound<'static, PyDict>,
    key: &Bound<'static, PyString>,
) -> PyResult<Ref> {
    message
        .get_item(key)?
        .ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
}

fn flag(message: &Bound<'static, PyDict>, key: &Bound<'static, PyString>) -> PyResult<bool> {
    message
        .get_item(key)?
        .map_or(Ok(false), |flag| flag.is_truthy())
}

/// The bytes of a body. Only `bytes` itself is sent from where it lies.
pub(super) fn bytes(body: &Ref) -> PyResult<Bytes> {
    if let Ok(body) = body.cast::<PyBytes>() {
        return Ok(object::contents(body));
    }
    if body.is_instance_of::<PyByteArray>() || body.is_instance_of::<PyMemoryView>() {
        let copy = body.py().get_type::<PyBytes>().call1((body,))?;
        return Ok(object::contents(copy.cast::<PyBytes>()?));
    }
    Err(PyTypeError::new_err(format!(
        "the body of a response must be bytes, not {}",
        class(body)
    )))
}

/// An interim status (1xx) is not an app's to send.
fn status(status: &Ref) -> PyResult<StatusCode> {
    let number = status.extract::<u16>().ok();
    number
        .filter(|number| (200..=599).contains(number))
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| PyValueError::new_err(format!("Invalid status {}", repr(status))))
}

impl Messages {
    /// Pairs of bytes as header fields.
    pub(super) fn headers(&self, mut headers: HeaderMap, fields: &Ref) -> PyResult<HeaderMap> {
        if let Ok(list) = fields.cast::<PyList>() {
            for field in list.iter() {
                self.header(&mut headers, &field)?;
            }
        } else {
            for field in fields.try_iter()? {
                self.header(&mut headers, &field?)?;
            }
        }
        Ok(headers)
    }

    fn header(&self, headers: &mut HeaderMap, field: &Ref) -> PyResult<()> {
        let (name, value) = pair(field)?;
        let spelt = name.cast::<PyBytes>().map_err(|_| {
            PyTypeError::new_err(format!(
                "the name of a header must be bytes, not {}",
                class(&name)
            ))
        })?;
        let mut names = self.names.borrow_mut();
        let Some(known) = names.find(&name, || Ok(spelt.as_bytes()), |_| ())? else {
            drop(names);
            return Err(PyValueError::new_err(format!(
                "Invalid header name {}",
                repr(&name)
            )));
        };
        let Ok(bytes) = value.cast::<PyBytes>() else {
            let name = known.name.clone();
            drop(names);
            return Err(not_bytes(&value, &name));
        };
        let plain = bytes.is_exact_instance_of::<PyBytes>();
        let bytes = || Ok(Some(Cow::Borrowed(trim(bytes.as_bytes()))));
        let Some(field) = known.value(&value, plain, bytes)? else {
            return Err(invalid_value(&known.name));
        };
        headers.append(known.name.clone(), field);
        Ok(())
    }
}

/// The two of a pair.
fn pair(field: &Ref) -> PyResult<(Ref, Ref)> {
    Ok(match (field.cast::<PyTuple>(), field.cast::<PyList>()) {
        (Ok(pair), _) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        (_, Ok(pair)) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        _ => {
            let not_a_pair = || {
                PyTypeError::new_err(format!(
                    "a header must be a pair of bytes, not {}",
                    class(field)
                ))
            };
            let pair = field.cast::<PySequence>().map_err(|_| not_a_pair())?;
            if pair.len()? != 2 {
                return Err(not_a_pair());
            }
            (pair.get_item(0)?, pair.get_item(1)?)
        }
    })
}

fn not_bytes(value: &Ref, name: &HeaderName) -> PyErr {
    PyTypeError::new_err(format!(
        "the value of header {name} must be bytes, not {}",
        class(value)
    ))
}

fn invalid_value(name: &HeaderName) -> PyErr {
    PyValueError::new_err(format!("Invalid value of header {name}"))
}

/// A header's value, without blanks at its ends. It is not shown where it is wrong: it may be a secret.
fn value(value: &Ref, name: &HeaderName) -> PyResult<HeaderValue> {
    let bytes = value
        .cast::<PyBytes>()
        .map_err(|_| not_bytes(value, name))?;
    HeaderValue::from_bytes(trim(bytes.as_bytes())).map_err(|_| invalid_value(name))
}

/// Without blanks at its ends; line ends are no blanks.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

pub(super) fn class(object: &Ref) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "?".into(), |name| name.to_string())
}

fn repr(object: &Ref) -> String {
    object
        .repr()
        .map_or_else(|_| class(object), |text| text.to_string())
}
