//! The event loop, seen from our side.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::board::Board;
use super::exchange::Exchange;
use super::start::Starter;
use super::turns::Turns;
use crate::app::BootError;
use crate::app::python::awaitable::Awaitables;
use crate::app::python::object::{self, Ref};
use crate::app::python::{cstr, load, traceback};

/// The part of the driver that has to be Python.
const GLUE: &std::ffi::CStr = cstr(concat!(
    include_str!("../../../../python/rgun_async/_asyncio.py"),
    "\0"
));

/// Which loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The standard library's: it waits in the runtime.
    Asyncio,
    /// uvloop: the runtime is one of its readers.
    Uvloop,
}

/// A loop, and what is common to all that runs in it.
pub(in crate::app::python) struct Asyncio {
    kind: Kind,
    event_loop: Ref,
    create_future: Ref,
    starter: Starter,
    pub(in crate::app::python) awaitables: Awaitables,
    pub(in crate::app::python) board: Rc<Board>,
    /// Callbacks that wait for the loop, where it tells. Its timers are a list that it replaces now and then.
    ready: Option<Ref>,
    timers: Cell<usize>,
    /// Requests whose Tasks have not ended, by the address of the Task.
    running: RefCell<FxHashMap<usize, Rc<Exchange>>>,
    /// The callback of Tasks that have ended.
    ended: OnceCell<Ref>,
    /// Told when none goes on.
    quiet: Notify,
    /// The runtime, while the loop runs.
    turns: OnceCell<Bound<'static, Turns>>,
    /// How long a request's Task goes on without its client.
    pub(super) grace: Duration,
}

impl Asyncio {
    /// Makes the loop of this worker.
    ///
    /// # Errors
    /// Where Python cannot import it.
    pub(super) fn new(
        py: Python<'static>,
        kind: Kind,
        board: Rc<Board>,
        grace: Duration,
    ) -> Result<Self, BootError> {
        let make = || -> PyResult<Self> {
            let event_loop = glue(py)?.call_method1("make", (kind == Kind::Uvloop,))?;
            let ready = match kind {
                Kind::Asyncio => event_loop.getattr_opt("_ready")?,
                Kind::Uvloop => None,
            };
            Ok(Self {
                kind,
                create_future: event_loop.getattr("create_future")?,
                starter: Starter::new(&event_loop)?,
                awaitables: Awaitables::new(py)?,
                board,
                ready,
                timers: Cell::new(0),
                running: RefCell::default(),
                ended: OnceCell::new(),
                quiet: Notify::new(),
                turns: OnceCell::new(),
                grace,
                event_loop,
            })
        };
        make().map_err(|error| load::boot(py, &error))
    }

    pub(in crate::app::python) fn py(&self) -> Python<'static> {
        self.event_loop.py()
    }

    pub(super) fn event_loop(&self) -> &Ref {
        &self.event_loop
    }

    /// A future of the loop.
    pub(in crate::app::python) fn future(&self) -> PyResult<Ref> {
        self.create_future.call0()
    }

    /// What the runtime's turns are asked of.
    pub(super) fn connect(&self, turns: Bound<'static, Turns>) {
        // Once a process.
        drop(self.turns.set(turns));
    }

    /// The app has sent something: answers that have waited long enough are written now.
    pub(super) fn write_overdue(&self) -> PyResult<()> {
        match self.turns.get() {
            Some(turns) if self.board.is_overdue() => turns.borrow().aside(self.py()),
            Some(_) | None => Ok(()),
        }
    }

    /// Resolves a future, unless it has been cancelled meanwhile.
    pub(in crate::app::python) fn resolve(&self, future: &Ref) {
        if self.board.is_over() {
            return;
        }
        let py = self.py();
        let resolve = || -> PyResult<()> {
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
            Ok(())
        };
        if let Err(error) = resolve() {
            tracing::error!(
                "A future cannot be resolved\n{}",
                traceback::text(py, &error)
            );
        }
        self.board.tell_loop();
    }

    /// Calls `callback` after `delay`; the handle cancels that.
    pub(super) fn call_later(&self, delay: Duration, callback: &Ref) -> PyResult<Ref> {
        let py = self.py();
        let handle = self
            .event_loop
            .call_method1(intern!(py, "call_later"), (delay.as_secs_f64(), callback))?;
        self.board.tell_loop();
        Ok(handle)
    }

    /// Ends `run_forever`.
    pub(super) fn stop(&self) -> PyResult<()> {
        self.event_loop.call_method0("stop")?;
        self.board.tell_loop();
        Ok(())
    }

    /// A Task of `coroutine`, its first step done.
    ///
    /// # Errors
    /// As [`Starter::start`].
    pub(in crate::app::python) fn start(&self, coroutine: &Ref) -> PyResult<Ref> {
        let task = self.starter.start(coroutine);
        if self.has_news() {
            self.board.tell_loop();
        }
        task
    }

    /// Before a wait: how many timers the loop knows of.
    pub(super) fn note_timers(&self) {
        self.timers.set(self.count_timers());
    }

    /// Whether the loop was given something to do since its wait began. A loop that waits by itself knows.
    fn has_news(&self) -> bool {
        match (self.kind, &self.ready) {
            (Kind::Uvloop, _) => false,
            (Kind::Asyncio, Some(ready)) => {
                ready.len().is_ok_and(|ready| ready > 0)
                    || self.timers.get() != self.count_timers()
            }
            // A loop that does not tell: look each time.
            (Kind::Asyncio, None) => true,
        }
    }

    fn count_timers(&self) -> usize {
        if self.ready.is_none() {
            return 0;
        }
        self.event_loop
            .getattr(intern!(self.py(), "_scheduled"))
            .and_then(|timers| timers.len())
            .unwrap_or(0)
    }

    /// Keeps a request whose Task goes on, and tells it when the Task has ended.
    pub(super) fn keep(self: &Rc<Self>, task: &Ref, exchange: &Rc<Exchange>) -> PyResult<()> {
        let py = self.py();
        let ended = if let Some(ended) = self.ended.get() {
            ended
        } else {
            let endings = Endings(Rc::downgrade(self));
            let ended = Bound::new(py, endings)?.getattr("ended")?;
            self.ended.get_or_init(|| ended)
        };
        task.call_method1(intern!(py, "add_done_callback"), (ended,))?;
        let address = task.as_ptr().addr();
        let before = self
            .running
            .borrow_mut()
            .insert(address, Rc::clone(exchange));
        drop(before);
        Ok(())
    }

    /// Waits until no request's Task goes on: some do after their answer. Cancel safe.
    pub(super) async fn quiet(&self) {
        while !self.running.borrow().is_empty() {
            self.quiet.notified().await;
        }
    }

    /// The Tasks that go on.
    pub(super) fn running(&self) -> Vec<Ref> {
        let running: Vec<_> = self.running.borrow().values().map(Rc::clone).collect();
        running
            .iter()
            .filter_map(|exchange| exchange.task())
            .collect()
    }
}

/// Told of Tasks that have ended.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
struct Endings(Weak<Asyncio>);

#[pymethods]
impl Endings {
    fn ended(&self, py: Python<'_>, task: Py<PyAny>) {
        let Some(asgi) = self.0.upgrade() else { return };
        let task = task.into_bound(object::token(py));
        let exchange = asgi.running.borrow_mut().remove(&task.as_ptr().addr());
        if let Some(exchange) = exchange {
            exchange.ended(&task);
        }
        if asgi.running.borrow().is_empty() {
            asgi.quiet.notify_waiters();
        }
    }
}

/// The driver's Python half, as a module.
pub(super) fn glue(py: Python<'static>) -> PyResult<Bound<'static, PyModule>> {
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(module) = modules.get_item("rgun_async._asyncio") {
        return Ok(module.cast_into()?);
    }
    let name = c"rgun_async._asyncio";
    let module = PyModule::from_code(py, GLUE, c"rgun_async/_asyncio.py", name)?;
    modules.set_item("rgun_async._asyncio", &module)?;
    Ok(module)
}
