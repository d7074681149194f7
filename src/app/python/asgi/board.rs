//! What passes between the turns of the runtime and the Python code between them.
//!
//! Tasks that Python code wakes are woken within the next turn ([`Woken`]); what the runtime does for Python code within a
//! turn ends that turn soon, for the loop to see it.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use pyo3::prelude::*;

use crate::app::Bell;
use crate::app::python::counted::{counted, is_runnable};
use crate::app::python::traceback;
use crate::app::python::woken::Woken;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What waits for the other side.
#[derive(Default)]
pub(in crate::app::python) struct Board {
    /// Tasks to wake in the next turn.
    tasks: Woken,
    /// Tasks to start in the next turn.
    fresh: RefCell<Vec<Task>>,
    /// The turn is one within a step of the app's: no app may be called in it.
    aside: Cell<bool>,
    /// Tasks that wait for the end of that.
    after: RefCell<Vec<Waker>>,
    /// A turn is certain to come: nobody needs to ask for one.
    coming: Cell<bool>,
    /// There is something for Python code to do.
    work: Cell<bool>,
    /// Of the future that ends the turn.
    root: RefCell<Option<Waker>>,
    /// Asks the loop for a turn, where it does not give one anyway.
    request: OnceCell<Py<PyAny>>,
    /// Where the loop waits, if not in the runtime.
    bell: OnceCell<Bell>,
    /// The loop is at its end: nothing of it may be touched any more.
    over: Cell<bool>,
}

impl Board {
    /// How to ask the loop for a turn, and where it waits, if it tells.
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

    /// Where the loop waits, if not in the runtime.
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
            self.tasks.push(task);
            self.request(py);
        }
    }

    /// Starts a task, now or in the next turn.
    pub(super) fn spawn(&self, py: Python<'_>, task: impl Future<Output = ()> + 'static) {
        if self.tasks.is_turning() {
            tokio::task::spawn_local(counted(task));
        } else {
            self.fresh.borrow_mut().push(Box::pin(task));
            self.request(py);
        }
    }

    fn request(&self, py: Python<'_>) {
        if self.coming.get() {
            return;
        }
        let Some(request) = self.request.get() else {
            return;
        };
        self.coming.set(true);
        if let Err(error) = request.call0(py) {
            tracing::error!(
                "The event loop takes no callback\n{}",
                traceback::text(py, &error)
            );
        }
    }

    /// There is something for Python code to do: a turn that runs ends soon. Between turns Python code runs anyway.
    pub(super) fn tell_loop(&self) {
        if self.tasks.is_turning() {
            self.work.set(true);
            if let Some(root) = &*self.root.borrow() {
                root.wake_by_ref();
            }
        }
    }

    /// Whether several answers have been waiting for a turn for a while.
    pub(super) fn is_overdue(&self) -> bool {
        self.tasks.are_overdue()
    }

    /// Begins turns within a step of the app's, in which no other is called; what [`settle`](Self::settle) is to be told.
    pub(super) fn step_aside(&self) -> bool {
        self.aside.set(true);
        self.coming.get()
    }

    /// Whether there is such a turn: then `task` is woken in the next one that is not.
    pub(super) fn puts_off(&self, task: &Waker) -> bool {
        let aside = self.aside.get();
        if aside {
            self.after.borrow_mut().push(task.clone());
        }
        aside
    }

    /// After such a turn: the next one is as certain, or not, as it was before.
    pub(super) fn settle(&self, py: Python<'_>, coming: bool) {
        self.aside.set(false);
        // What it was to end for, the loop sees by itself.
        self.work.set(false);
        self.tasks.append(&mut self.after.borrow_mut());
        if !coming && self.rest() {
            self.coming.set(false);
            self.request(py);
        }
    }

    /// Whether a turn within a step of the app's runs.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.get()
    }

    /// Whether the loop was to be told since the last question.
    pub(super) fn take_work(&self) -> bool {
        self.work.replace(false)
    }

    /// Before a turn.
    pub(super) fn begin(&self) {
        self.tasks.begin();
        self.coming.set(true);
    }

    /// Within a turn: does what was asked for between the turns.
    pub(super) fn hand_over(&self, cx: &Context<'_>) {
        let mut root = self.root.borrow_mut();
        if !root.as_ref().is_some_and(|root| root.will_wake(cx.waker())) {
            *root = Some(cx.waker().clone());
        }
        drop(root);
        if !self.fresh.borrow().is_empty() {
            for task in self.fresh.take() {
                tokio::task::spawn_local(counted(task));
            }
        }
        self.tasks.wake();
    }

    /// After a turn.
    pub(super) fn end(&self) {
        self.tasks.end();
    }

    /// Whether a turn runs.
    pub(super) fn is_turning(&self) -> bool {
        self.tasks.is_turning()
    }

    /// After a turn: whether there is to be another one soon, as there is something to do.
    pub(super) fn rest(&self) -> bool {
        let more = !self.tasks.is_empty() || !self.fresh.borrow().is_empty() || is_runnable();
        self.coming.set(more);
        more
    }

    /// The loop ends: from now on nothing of it is touched.
    pub(super) fn close(&self) {
        self.over.set(true);
        let tasks = self.tasks.take();
        let fresh = self.fresh.take();
        drop((tasks, fresh));
    }

    /// Whether the loop has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }
}
