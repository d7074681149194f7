//! Waiting in a greenlet, and who is told when the wait is over.

use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;

use super::board::Board;
use super::pipe::Side;
use crate::app::python::object::Ref;

/// gevent's hub, seen from a greenlet.
pub(super) struct Hub {
    /// `gevent.hub.Waiter`: one wait each, so that what comes too late harms no later one.
    waiter: Ref,
    pub(super) board: Rc<Board>,
}

impl Hub {
    pub(super) fn new(py: Python<'static>, board: Rc<Board>) -> PyResult<Self> {
        Ok(Self {
            waiter: py.import("gevent.hub")?.getattr("Waiter")?,
            board,
        })
    }

    pub(super) fn py(&self) -> Python<'static> {
        self.waiter.py()
    }

    /// Lets other greenlets run until what `park` was given is resumed.
    ///
    /// # Errors
    /// What was thrown into the greenlet meanwhile: a timeout, a kill.
    pub(super) fn wait(&self, park: impl FnOnce(Side<Py<PyAny>>)) -> PyResult<()> {
        let waiter = self.waiter.call0()?;
        park(Side::Greenlet(waiter.clone().unbind()));
        waiter.call_method0(intern!(self.py(), "get")).map(drop)
    }

    /// Tells a side that it can go on.
    pub(super) fn tell(&self, side: Option<Side<Py<PyAny>>>) {
        match side {
            Some(Side::Task(task)) => self.board.wake(self.py(), task),
            Some(Side::Greenlet(waiter)) => self.board.resume(self.py(), waiter),
            None => {}
        }
    }

    /// The same, but for the next turn that comes anyway: calls nothing of Python's.
    pub(super) fn note(&self, side: Option<Side<Py<PyAny>>>) {
        match side {
            Some(Side::Task(task)) => self.board.note_task(task),
            Some(Side::Greenlet(waiter)) => self.board.note_waiter(waiter),
            None => {}
        }
    }
}
