//! `receive` and `send` of one request, as Python has them.
//!
//! Both are bound methods of one object, which is used again once the app has let go of them: no object is made for a
//! request.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::prelude::*;

use super::exchange::Exchange;
use crate::app::python::object::{Ref, references};

/// How many are kept for later requests.
const KEPT: usize = 128;

/// The object behind `receive` and `send`.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
#[derive(Default)]
pub(super) struct Port {
    exchange: RefCell<Option<Rc<Exchange>>>,
}

impl Port {
    /// The request that it belongs to: there until the app has let go of it.
    fn exchange(&self) -> PyResult<Rc<Exchange>> {
        self.exchange
            .borrow()
            .clone()
            .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the request has ended"))
    }
}

#[pymethods]
impl Port {
    fn receive(&self) -> PyResult<Py<PyAny>> {
        Ok(self.exchange()?.receive()?.unbind())
    }

    fn send(&self, py: Python<'_>, message: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let exchange = self.exchange()?;
        let message = message.into_bound(crate::app::python::object::token(py));
        Ok(exchange.send(&message)?.unbind())
    }
}

/// The ports that wait for a request.
#[derive(Default)]
pub(super) struct Ports {
    free: RefCell<Vec<Parts>>,
}

struct Parts {
    port: Bound<'static, Port>,
    receive: Ref,
    send: Ref,
}

/// References to a port while nobody else has one: ours, and one in each bound method.
const OWN_REFERENCES: isize = 3;

/// A port that a request has.
pub(super) struct Leased {
    ports: Rc<Ports>,
    parts: Parts,
}

impl Ports {
    /// A port for one request.
    pub(super) fn lease(
        self: &Rc<Self>,
        py: Python<'static>,
        exchange: &Rc<Exchange>,
    ) -> PyResult<Leased> {
        let free = self.free.borrow_mut().pop();
        let parts = match free {
            Some(parts) => parts,
            None => Parts::new(py)?,
        };
        parts
            .port
            .borrow()
            .exchange
            .replace(Some(Rc::clone(exchange)));
        Ok(Leased {
            ports: Rc::clone(self),
            parts,
        })
    }
}

impl Parts {
    fn new(py: Python<'static>) -> PyResult<Self> {
        let port = Bound::new(py, Port::default())?;
        Ok(Self {
            receive: port.getattr("receive")?,
            send: port.getattr("send")?,
            port,
        })
    }

    /// Nobody else has any of it.
    fn is_free(&self) -> bool {
        references(&self.port) == OWN_REFERENCES
            && references(&self.receive) == 1
            && references(&self.send) == 1
    }
}

impl Leased {
    pub(super) fn receive(&self) -> &Ref {
        &self.parts.receive
    }

    pub(super) fn send(&self) -> &Ref {
        &self.parts.send
    }

    /// The request has ended. What the app still has stays what it was: it goes on to lead to this request.
    pub(super) fn give_back(self) {
        let Self { ports, parts } = self;
        if !parts.is_free() {
            return;
        }
        let exchange = parts.port.borrow().exchange.take();
        drop(exchange);
        let mut free = ports.free.borrow_mut();
        if free.len() < KEPT {
            free.push(parts);
        }
    }
}
