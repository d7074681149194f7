//! The driver's loop: what gevent's watchers call, and what runs in the greenlets.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySet};
use tokio::runtime::LocalRuntime;

use super::Inner;
use super::board::Board;
use crate::app::python::counted::is_runnable;
use crate::app::python::object::call0;
use crate::error::Exit;

/// A turn ends after so many rounds of the runtime's queue even if tasks are runnable: greenlets wait.
const ROUNDS: usize = 16;
/// The same once so many requests wait for one: the first of them is not to wait for all.
const JOBS: usize = 64;
/// Turns in a row before the hub looks at its other watchers: the app's sockets, the listeners.
const TURNS: usize = 2;
/// Greenlets that are kept for later requests.
const KEEP: usize = 1000;

/// The runtime, a turn at a time, and the greenlets that serve what it has read.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
pub(super) struct Turns {
    /// There until the driver has ended.
    runtime: RefCell<Option<Rc<LocalRuntime>>>,
    board: Rc<Board>,
    app: Rc<Inner>,
    idle: Option<Box<dyn Fn() + Send + Sync>>,
    finished: Rc<Cell<Option<Exit>>>,
    glue: OnceCell<Glue>,
    /// How to switch to the greenlets that wait for a request.
    parked: RefCell<Vec<Py<PyAny>>>,
    /// The hub runs [`drain`](Self::drain).
    draining: Cell<bool>,
    /// The worker has ended: nothing is parked any more.
    ended: Cell<bool>,
    /// This process was forked by the app, and is no worker.
    forked: Cell<bool>,
}

/// What the Python half gives: all of it callables, but for the set.
struct Glue {
    /// Switches to the hub.
    hub: Py<PyAny>,
    /// The greenlet that runs.
    current: Py<PyAny>,
    /// Makes a greenlet that calls `run`.
    make: Py<PyAny>,
    /// All that `make` has made and that have not ended.
    runners: Py<PySet>,
    /// Has `drain` called soon, after a look at the watchers.
    soon: Py<PyAny>,
    /// Ends the driver, soon.
    finish: Py<PyAny>,
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
            glue: OnceCell::new(),
            parked: RefCell::default(),
            draining: Cell::new(false),
            ended: Cell::new(false),
            forked: Cell::new(false),
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

    fn glue(&self) -> PyResult<&Glue> {
        self.glue
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the driver is not connected"))
    }

    /// Lets the runtime run until it has nothing left to do; whether somebody else has.
    fn turn(&self) -> bool {
        let runtime = self.runtime.borrow().clone();
        let Some(runtime) = runtime else { return false };
        // An app that finds a way to run the hub within a turn.
        if self.board.is_turning() {
            return false;
        }
        self.board.begin();
        let mut rounds = 0;
        // Always woken, so that the runtime polls its driver and never waits in it.
        runtime.block_on(poll_fn(|cx| {
            self.board.wake_tasks();
            let jobs = self.board.jobs.borrow().len();
            if rounds > 0 && (rounds >= ROUNDS || jobs >= JOBS || !is_runnable()) {
                return Poll::Ready(());
            }
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        self.board.end();
        !self.board.jobs.borrow().is_empty() || !self.board.waiters.borrow().is_empty()
    }

    /// Lets greenlets go on that can, then has greenlets serve the requests that are here, for a while.
    fn greenlets(&self, py: Python<'_>) -> PyResult<()> {
        let waiters = self.board.waiters.take();
        for waiter in waiters {
            waiter.call_method1(py, intern!(py, "switch"), (py.None(),))?;
        }
        // Whatever runs may be the one that forks.
        while self.board.has_time() && !self.forked.get() {
            let parked = self.parked.borrow_mut().pop();
            let switch = match parked {
                Some(switch) => switch,
                None => self.start(py)?,
            };
            call0(switch.bind(py))?;
        }
        Ok(())
    }

    /// The runtime and the greenlets by turns.
    fn turns(&self, py: Python<'_>) -> PyResult<()> {
        for _ in 0..TURNS {
            if self.forked.get() || !self.turn() {
                break;
            }
            self.greenlets(py)?;
        }
        Ok(())
    }

    /// A new greenlet; how to switch to it.
    fn start(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let glue = self.glue()?;
        let runner = glue.make.call0(py)?;
        glue.runners.bind(py).add(&runner)?;
        runner.getattr(py, intern!(py, "switch"))
    }

    /// Serves requests until there are none, or it is the runtime's turn.
    ///
    /// Not within its caller: what that has on the stack is copied away and back at each switch.
    #[inline(never)]
    fn serve(&self, py: Python<'_>) {
        loop {
            while self.board.has_time() {
                let Some(job) = self.board.jobs.borrow_mut().pop_front() else {
                    break;
                };
                self.app.serve(job);
            }
            // Within `drain` the turn comes when this greenlet has done. Else it has been waiting for something, as others
            // may have that go on next.
            if self.draining.get() || self.forked.get() || !self.board.is_overdue() {
                return;
            }
            let coming = self.board.is_coming();
            self.turn();
            self.board.settle(py, coming);
        }
    }

    /// Serves requests, and waits for others, until the greenlet is one too many.
    fn serve_and_park(&self, py: Python<'_>, this: &Bound<'_, PyAny>) -> PyResult<()> {
        let hub = self.glue()?.hub.bind(py);
        let switch = this.getattr(intern!(py, "switch"))?.unbind();
        loop {
            self.serve(py);
            if self.ended.get() || self.parked.borrow().len() >= KEEP {
                return Ok(());
            }
            self.parked.borrow_mut().push(switch.clone_ref(py));
            call0(hub)?;
        }
    }
}

#[pymethods]
impl Turns {
    /// What the driver needs of Python's half; how the board asks for a turn; the hub's epoll descriptor, if it tells,
    /// and the bell that it watches.
    #[expect(clippy::too_many_arguments, reason = "each is one thing of gevent's")]
    fn connect(
        &self,
        hub: Py<PyAny>,
        current: Py<PyAny>,
        make: Py<PyAny>,
        runners: Py<PySet>,
        soon: Py<PyAny>,
        finish: Py<PyAny>,
        request: Py<PyAny>,
        epoll: Option<RawFd>,
        bell: RawFd,
    ) {
        let glue = Glue {
            hub,
            current,
            make,
            runners,
            soon,
            finish,
        };
        // Once a process.
        drop(self.glue.set(glue));
        self.board.connect(request, epoll, bell);
    }

    /// The runtime's turn, then the greenlets', then the runtime's for their answers.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.draining.set(true);
        let turned = self.turns(py);
        self.draining.set(false);
        turned?;
        if self.forked.get() {
            return Ok(());
        }
        if let Some(idle) = &self.idle {
            idle();
        }
        if self.board.rest() {
            self.glue()?.soon.call0(py)?;
        }
        if self.exit().is_some() && !self.ended.replace(true) {
            self.glue()?.finish.call0(py)?;
        }
        Ok(())
    }

    /// The bell seems readable: a listening socket is.
    fn ring(&self, py: Python<'_>) -> PyResult<()> {
        self.board.ring();
        self.drain(py)
    }

    /// The life of a greenlet.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let glue = self.glue()?;
        let this = glue.current.bind(py).call0()?;
        let result = self.serve_and_park(py, &this);
        glue.runners.bind(py).discard(&this)?;
        result
    }

    /// The greenlets that still serve a request.
    fn busy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let parked: Vec<_> = {
            let parked = self.parked.borrow();
            parked.iter().map(|switch| switch.clone_ref(py)).collect()
        };
        let idle = PySet::empty(py)?;
        for switch in parked {
            idle.add(switch.getattr(py, intern!(py, "__self__"))?)?;
        }
        let runners = self.glue()?.runners.bind(py);
        let busy = runners.call_method1(intern!(py, "difference"), (idle,))?;
        PyList::new(py, busy.try_iter()?.collect::<PyResult<Vec<_>>>()?)
    }

    /// A process that the app forked is no worker: it must not serve what it shares with one.
    fn forget(&self) {
        self.forked.set(true);
    }
}
