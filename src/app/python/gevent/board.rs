//! What passes between the turns of the runtime and the greenlets between them.
//!
//! A turn lasts until no task is runnable ([`counted`](super::super::counted)). Tasks that greenlets wake are woken
//! within the next turn ([`Woken`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::Job;
use crate::app::Bell;
use crate::app::python::counted::is_runnable;
use crate::app::python::traceback;
use crate::app::python::woken::Woken;

/// How long greenlets run before the runtime gets its next turn.
const JOBS: Duration = Duration::from_micros(500);

/// What waits for the other side.
#[derive(Default)]
pub(in crate::app::python) struct Board {
    /// Requests for greenlets to serve.
    pub(super) jobs: RefCell<VecDeque<Job>>,
    /// Waiters (`gevent.hub.Waiter`) whose greenlets can go on.
    pub(super) waiters: RefCell<Vec<Py<PyAny>>>,
    /// Tasks to wake in the next turn.
    tasks: Woken,
    /// A turn is certain to come: nobody needs to ask for one.
    coming: Cell<bool>,
    /// Asks the hub for a turn.
    request: OnceCell<Py<PyAny>>,
    /// Where the hub waits.
    bell: OnceCell<Bell>,
    /// When greenlets are to stop taking requests.
    until: Cell<Option<Instant>>,
}

impl Board {
    /// How to ask the hub for a turn, and where it waits, if it tells.
    pub(super) fn connect(&self, request: Py<PyAny>, epoll: Option<RawFd>, bell: RawFd) {
        // Once a process.
        drop(self.request.set(request));
        if let Some(epoll) = epoll {
            let rung = Rc::default();
            drop(self.bell.set(Bell {
                epoll,
                socket: bell,
                rung,
            }));
        }
    }

    /// Where the hub waits.
    pub(super) fn bell(&self) -> Option<Bell> {
        self.bell.get().cloned()
    }

    /// The bell seemed readable: a listening socket is.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.rung.notify_waiters();
        }
    }

    /// Wakes a task, now or in the next turn.
    pub(super) fn wake(&self, py: Python<'_>, task: Waker) {
        if self.tasks.is_turning() {
            task.wake();
        } else {
            self.note_task(task);
            self.request(py);
        }
    }

    /// Wakes a task in the next turn, and asks for none.
    pub(super) fn note_task(&self, task: Waker) {
        self.tasks.push(task);
    }

    /// Whether several answers have been waiting for a turn for a while.
    pub(super) fn is_overdue(&self) -> bool {
        self.tasks.are_overdue()
    }

    /// After a turn that was given aside: the next one is as certain, or not, as it was before.
    pub(super) fn settle(&self, py: Python<'_>, coming: bool) {
        if coming {
            return;
        }
        if self.rest() {
            self.coming.set(false);
            self.request(py);
        }
    }

    /// Whether a turn is certain to come.
    pub(super) fn is_coming(&self) -> bool {
        self.coming.get()
    }

    /// Lets a greenlet go on after the next turn, and asks for none.
    pub(super) fn note_waiter(&self, waiter: Py<PyAny>) {
        self.waiters.borrow_mut().push(waiter);
    }

    /// Lets a greenlet go on that waits in `waiter`.
    pub(super) fn resume(&self, py: Python<'_>, waiter: Py<PyAny>) {
        self.note_waiter(waiter);
        if !self.tasks.is_turning() {
            self.request(py);
        }
    }

    fn request(&self, py: Python<'_>) {
        if self.coming.replace(true) {
            return;
        }
        if let Some(request) = self.request.get()
            && let Err(error) = request.call0(py)
        {
            tracing::error!(
                "gevent's hub takes no callback\n{}",
                traceback::text(py, &error)
            );
        }
    }

    /// Before a turn.
    pub(super) fn begin(&self) {
        self.tasks.begin();
        self.coming.set(true);
    }

    /// Within a turn: wakes what greenlets have asked to wake.
    pub(super) fn wake_tasks(&self) {
        self.tasks.wake();
    }

    /// After a turn; greenlets may run for a while now. The last request is not kept waiting for the clock.
    pub(super) fn end(&self) {
        self.tasks.end();
        let several = self.jobs.borrow().len() > 1;
        self.until.set(several.then(|| Instant::now() + JOBS));
    }

    /// Whether a turn runs.
    pub(super) fn is_turning(&self) -> bool {
        self.tasks.is_turning()
    }

    /// Whether a greenlet should take a request now.
    pub(super) fn has_time(&self) -> bool {
        !self.jobs.borrow().is_empty()
            && self.until.get().is_none_or(|until| Instant::now() < until)
    }

    /// After the last turn in a row: whether there is to be another one soon, as there is something to do.
    pub(super) fn rest(&self) -> bool {
        let waiting = !self.jobs.borrow().is_empty()
            || !self.waiters.borrow().is_empty()
            || !self.tasks.is_empty();
        let more = waiting || is_runnable();
        self.coming.set(more);
        more
    }
}
