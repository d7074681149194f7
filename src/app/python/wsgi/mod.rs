//! PEP 3333: from a request to a call of the app, and from what it returns to a response.

mod body;
mod environ;
mod errors;
mod exchange;
mod file;
mod head;
mod input;
mod source;

use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use self::environ::{EnvironError, Environs, Setting};
use self::exchange::{Lease, Pool};
use self::file::{Blocks, Kinds};
use self::head::Head;
use self::input::Files;
use self::source::Returned;
use super::object::{self, Context, Ref};
use super::traceback;
use crate::app::Origin;
use crate::config::Config;
use crate::error::AnyError;

pub use self::body::PyBody;
pub(super) use self::body::{Feed, FileBody};
pub(super) use self::exchange::{ExchangeState, Sink};
pub(super) use self::input::{Input, next_chunk};
pub(super) use self::source::Source;

/// The app failed; the traceback is in the log already.
#[derive(Debug, thiserror::Error)]
pub enum AppFailed {
    /// It raised an exception.
    #[error("the application raised an exception")]
    Raised,
    /// It cannot be called for this request.
    #[error("{0}")]
    Request(String),
    /// Its greenlet ended without an answer.
    #[error("the request was abandoned")]
    Abandoned,
}

/// A response, so far as it is there when the app has returned.
pub(super) enum Answer {
    /// All of it.
    Whole(Response<PyBody>),
    /// The head, and a file.
    File(Head, FileBody),
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
}

/// Chunks up to this length in all are sent as one.
const JOINED: usize = 64 * 1024;

impl Wsgi {
    pub(super) fn new(app: Ref, config: &Config, multithread: Multithread) -> PyResult<Self> {
        let py = app.py();
        let setting = Setting {
            errors: errors::stream(py, &config.errorlog)?,
            multithread: multithread == Multithread::Interleaved,
        };
        Ok(Self {
            py,
            app,
            environs: Environs::new(py, &setting)?,
            exchanges: Rc::default(),
            files: Files::new(py)?,
            kinds: Kinds::new(py)?,
        })
    }

    pub(super) fn py(&self) -> Python<'static> {
        self.py
    }

    /// A context for one request.
    pub(super) fn context(&self) -> Result<Context, AnyError> {
        Context::copy_current(self.py).map_err(|error| failed(self.py, "request", &error))
    }

    /// Calls the app, within `context`, which is entered already.
    ///
    /// # Errors
    /// [`AppFailed`], logged.
    pub(super) fn call(
        &self,
        parts: &Parts,
        origin: &Origin,
        input: Given,
        context: &Rc<Context>,
        sink: Option<Rc<dyn Sink>>,
    ) -> Result<Answer, AnyError> {
        let request = Request { parts, origin, context };
        self.answer(&request, input, sink).map_err(|error| match error {
            EnvironError::Python(error) => failed(self.py, &request.title(), &error),
            mount @ EnvironError::Mount { .. } => {
                tracing::error!("{mount}");
                AppFailed::Request(mount.to_string()).into()
            }
        })
    }

    fn answer(
        &self,
        request: &Request<'_>,
        input: Given,
        sink: Option<Rc<dyn Sink>>,
    ) -> Result<Answer, EnvironError> {
        let input = match input {
            Given::Gathered(input) => input.into_object(&self.files)?,
            Given::Object(object) => Some(object),
        };
        let environ = self.environs.make(request.parts, request.origin, input.as_ref())?;
        let lease = self.exchanges.lease(self.py, sink)?;
        let returned = object::call2(&self.app, environ.as_any(), lease.start_response());
        drop(environ);
        let returned = returned?;
        if let Some(bytes) = one_piece(&returned)
            && let Some(response) = simple(&lease, bytes)
        {
            return Ok(Answer::Whole(response));
        }
        Ok(self.stream(request, Returned::new(returned), lease)?)
    }

    /// An iterable of any kind.
    fn stream(
        &self,
        request: &Request<'_>,
        returned: Returned,
        lease: Lease,
    ) -> PyResult<Answer> {
        if lease.state().is_unwritten()
            && let Some(length) = lease.state().declared()
            && let Some(blocks) = Blocks::of(returned.object(), &self.kinds, length)?
            && let Some(head) = lease.state().send_head()
        {
            let file = FileBody::new(blocks, returned, Rc::clone(request.context));
            return Ok(Answer::File(head, file));
        }
        let iterator = returned.object().try_iter()?;
        let mut source = Source::new(iterator, returned, lease);
        source.prime()?;
        let state = source.lease.state();
        let head = state.send_head();
        if head.is_none() && !state.is_sent() {
            return Err(PyAssertionError::new_err(
                "the application returned without having called start_response()",
            ));
        }
        let written = state.take_written();
        source.prepend(written);
        source.title = request.title();
        let Some(head) = head else { return Ok(Answer::Rest(source)) };
        source.declare(head.length)?;
        if let Some(bytes) = source.whole() {
            return Ok(Answer::Whole(head.with(PyBody::whole(bytes))));
        }
        Ok(Answer::Stream(head, source))
    }
}

/// Logs `error`, in the words of Gunicorn's `Worker.handle_error`.
pub(super) fn failed(py: Python<'_>, title: &str, error: &PyErr) -> AnyError {
    tracing::error!("Error handling {title}\n{}", traceback::text(py, error));
    AppFailed::Raised.into()
}

/// What `wsgi.input` is made of.
pub(super) enum Given {
    /// A body that is here.
    Gathered(Input),
    /// A file object over one that is still coming.
    Object(Ref),
}

struct Request<'a> {
    parts: &'a Parts,
    origin: &'a Origin,
    context: &'a Rc<Context>,
}

impl Request<'_> {
    fn title(&self) -> String {
        format!("request {} {}", self.parts.method, self.parts.uri)
    }
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
