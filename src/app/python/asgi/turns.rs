//! What the Python half of the driver calls.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::io::unix::AsyncFd;
use tokio::runtime::LocalRuntime;
use tokio::time::Sleep;

use super::Inner;
use super::board::Board;
use crate::app::python::counted::is_runnable;
use crate::app::python::object;
use crate::error::Exit;

/// A turn that is not to wait ends after so many rounds of the runtime's queue even if tasks are runnable.
const ROUNDS: usize = 16;

/// The same after so long: the loop has other descriptors to look at, the listeners among them with uvloop.
const LENGTH: Duration = Duration::from_millis(2);

/// What an app gets beyond its deadline for its last words; the master has not much more patience.
const MOMENT: Duration = Duration::from_millis(150);

/// The runtime, a turn at a time.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
pub(super) struct Turns {
    /// There until the driver has ended.
    runtime: RefCell<Option<Rc<LocalRuntime>>>,
    board: Rc<Board>,
    app: Rc<Inner>,
    idle: Option<Box<dyn Fn() + Send + Sync>>,
    finished: Rc<Cell<Option<Exit>>>,
    /// The loop has been told to stop.
    stopped: Cell<bool>,
    /// Python's own epoll, where the runtime waits for it: before it is registered, and after.
    python: RefCell<Option<OwnedFd>>,
    watched: OnceCell<AsyncFd<OwnedFd>>,
    /// Until when the loop may wait; `None` is for ever.
    until: Cell<Option<Instant>>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Turns {
    pub(super) fn new(
        runtime: LocalRuntime,
        board: Rc<Board>,
        app: Rc<Inner>,
        idle: Option<Box<dyn Fn() + Send + Sync>>,
        finished: Rc<Cell<Option<Exit>>>,
    ) -> Self {
        Self {
            runtime: RefCell::new(Some(Rc::new(runtime))),
            board,
            app,
            idle,
            finished,
            stopped: Cell::new(false),
            python: RefCell::default(),
            watched: OnceCell::new(),
            until: Cell::new(None),
            sleep: RefCell::default(),
        }
    }

    /// How the worker's main future ended.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.finished.get()
    }

    /// One turn, in which `end` is asked how it ends; `None` within another turn, or after the last.
    fn run<T>(&self, mut end: impl FnMut(&mut Context<'_>) -> Poll<T>) -> PyResult<Option<T>> {
        let runtime = self.runtime.borrow().clone();
        let Some(runtime) = runtime else {
            return Ok(None);
        };
        // An app that finds a way to run the loop within a turn.
        if self.board.is_turning() {
            return Ok(None);
        }
        self.board.begin();
        let ended = runtime.block_on(poll_fn(|cx| {
            self.board.hand_over(cx);
            end(cx)
        }));
        self.board.end();
        if self.exit().is_some() && !self.stopped.replace(true) {
            self.app.asgi.stop()?;
        }
        Ok(Some(ended))
    }

    /// Lets the runtime run until it has nothing left to do, without waiting.
    fn spin(&self) -> PyResult<()> {
        let (mut rounds, mut end) = (0, None);
        // Always woken, so that the runtime polls its driver and never waits in it.
        self.run(|cx| {
            if rounds > 0 && (rounds >= ROUNDS || !is_runnable() || is_over(&mut end)) {
                return Poll::Ready(());
            }
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .map(drop)
    }

    /// A turn within a step of the app's, for answers that have waited long enough.
    pub(super) fn aside(&self, py: Python<'_>) -> PyResult<()> {
        let coming = self.board.step_aside();
        let turned = self.spin();
        self.board.settle(py, coming);
        turned
    }

    /// Whether Python's own epoll has something.
    fn poll_python(&self, cx: &mut Context<'_>) -> bool {
        // Registered within the runtime, so here.
        let python = self.python.take();
        if let Some(python) = python {
            match object::watch(python) {
                Ok(watched) => drop(self.watched.set(watched)),
                Err(error) => tracing::error!("cannot watch the loop's epoll: {error}"),
            }
        }
        let Some(watched) = self.watched.get() else {
            return false;
        };
        match watched.poll_read_ready(cx) {
            Poll::Ready(Ok(mut guard)) => {
                // It is told once: until it has been found empty it counts as readable.
                guard.retain_ready();
                true
            }
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// Waits until there is something for Python code to do; whether it is that its own epoll is readable.
    fn wait(&self) -> PyResult<Option<bool>> {
        let until = self.until.get();
        let mut sleep = self.sleep.take();
        let (mut rounds, mut end) = (0, None);
        let mut hurry = until.is_some_and(|until| until <= Instant::now());
        let ended = self.run(|cx| {
            let readable = self.poll_python(cx);
            let work = self.board.take_work();
            rounds += 1;
            if rounds == 1 {
                // At least one look at everything, whatever waits.
                if readable || work || hurry {
                    hurry = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            } else if readable || work {
                return Poll::Ready(readable);
            }
            if hurry {
                if rounds > ROUNDS || !is_runnable() || is_over(&mut end) {
                    return Poll::Ready(readable);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match until {
                Some(until) if poll_sleep(&mut sleep, until, cx) => Poll::Ready(false),
                Some(_) | None => Poll::Pending,
            }
        });
        self.sleep.replace(sleep);
        ended
    }
}

/// Whether a turn has gone on for [`LENGTH`] since this was first asked.
fn is_over(end: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    now >= *end.get_or_insert(now + LENGTH)
}

/// Whether it is `until`; else the task is woken then.
fn poll_sleep(
    sleep: &mut Option<Pin<Box<Sleep>>>,
    until: Instant,
    cx: &mut Context<'_>,
) -> bool {
    let until = until.into();
    let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
    if sleep.deadline() != until {
        sleep.as_mut().reset(until);
    }
    sleep.as_mut().poll(cx).is_ready()
}

#[pymethods]
impl Turns {
    /// Python's own epoll is one of the things that are waited for from now on.
    fn watch(&self, epoll: RawFd) -> PyResult<()> {
        let copy = object::duplicate(epoll)
            .ok_or_else(|| PyOSError::new_err("the selector's epoll cannot be watched"))?;
        drop(self.python.replace(Some(copy.into())));
        Ok(())
    }

    /// The wait of a loop whose selector this is: whether Python's own epoll is readable; `None` if there is nothing but
    /// that to wait for.
    fn select(&self, timeout: Option<f64>) -> PyResult<Option<bool>> {
        let until = timeout.map(|seconds| {
            let wait = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
            let now = Instant::now();
            now.checked_add(wait)
                .unwrap_or(now + Duration::from_secs(86400))
        });
        self.until.set(until);
        self.app.asgi.note_timers();
        self.wait()
    }

    /// Goes on with the wait: Python's own epoll was not readable after all.
    fn resume(&self) -> PyResult<Option<bool>> {
        if let Some(watched) = self.watched.get() {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if let Poll::Ready(Ok(mut guard)) = watched.poll_read_ready(&mut cx) {
                guard.clear_ready();
            }
        }
        self.wait()
    }

    /// How the board asks for a turn, the loop's epoll descriptor, if it tells, and the bell that it watches.
    fn connect(&self, request: Py<PyAny>, epoll: Option<RawFd>, bell: RawFd) {
        self.board.connect(request, epoll, bell);
    }

    /// The bell seems readable; a turn follows.
    fn ring(&self) {
        self.board.ring();
    }

    /// Lets the runtime run until it has nothing left to do.
    fn turn(&self) -> PyResult<()> {
        self.spin()
    }

    /// After a turn: whether there is to be another one soon.
    fn rest(&self) -> bool {
        if let Some(idle) = &self.idle {
            idle();
        }
        self.board.rest()
    }

    /// Whether the worker has ended.
    fn ended(&self) -> bool {
        self.exit().is_some()
    }

    /// The tasks of requests that have not ended.
    fn requests<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.app.asgi.running())
    }

    /// The lifespan that has to be told of the end, if there is one.
    fn lifespan(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.app.lifespan(py)
    }

    /// What is left of the worker's time, in seconds.
    fn left(&self) -> f64 {
        self.app.left().as_secs_f64()
    }

    /// What an app gets beyond that.
    #[expect(clippy::unused_self, reason = "a Python method")]
    fn moment(&self) -> f64 {
        MOMENT.as_secs_f64()
    }

    /// Ends the runtime and every connection in it. A thread that still works for it is not waited for.
    fn close(&self) {
        self.board.close();
        drop(self.sleep.take());
        let runtime = self.runtime.take();
        if let Some(runtime) = runtime.and_then(Rc::into_inner) {
            runtime.shutdown_timeout(Duration::ZERO);
        }
    }
}
