//! What the Python half of the driver calls.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::runtime::LocalRuntime;

use super::Inner;
use super::board::Board;
use crate::app::python::counted::is_runnable;
use crate::error::Exit;

/// A turn ends after so many rounds of the runtime's queue even if tasks are runnable: greenlets wait.
const ROUNDS: usize = 16;

/// Requests wait for a greenlet.
const JOBS: u8 = 1;
/// Greenlets can go on.
const WAITERS: u8 = 2;

/// There is to be another turn soon.
const MORE: u8 = 1;
/// The worker has ended.
const ENDED: u8 = 2;

/// The runtime, a turn at a time.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
pub(super) struct Turns {
    /// There until the driver has ended.
    runtime: RefCell<Option<Rc<LocalRuntime>>>,
    board: Rc<Board>,
    app: Rc<Inner>,
    idle: Option<Box<dyn Fn() + Send + Sync>>,
    finished: Rc<Cell<Option<Exit>>>,
}

impl Turns {
    pub(super) fn new(
        runtime: LocalRuntime,
        board: Rc<Board>,
        app: Rc<Inner>,
        idle: Option<Box<dyn Fn() + Send + Sync>>,
        finished: Rc<Cell<Option<Exit>>>,
    ) -> Self {
        let runtime = RefCell::new(Some(Rc::new(runtime)));
        Self {
            runtime,
            board,
            app,
            idle,
            finished,
        }
    }

    /// How the worker's main future ended.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.finished.get()
    }

    /// Ends the runtime and every connection in it. A thread that still writes a body to a file is not waited for.
    pub(super) fn close(&self) {
        let runtime = self.runtime.take();
        if let Some(runtime) = runtime.and_then(Rc::into_inner) {
            runtime.shutdown_timeout(Duration::ZERO);
        }
        let jobs = self.board.jobs.take();
        drop(jobs);
    }
}

#[pymethods]
impl Turns {
    /// How the board asks for a turn, the hub's epoll descriptor, if it tells, and the bell that it watches.
    fn connect(&self, request: Py<PyAny>, epoll: Option<RawFd>, bell: RawFd) {
        self.board.connect(request, epoll, bell);
    }

    /// The bell seems readable; a turn follows.
    fn ring(&self) {
        self.board.ring();
    }

    /// Lets the runtime run until it has nothing left to do; says who else has.
    fn turn(&self) -> u8 {
        let runtime = self.runtime.borrow().clone();
        let Some(runtime) = runtime else { return 0 };
        // An app that finds a way to run the hub within a turn.
        if self.board.is_turning() {
            return 0;
        }
        self.board.begin();
        let mut rounds = 0;
        // Always woken, so that the runtime polls its driver and never waits in it.
        runtime.block_on(poll_fn(|cx| {
            self.board.wake_tasks();
            if rounds > 0 && (rounds >= ROUNDS || !is_runnable()) {
                return Poll::Ready(());
            }
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        self.board.end();
        let jobs = if self.board.jobs.borrow().is_empty() {
            0
        } else {
            JOBS
        };
        let waiters = if self.board.waiters.borrow().is_empty() {
            0
        } else {
            WAITERS
        };
        jobs | waiters
    }

    /// The waiters that can be switched to.
    fn waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.board.waiters.take())
    }

    /// Whether a greenlet should call `serve`.
    fn waiting(&self) -> bool {
        self.board.has_time()
    }

    /// Serves requests in the calling greenlet until there are none, or it is the runtime's turn.
    fn serve(&self) {
        while self.board.has_time() {
            let Some(job) = self.board.jobs.borrow_mut().pop_front() else {
                break;
            };
            self.app.serve(job);
        }
    }

    /// After the last turn in a row: whether there is to be another one soon, and whether the worker has ended.
    fn rest(&self) -> u8 {
        if let Some(idle) = &self.idle {
            idle();
        }
        let more = if self.board.rest() { MORE } else { 0 };
        let ended = if self.exit().is_some() { ENDED } else { 0 };
        more | ended
    }
}
