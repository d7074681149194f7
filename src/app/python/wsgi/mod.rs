//! PEP 3333: from a request to a call of the app, and from what it returns to a response.

mod body;
mod environ;
mod errors;
mod exchange;
mod file;
mod head;
mod hints;
mod input;
mod later;
mod shape;
mod source;
mod tls;

use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, Version};
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use self::environ::{EnvironError, Environs, Setting};
use self::exchange::{Lease, Pool};
use self::file::Kinds;
use self::input::Files;
use super::named::Named;
use super::object::{self, Context, Ref};
use super::traceback;
use crate::app::{BodyError, Origin};
use crate::config::LogTarget;
use crate::error::AnyError;

pub(crate) use self::body::PyBody;
pub(super) use self::body::{Feed, Wrapped};
pub(super) use self::exchange::{ExchangeState, Outlet, Sink, before_start};
pub(super) use self::head::Head;
pub(super) use self::input::{Input, keep_in, next_chunk};
pub(super) use self::later::{Later, Rest};
pub(super) use self::source::{Returned, Source};

/// The app failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppFailed {
    /// It raised an exception: the traceback, on lines of its own.
    #[error("\n{0}")]
    Raised(String),
    /// It cannot be called for this request.
    #[error("{0}")]
    Request(String),
    /// Its greenlet was killed: by itself, or as the worker had to leave.
    #[error("the request's greenlet was killed")]
    Killed,
    /// Its greenlet ended without an answer.
    #[error("the request was abandoned")]
    Abandoned,
}

/// A response, so far as it is there when the app has returned.
pub(super) enum Answer {
    /// All of it.
    Whole(Response<PyBody>),
    /// The head, and a file.
    File(Head, Wrapped),
    /// The head, and an iterable.
    Stream(Head, Source),
    /// The rest of a response whose head `write()` has sent.
    Rest(Source),
}

/// A WSGI app and what calling it takes.
pub(super) struct Wsgi {
    py: Python<'static>,
    app: Ref,
    environs: Environs,
    exchanges: Rc<Pool>,
    files: Files,
    kinds: Kinds,
}

/// `wsgi.multithread`: whether another request may run while one of the app's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multithread {
    /// One request after the other.
    OneByOne,
    /// Greenlets take turns.
    Interleaved,
    /// Each in a thread.
    Parallel,
}

/// Chunks up to this length in all are sent as one.
const JOINED: usize = 64 * 1024;

impl Wsgi {
    /// `errorlog` is where `wsgi.errors` leads.
    pub(super) fn new(
        app: Ref,
        errorlog: &LogTarget,
        multithread: Multithread,
    ) -> PyResult<Self> {
        let py = app.py();
        let exchanges = Rc::<Pool>::default();
        let setting = Setting {
            early_hints: exchanges.settle(py)?,
            errors: errors::stream(py, errorlog)?,
            multithread: match multithread {
                Multithread::OneByOne => false,
                Multithread::Interleaved | Multithread::Parallel => true,
            },
        };
        Ok(Self {
            py,
            app,
            environs: Environs::new(py, &setting)?,
            exchanges,
            files: Files::new(py)?,
            kinds: Kinds::new(py)?,
        })
    }

    pub(super) fn py(&self) -> Python<'static> {
        self.py
    }

    /// A context for one request.
    pub(super) fn context(&self) -> Result<Context, AnyError> {
        Context::copy_current(self.py).map_err(|error| failed(self.py, &error))
    }

    /// Calls the app, within a context that is entered. The request's headers are gone then: their memory is the
    /// response's.
    ///
    /// # Errors
    /// [`AppFailed`].
    pub(super) fn call(
        &self,
        parts: &mut Parts,
        origin: &Origin,
        input: Given,
        outlet: Outlet,
    ) -> Result<Answer, AnyError> {
        self.answer(parts, origin, input, outlet)
            .map_err(|error| match error {
                EnvironError::Python(error) => failed(self.py, &error),
                mount @ EnvironError::Mount { .. } => {
                    AppFailed::Request(mount.to_string()).into()
                }
            })
    }

    fn answer(
        &self,
        parts: &mut Parts,
        origin: &Origin,
        input: Given,
        outlet: Outlet,
    ) -> Result<Answer, EnvironError> {
        let input = match input {
            Given::Gathered(input) => input.into_object(&self.files)?,
            Given::Object(object) => Some(object),
        };
        let modern = parts.version >= Version::HTTP_11;
        let templates = self.environs.templates();
        let lease = self.exchanges.lease(self.py, outlet, modern, templates)?;
        let environ = self
            .environs
            .make(parts, origin, input.as_ref(), lease.early_hints())?;
        lease.lend(std::mem::take(&mut parts.headers));
        let returned = object::call2(&self.app, environ.as_any(), lease.start_response());
        drop(environ);
        let returned = returned?;
        if let Some(bytes) = one_piece(&returned)
            && let Some(response) = simple(&lease, bytes)
        {
            return Ok(Answer::Whole(response));
        }
        Ok(self.stream(Returned::new(returned, Named::of(parts)), lease)?)
    }

    /// An iterable of any kind.
    fn stream(&self, returned: Returned, lease: Lease) -> PyResult<Answer> {
        if lease.state().is_unwritten()
            && let Some(range) =
                file::wrapped(returned.object(), &self.kinds, lease.state().declared())?
            && let Some(head) = lease.state().send_head()
        {
            return Ok(Answer::File(head, Wrapped { range, returned }));
        }
        let iterator = returned.object().try_iter().map_err(|error| {
            if error.is_instance_of::<PyTypeError>(self.py) {
                let class = exchange::class(returned.object());
                PyTypeError::new_err(format!(
                    "the application returned {class}, which is no iterable of bytes"
                ))
            } else {
                error
            }
        })?;
        let mut source = Source::new(iterator, returned, lease);
        source.prime()?;
        let state = source.lease.state();
        let head = state.send_head();
        let written = state.take_written();
        if head.is_none() && !state.is_sent() {
            return Err(PyAssertionError::new_err(
                "the application returned without having called start_response()",
            ));
        }
        source.prepend(written);
        let Some(head) = head else {
            return Ok(Answer::Rest(source));
        };
        source.declare(head.length);
        Ok(Answer::Stream(head, source))
    }
}

/// What an exception of the app's is to the server, which logs it.
pub(super) fn failed(py: Python<'_>, error: &PyErr) -> AnyError {
    if is_kill(py, error).unwrap_or(false) {
        return AppFailed::Killed.into();
    }
    AppFailed::Raised(traceback::text(py, error)).into()
}

/// Whether it is `greenlet.GreenletExit`, which is no error but an end.
fn is_kill(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let modules = py
        .import("sys")?
        .getattr("modules")?
        .cast_into::<PyDict>()?;
    match modules.get_item("greenlet")? {
        Some(greenlet) => Ok(error.is_instance(py, &greenlet.getattr("GreenletExit")?)),
        None => Ok(false),
    }
}

/// The outcome where a body could not be gathered. The server answers for a client's fault itself; the app is not called.
pub(super) fn refused(error: AnyError) -> Result<Response<PyBody>, AnyError> {
    if !error.is::<BodyError>() {
        return Err(error);
    }
    let mut response = Response::new(PyBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    Ok(response)
}

/// What `wsgi.input` is made of.
pub(super) enum Given {
    /// A body that is here.
    Gathered(Input),
    /// A file object over one that is still coming.
    Object(Ref),
}

/// The whole body, where the app returned a list or tuple of `bytes`: neither has a `close()`, nor anything to wait for.
fn one_piece(returned: &Ref) -> Option<Bytes> {
    if let Ok(list) = returned.cast_exact::<PyList>() {
        if list.len() == 1 {
            let item = list.get_item(0).ok()?;
            return item.cast_exact::<PyBytes>().ok().map(object::contents);
        }
        return join(list.iter());
    }
    let tuple = returned.cast_exact::<PyTuple>().ok()?;
    if tuple.len() == 1 {
        let item = tuple.get_item(0).ok()?;
        return item.cast_exact::<PyBytes>().ok().map(object::contents);
    }
    join(tuple.iter())
}

fn join(items: impl Iterator<Item = Ref>) -> Option<Bytes> {
    let mut whole = Vec::new();
    for item in items {
        let bytes = item.cast_into_exact::<PyBytes>().ok()?;
        let bytes = bytes.as_bytes();
        if whole.len() + bytes.len() > JOINED {
            return None;
        }
        whole.extend_from_slice(bytes);
    }
    Some(whole.into())
}

/// The response of one piece, unless `write()` has been at work.
fn simple(lease: &Lease, bytes: Bytes) -> Option<Response<PyBody>> {
    if !lease.state().is_unwritten() {
        return None;
    }
    let head = lease.state().send_head()?;
    Some(head.with(PyBody::whole(bytes)))
}
