//! `start_response`, `write` and `wsgi.early_hints` of one request.
//!
//! All are bound methods of one [`Exchange`], which is used again once the app has let go of it: no object is made for
//! a request. One of them, the [settled](Pool::settle) one, has its `wsgi.early_hints` in the environs' templates, so a
//! request that gets it need not even be told.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString, PyTuple};

use super::head::{self, Head, Role};
use super::hints;
use crate::app::Line;
use crate::app::python::names::Names;
use crate::app::python::object::{Ref, references};
use crate::app::python::shared::UnderGil;

/// How many exchanges are kept for later requests.
const KEPT: usize = 128;

/// Takes what an app sends before it returns, at once.
pub(in crate::app::python) trait Sink {
    /// Sends `chunk`, after the head where that is not out. May block the greenlet.
    ///
    /// # Errors
    /// Where the greenlet is killed while it waits.
    fn write(&self, lease: &ExchangeState, chunk: Bytes) -> PyResult<()>;

    /// Sends early hints.
    fn hint(&self, fields: HeaderMap);
}

/// Where it goes.
#[derive(Clone)]
pub(in crate::app::python) enum Outlet {
    /// Hints to the connection; what is written is gathered.
    Line(Line),
    /// To somebody who sends it while the app goes on.
    Sink(Rc<dyn Sink>),
}

/// The state behind one `start_response`.
#[pyclass(frozen, module = "rgun_async._native")]
pub(in crate::app::python) struct Exchange {
    shared: UnderGil<Rc<ExchangeState>>,
    names: UnderGil<Rc<RefCell<Names<Role>>>>,
}

/// What both halves, the Python object and our code, know of the response.
#[derive(Default)]
pub(in crate::app::python) struct ExchangeState {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    head: Option<Head>,
    /// The head has been given to the server: it cannot be replaced any more.
    sent: bool,
    /// What `write()` got, where nothing can be sent while the app runs.
    written: Vec<Bytes>,
    /// The callable that `start_response` returns; here only while the request runs, as it refers back to us.
    write: Option<Ref>,
    /// Here only while the request runs, as well.
    outlet: Option<Outlet>,
    /// The client knows interim responses.
    modern: bool,
    /// What the request's headers were in: the response's have room there.
    room: Option<HeaderMap>,
}

impl ExchangeState {
    /// The head, if the app has called `start_response`; from now on it cannot be replaced.
    pub(in crate::app::python) fn send_head(&self) -> Option<Head> {
        let mut inner = self.inner.borrow_mut();
        let head = inner.head.take();
        inner.sent |= head.is_some();
        head
    }

    /// What `write()` has gathered.
    pub(super) fn take_written(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.inner.borrow_mut().written)
    }

    /// The length that the head declares.
    pub(super) fn declared(&self) -> Option<u64> {
        self.inner
            .borrow()
            .head
            .as_ref()
            .and_then(|head| head.length)
    }

    /// Whether `write()` has not been used.
    pub(super) fn is_unwritten(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.sent && inner.written.is_empty()
    }

    /// Whether the head has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.inner.borrow().sent
    }

    /// Where hints go; nowhere once the response has begun, or where the client would not understand them.
    fn hints(&self) -> Option<Outlet> {
        let inner = self.inner.borrow();
        if inner.sent || !inner.written.is_empty() || !inner.modern {
            return None;
        }
        inner.outlet.clone()
    }

    fn reset(&self) {
        // Taken out first: what is dropped here may run code that looks at this state.
        let mut inner = self.inner.borrow_mut();
        let write = inner.write.take();
        let outlet = inner.outlet.take();
        // As nearly always, there is nothing else.
        let rest = inner.head.is_some() || !inner.written.is_empty() || inner.room.is_some();
        let rest = rest.then(|| Box::new(std::mem::take(&mut *inner)));
        inner.sent = false;
        drop(inner);
        drop((write, outlet, rest));
    }
}

#[pymethods]
impl Exchange {
    /// PEP 3333, "The `start_response()` Callable".
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn start_response(
        &self,
        py: Python<'_>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let (started, sent, room) = {
            let mut inner = self.shared.get(py).inner.borrow_mut();
            (
                inner.sent || inner.head.is_some(),
                inner.sent || !inner.written.is_empty(),
                inner.room.take(),
            )
        };
        match exc_info {
            Some(exc_info) if sent => return Err(raised(exc_info)),
            Some(_) => {}
            None if started => {
                return Err(PyAssertionError::new_err("Response headers already set!"));
            }
            None => {}
        }
        let head = self.head(status, headers, room)?;
        let mut inner = self.shared.get(py).inner.borrow_mut();
        inner.head = Some(head);
        Ok(inner.write.as_ref().map(|write| write.clone().unbind()))
    }

    /// PEP 3333, "The `write()` Callable".
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = data
            .cast::<PyBytes>()
            .map_err(|_| {
                PyTypeError::new_err(format!("write() takes bytes, not {}", class(data)))
            })?
            .as_bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::copy_from_slice(bytes);
        let shared = self.shared.get(data.py());
        let sink = {
            let mut inner = shared.inner.borrow_mut();
            let Some(Outlet::Sink(sink)) = &inner.outlet else {
                if inner.head.is_none() {
                    return Err(before_start());
                }
                inner.written.push(chunk);
                return Ok(());
            };
            Rc::clone(sink)
        };
        sink.write(shared, chunk)
    }

    /// Gunicorn's `wsgi.early_hints` (`_make_early_hints_callback` in `gunicorn/http/wsgi.py`): sends a 103 (RFC 8297).
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let shared = self.shared.get(headers.py());
        if shared.hints().is_none() {
            return Ok(());
        }
        // May run code of the app's, which may begin the response.
        let fields = hints::fields(headers)?;
        let outlet = shared.hints().filter(|_| !fields.is_empty());
        match outlet {
            Some(Outlet::Line(line)) => {
                // A hint that cannot be sent is no loss.
                let _ = line.inform(StatusCode::EARLY_HINTS, &fields);
            }
            Some(Outlet::Sink(sink)) => sink.hint(fields),
            None => {}
        }
        Ok(())
    }
}

impl Exchange {
    fn head(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        room: Option<HeaderMap>,
    ) -> PyResult<Head> {
        let status = status
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err(format!("{} is not a string", repr(status))))?;
        let Some((status, reason)) = head::status(status.to_str()?) else {
            return Err(PyValueError::new_err(format!(
                "Invalid status {}",
                repr(status)
            )));
        };
        let mut head = Head {
            status,
            reason,
            headers: room.unwrap_or_else(|| HeaderMap::with_capacity(8)),
            length: None,
        };
        if let Ok(headers) = headers.cast::<PyList>() {
            for header in headers.iter() {
                self.header(&mut head, &header)?;
            }
        } else {
            for header in headers.try_iter()? {
                self.header(&mut head, &header?)?;
            }
        }
        if head.forbids_length() {
            head.headers.remove(http::header::CONTENT_LENGTH);
            head.length = None;
        }
        Ok(head)
    }

    fn header(&self, head: &mut Head, header: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(pair) = header.cast::<PyTuple>()
            && pair.len() == 2
        {
            let name = pair.get_borrowed_item(0)?;
            let value = pair.get_borrowed_item(1)?;
            return self.pair(head, &name, &value);
        }
        let pair = header
            .cast::<PySequence>()
            .map_err(|_| not_a_pair(header))?
            .to_tuple()?;
        if pair.len() != 2 {
            return Err(not_a_pair(header));
        }
        self.pair(head, &pair.get_item(0)?, &pair.get_item(1)?)
    }

    fn pair(
        &self,
        head: &mut Head,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let not_text =
            |object| PyTypeError::new_err(format!("{} is not a string", repr(object)));
        let name = name.cast::<PyString>().map_err(|_| not_text(name))?;
        let text = value.cast::<PyString>().map_err(|_| not_text(value))?;
        let mut names = self.names.get(name.py()).borrow_mut();
        let spelt = || name.to_str().map(str::as_bytes);
        let Some(known) = names.find(name, spelt, Role::of)? else {
            drop(names);
            return Err(PyValueError::new_err(format!(
                "Invalid header name {}",
                repr(name)
            )));
        };
        // The name only: the value may be a secret.
        let plain = text.is_exact_instance_of::<PyString>();
        let bytes = || Ok(head::value(text.to_str()?));
        let Some(value) = known.value(value, plain, bytes)? else {
            drop(names);
            return Err(PyValueError::new_err(format!(
                "Invalid value of header {}",
                repr(name)
            )));
        };
        match known.role {
            Role::Send => {
                head.headers.append(known.name.clone(), value);
            }
            Role::Omit => {}
            Role::Length => match (head::length(value.as_bytes()), head.length) {
                (Some(length), None) => {
                    head.length = Some(length);
                    head.headers.insert(known.name.clone(), value);
                }
                (Some(again), Some(first)) if again == first => {}
                (Some(_) | None, _) => {
                    drop(names);
                    return Err(PyValueError::new_err(
                        "Invalid value of header 'Content-Length'",
                    ));
                }
            },
        }
        Ok(())
    }
}

/// What an app gets that writes too early.
pub(in crate::app::python) fn before_start() -> PyErr {
    PyAssertionError::new_err("write() before start_response()")
}

/// The exception that the app passed in `exc_info`, with its traceback.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyErr {
    let parts = exc_info
        .cast::<PyTuple>()
        .ok()
        .filter(|parts| parts.len() == 3);
    let Some((value, traceback)) =
        parts.and_then(|parts| Some((parts.get_item(1).ok()?, parts.get_item(2).ok()?)))
    else {
        return PyTypeError::new_err("exc_info must be what sys.exc_info() returns");
    };
    let error = PyErr::from_value(value);
    if let Ok(traceback) = traceback.cast_into() {
        error.set_traceback(exc_info.py(), Some(traceback));
    }
    error
}

pub(super) fn not_a_pair(header: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a header must be a (name, value) tuple, not {}",
        class(header)
    ))
}

pub(super) fn class(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "?".into(), |name| name.to_string())
}

pub(super) fn repr(object: &Bound<'_, PyAny>) -> String {
    object
        .repr()
        .map_or_else(|_| class(object), |text| text.to_string())
}

/// The exchanges that wait for a request.
#[derive(Default)]
pub(super) struct Pool {
    /// The one that the templates know, while no request has it. The app may have kept something of it.
    settled: RefCell<Option<Parts>>,
    free: RefCell<Vec<Parts>>,
    names: Rc<RefCell<Names<Role>>>,
}

struct Parts {
    state: Rc<ExchangeState>,
    exchange: Bound<'static, Exchange>,
    start_response: Ref,
    write: Ref,
    early_hints: Ref,
}

/// References to an exchange while nobody else has one: ours, and one in each bound method.
const OWN_REFERENCES: isize = 4;

impl Parts {
    /// Whether nobody has a reference but ourselves and so many templates of environs.
    fn is_unused(&self, templates: isize) -> bool {
        references(&self.start_response) == 1
            && references(&self.write) == 1
            && references(&self.early_hints) == 1 + templates
            && references(&self.exchange) == OWN_REFERENCES
    }
}

impl Pool {
    /// Once: the `wsgi.early_hints` for templates of environs.
    pub(super) fn settle(&self, py: Python<'static>) -> PyResult<Ref> {
        let parts = self.make(py)?;
        let early_hints = parts.early_hints.clone();
        let none = self.settled.replace(Some(parts));
        drop(none);
        Ok(early_hints)
    }

    /// An exchange for one request; `modern` where its client knows interim responses, `templates` as many as have the
    /// settled exchange's `wsgi.early_hints`.
    pub(super) fn lease(
        self: &Rc<Self>,
        py: Python<'static>,
        outlet: Outlet,
        modern: bool,
        templates: isize,
    ) -> PyResult<Lease> {
        let settled = self
            .settled
            .borrow_mut()
            .take_if(|parts| parts.is_unused(templates));
        let is_settled = settled.is_some();
        let free = settled.or_else(|| self.free.borrow_mut().pop());
        let parts = match free {
            Some(parts) => parts,
            None => self.make(py)?,
        };
        {
            let mut inner = parts.state.inner.borrow_mut();
            inner.write = Some(parts.write.clone());
            inner.outlet = Some(outlet);
            inner.modern = modern;
        }
        Ok(Lease {
            pool: Rc::clone(self),
            parts: Some(parts),
            is_settled,
        })
    }

    fn make(&self, py: Python<'static>) -> PyResult<Parts> {
        let state = Rc::new(ExchangeState::default());
        let exchange = Bound::new(
            py,
            Exchange {
                shared: UnderGil::new(Rc::clone(&state)),
                names: UnderGil::new(Rc::clone(&self.names)),
            },
        )?;
        let start_response = exchange.getattr("start_response")?;
        let write = exchange.getattr("write")?;
        let early_hints = exchange.getattr("early_hints")?;
        Ok(Parts {
            state,
            exchange,
            start_response,
            write,
            early_hints,
        })
    }
}

/// One request's hold on an exchange.
pub(in crate::app::python) struct Lease {
    pool: Rc<Pool>,
    /// There until it is given back.
    parts: Option<Parts>,
    is_settled: bool,
}

impl Lease {
    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("taken out by drop alone")
    }

    pub(super) fn start_response(&self) -> &Ref {
        &self.parts().start_response
    }

    /// `wsgi.early_hints`; `None` where the template's does.
    pub(super) fn early_hints(&self) -> Option<&Ref> {
        (!self.is_settled).then(|| &self.parts().early_hints)
    }

    /// Gives the response's headers the memory of the request's.
    pub(super) fn lend(&self, mut room: HeaderMap) {
        room.clear();
        self.state().inner.borrow_mut().room = Some(room);
    }

    pub(in crate::app::python) fn state(&self) -> &ExchangeState {
        &self.parts().state
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        parts.state.reset();
        if self.is_settled {
            let none = self.pool.settled.replace(Some(parts));
            return drop(none);
        }
        let unused = parts.is_unused(0);
        let mut free = self.pool.free.borrow_mut();
        if unused && free.len() < KEPT {
            free.push(parts);
        } else {
            // Its references may be the last ones of what the app hung on them: not while the pool is borrowed.
            drop(free);
            drop(parts);
        }
    }
}
