//! What passes between the turns of the runtime and the greenlets between them.
//!
//! Tokio cannot say that it has nothing left to do, and an event that its driver has fetched is not announced by its
//! epoll descriptor again: so every task is [`counted`], and a turn lasts until no task is runnable. Tasks that greenlets
//! wake are woken within the next turn, where that costs no write to the runtime's eventfd.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use pyo3::prelude::*;

use super::Job;
use crate::app::Bell;
use crate::app::python::traceback;

/// How long greenlets run before the runtime gets its next turn.
const JOBS: Duration = Duration::from_micros(500);

/// Tasks that are woken and not yet polled. Threads for blocking work wake tasks as well.
static RUNNABLE: AtomicUsize = AtomicUsize::new(0);

/// Whether a task is runnable.
pub(super) fn is_runnable() -> bool {
    RUNNABLE.load(Ordering::Acquire) > 0
}

struct Woken {
    /// It counts as runnable.
    counts: AtomicBool,
    task: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.counts.swap(true, Ordering::AcqRel) {
            RUNNABLE.fetch_add(1, Ordering::AcqRel);
        }
        self.task.wake_by_ref();
    }
}

pin_project! {
    /// A task that counts as runnable while it is.
    pub(super) struct Counted<F> {
        #[pin]
        task: F,
        count: Count,
    }
}

/// The task's part in [`RUNNABLE`]; leaves it when dropped.
struct Count(Option<(Arc<Woken>, Waker)>);

impl Count {
    /// Takes back what it counts, and whoever wakes it from now on adds nothing.
    fn leave(&self) {
        let counts = match &self.0 {
            Some((woken, _)) => woken.counts.swap(true, Ordering::AcqRel),
            // Not polled yet.
            None => true,
        };
        if counts {
            RUNNABLE.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Wraps a task of the worker. It is runnable from now on, so it is to be spawned at once.
pub(super) fn counted<F: Future>(task: F) -> Counted<F> {
    RUNNABLE.fetch_add(1, Ordering::AcqRel);
    Counted {
        task,
        count: Count(None),
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let count = this.count;
        match &count.0 {
            // The same waker all the task's life, as a rule.
            Some((woken, _)) if woken.task.will_wake(cx.waker()) => {
                if woken.counts.swap(false, Ordering::AcqRel) {
                    RUNNABLE.fetch_sub(1, Ordering::AcqRel);
                }
            }
            Some(_) | None => {
                count.leave();
                let task = cx.waker().clone();
                let woken = Arc::new(Woken {
                    counts: AtomicBool::new(false),
                    task,
                });
                let waker = Waker::from(Arc::clone(&woken));
                count.0 = Some((woken, waker));
            }
        }
        let Some((_, waker)) = &count.0 else {
            return Poll::Pending;
        };
        this.task.poll(&mut Context::from_waker(waker))
    }
}

/// What waits for the other side.
#[derive(Default)]
pub(in crate::app::python) struct Board {
    /// Requests for greenlets to serve.
    pub(super) jobs: RefCell<VecDeque<Job>>,
    /// Waiters (`gevent.hub.Waiter`) whose greenlets can go on.
    pub(super) waiters: RefCell<Vec<Py<PyAny>>>,
    /// Tasks to wake in the next turn.
    tasks: RefCell<Vec<Waker>>,
    /// A turn is running: tasks can be woken now.
    turning: Cell<bool>,
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
        if self.turning.get() {
            task.wake();
        } else {
            self.note_task(task);
            self.request(py);
        }
    }

    /// Wakes a task in the next turn, and asks for none.
    pub(super) fn note_task(&self, task: Waker) {
        self.tasks.borrow_mut().push(task);
    }

    /// Lets a greenlet go on after the next turn, and asks for none.
    pub(super) fn note_waiter(&self, waiter: Py<PyAny>) {
        self.waiters.borrow_mut().push(waiter);
    }

    /// Lets a greenlet go on that waits in `waiter`.
    pub(super) fn resume(&self, py: Python<'_>, waiter: Py<PyAny>) {
        self.note_waiter(waiter);
        if !self.turning.get() {
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
        self.coming.set(true);
        self.turning.set(true);
    }

    /// Within a turn: wakes what greenlets have asked to wake.
    pub(super) fn wake_tasks(&self) {
        let tasks = self.tasks.take();
        for task in tasks {
            task.wake();
        }
    }

    /// After a turn; greenlets may run for a while now.
    pub(super) fn end(&self) {
        self.turning.set(false);
        let jobs = !self.jobs.borrow().is_empty();
        self.until.set(jobs.then(|| Instant::now() + JOBS));
    }

    /// Whether a turn runs.
    pub(super) fn is_turning(&self) -> bool {
        self.turning.get()
    }

    /// Whether a greenlet should take a request now.
    pub(super) fn has_time(&self) -> bool {
        !self.jobs.borrow().is_empty()
            && self.until.get().is_some_and(|until| Instant::now() < until)
    }

    /// After the last turn in a row: whether there is to be another one soon, as there is something to do.
    pub(super) fn rest(&self) -> bool {
        let waiting = !self.jobs.borrow().is_empty()
            || !self.waiters.borrow().is_empty()
            || !self.tasks.borrow().is_empty();
        let more = waiting || is_runnable();
        self.coming.set(more);
        more
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    /// The count is the process's: one test for all that is said of it.
    #[test]
    fn a_task_counts_while_it_is_runnable() {
        let before = RUNNABLE.load(Ordering::Acquire);
        let count = || RUNNABLE.load(Ordering::Acquire) - before;
        let kept = RefCell::new(None);
        let mut polls = 0;
        let mut task = Box::pin(counted(poll_fn(|cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            polls += 1;
            if polls == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        assert_eq!(count(), 1, "runnable from the start");
        let nobody = Waker::from(Arc::new(Nobody));
        let mut cx = Context::from_waker(&nobody);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert_eq!(count(), 0);
        let waker = kept.borrow().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count(), 1, "once, however often it is woken");
        assert!(task.as_mut().poll(&mut cx).is_pending());
        waker.wake_by_ref();
        assert!(task.as_mut().poll(&mut cx).is_ready());
        assert_eq!(count(), 0);
        waker.wake_by_ref();
        assert_eq!(count(), 1, "until it is dropped, tokio may yet be told");
        drop(task);
        assert_eq!(count(), 0);
        waker.wake();
        assert_eq!(count(), 0, "what is gone is never runnable");

        let never = counted(poll_fn(|_| Poll::<()>::Pending));
        assert_eq!(count(), 1);
        drop(never);
        assert_eq!(count(), 0, "dropped before its first poll");
    }
}
