//! `wsgi.input` of a body that is still coming: `read()` lets other greenlets run until there is something.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Buf, Bytes};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::hub::Hub;
use super::pipe::{Pipe, Room, Side, Taken};
use crate::app::Body;
use crate::app::python::wsgi::next_chunk;
use crate::error::{AnyError, chain};

type Incoming = Pipe<AnyError, Py<PyAny>>;

/// How much of a body is read ahead of the app; beyond, the client has to wait.
const AHEAD: usize = 256 * 1024;

/// A body as a file object, and the task that fills it.
pub(super) fn stream(
    hub: &Rc<Hub>,
    body: Body,
) -> PyResult<(
    Bound<'static, BodyStream>,
    impl Future<Output = ()> + 'static,
)> {
    let pipe = Rc::new(Incoming::new(AHEAD));
    let stream = BodyStream {
        hub: Rc::clone(hub),
        pipe: Rc::clone(&pipe),
        rest: RefCell::default(),
        waiting: Cell::new(false),
        broken: RefCell::default(),
    };
    Ok((
        Bound::new(hub.py(), stream)?,
        fill(Rc::clone(hub), pipe, body),
    ))
}

/// Reads the body as the app asks for it. Nothing is read before the first question, so that a client which waits for
/// `100 Continue` gets that only from an app that wants the body.
async fn fill(hub: Rc<Hub>, pipe: Rc<Incoming>, mut body: Body) {
    loop {
        let room = poll_fn(|cx| match pipe.room() {
            Room::Full => {
                pipe.park_writer(Some(Side::Task(cx.waker().clone())));
                Poll::Pending
            }
            room @ (Room::Free | Room::Closed) => Poll::Ready(room),
        });
        if room.await == Room::Closed {
            return;
        }
        let mut next = std::pin::pin!(next_chunk(&mut body));
        let chunk = poll_fn(|cx| {
            if pipe.room() == Room::Closed {
                return Poll::Ready(None);
            }
            pipe.park_writer(Some(Side::Task(cx.waker().clone())));
            next.as_mut().poll(cx).map(Some)
        });
        match chunk.await {
            // The app is done with it.
            None => return,
            Some(Some(Ok(chunk))) => hub.tell(pipe.push(chunk)),
            // Where nobody reads any more, nobody needs to know.
            Some(Some(Err(error))) => return hub.tell(pipe.finish(Err(error)).unwrap_or(None)),
            Some(None) => return hub.tell(pipe.finish(Ok(())).unwrap_or(None)),
        }
    }
}

/// A request's body.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
pub(super) struct BodyStream {
    hub: Rc<Hub>,
    pipe: Rc<Incoming>,
    /// Taken from the pipe, and not yet by the app.
    rest: RefCell<Bytes>,
    waiting: Cell<bool>,
    /// Why the body broke off: each further read says so, lest the part be taken for the whole.
    broken: RefCell<Option<String>>,
}

#[pymethods]
impl BodyStream {
    #[pyo3(signature = (size = None))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size);
        let mut gathered = Vec::new();
        while gathered.len() < limit && self.fill()? {
            let left = limit - gathered.len();
            self.move_to(&mut gathered, |rest| rest.len().min(left));
        }
        Ok(PyBytes::new(py, &gathered))
    }

    #[pyo3(signature = (size = None))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        size: Option<isize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.line(limit(size))?))
    }

    /// All lines, or as many as make up `hint` bytes.
    #[pyo3(signature = (hint = None))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        hint: Option<isize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let hint = limit(hint.filter(|hint| *hint > 0));
        let lines = PyList::empty(py);
        let mut length = 0;
        while length < hint {
            let line = self.line(usize::MAX)?;
            if line.is_empty() {
                break;
            }
            length += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(usize::MAX)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    /// What the app has not read by now it will not.
    pub(super) fn close(&self) {
        self.rest.take();
        self.hub.tell(self.pipe.close());
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        // An exception may be on its way through here: no Python code now.
        self.hub.note(self.pipe.close());
    }
}

/// How many bytes a size asks for: none or a negative one asks for all.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(usize::MAX)
}

impl BodyStream {
    fn line(&self, limit: usize) -> PyResult<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < limit && line.last() != Some(&b'\n') && self.fill()? {
            let left = limit - line.len();
            self.move_to(&mut line, |rest| {
                let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                end.min(left)
            });
        }
        Ok(line)
    }

    /// Moves as many bytes of what is here as `count` says.
    fn move_to(&self, to: &mut Vec<u8>, count: impl FnOnce(&[u8]) -> usize) {
        let mut rest = self.rest.borrow_mut();
        let count = count(&rest);
        to.extend_from_slice(&rest[..count]);
        rest.advance(count);
    }

    /// Waits until something is here; `false` at the end of the body.
    fn fill(&self) -> PyResult<bool> {
        loop {
            if !self.rest.borrow().is_empty() {
                return Ok(true);
            }
            if let Some(reason) = &*self.broken.borrow() {
                return Err(PyOSError::new_err(reason.clone()));
            }
            let (taken, writer) = self.pipe.take();
            self.hub.tell(writer);
            match taken {
                Taken::Chunk(chunk) => {
                    self.rest.replace(chunk);
                }
                Taken::End(Ok(())) => return Ok(false),
                Taken::End(Err(error)) => {
                    self.broken.replace(Some(chain(&*error)));
                }
                Taken::Nothing if self.pipe.room() == Room::Closed => return Ok(false),
                Taken::Nothing => self.wait()?,
            }
        }
    }

    fn wait(&self) -> PyResult<()> {
        if self.waiting.replace(true) {
            return Err(PyRuntimeError::new_err(
                "two greenlets read one request's body",
            ));
        }
        let waited = self.hub.wait(|side| self.pipe.park_reader(Some(side)));
        self.waiting.set(false);
        self.pipe.park_reader(None);
        waited
    }
}
