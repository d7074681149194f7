//! A request's Task, whose first step is done at once: an app that never waits is answered with no pass of the loop.
//!
//! It is a real `asyncio.Task` all the same. Python 3.12 has `eager_start` for that. Before, a Task hands its first step to
//! `loop.call_soon`, which is ours for just that moment; the step is then done in the Task's own context. And as there, a
//! Task that has ended with its first step was never among `asyncio.all_tasks()`: entering it there, and taking it out again,
//! is a tenth of such a request.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::app::python::object::{Context, Ref};
use crate::app::python::shared::UnderGil;

/// Starts Tasks.
pub(super) struct Starter {
    task: Ref,
    keywords: Bound<'static, PyDict>,
    how: How,
}

enum How {
    Eager,
    Caught {
        event_loop: Ref,
        /// The attribute that is ours for a moment, and what it is then.
        name: Bound<'static, PyString>,
        call_soon: Ref,
        catch: Bound<'static, Catch>,
        register: Bound<'static, Register>,
    },
}

impl Starter {
    pub(super) fn new(event_loop: &Ref) -> PyResult<Self> {
        let py = event_loop.py();
        let keywords = PyDict::new(py);
        keywords.set_item("loop", event_loop)?;
        // Else each gets a number, which is formatted.
        keywords.set_item("name", "request")?;
        let how = if py.version_info() >= (3, 12) {
            keywords.set_item("eager_start", true)?;
            How::Eager
        } else {
            let catch = Bound::new(py, Catch::default())?;
            How::Caught {
                event_loop: event_loop.clone(),
                name: PyString::intern(py, "call_soon"),
                call_soon: catch.getattr("call_soon")?,
                catch,
                register: Register::install(py)?,
            }
        };
        let task = py.import("asyncio")?.getattr("Task")?;
        Ok(Self {
            task,
            keywords,
            how,
        })
    }

    /// A Task of `coroutine`, its first step done.
    ///
    /// # Errors
    /// Where `coroutine` is none, and what a Task lets through: `SystemExit`, `KeyboardInterrupt`.
    pub(super) fn start(&self, coroutine: &Ref) -> PyResult<Ref> {
        match &self.how {
            How::Eager => self.task.call((coroutine,), Some(&self.keywords)),
            How::Caught {
                event_loop,
                name,
                call_soon,
                catch,
                register,
            } => {
                event_loop.setattr(name, call_soon)?;
                register.get().making.store(true, Ordering::Relaxed);
                let task = self.task.call((coroutine,), Some(&self.keywords));
                register.get().making.store(false, Ordering::Relaxed);
                event_loop.delattr(name)?;
                let caught = catch.borrow().0.take();
                let task = task?;
                if let Some((step, context)) = caught {
                    let step = step.into_bound(task.py());
                    let stepped = match context {
                        Some(context) => {
                            let context = Context::made(context.into_bound(task.py()));
                            context.run(|| step.call0())?
                        }
                        None => step.call0(),
                    };
                    // What a Task lets through it keeps as well.
                    drop(stepped);
                }
                if !task.call_method0(intern!(task.py(), "done"))?.is_truthy()? {
                    register.get().enter(&task)?;
                }
                Ok(task)
            }
        }
    }
}

/// What a Task wants to be called soon, and in which context.
type Caught = (Py<PyAny>, Option<Py<PyAny>>);

/// The `call_soon` that a Task sees while it is made.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
#[derive(Default)]
struct Catch(RefCell<Option<Caught>>);

#[pymethods]
impl Catch {
    #[pyo3(signature = (callback, *_arguments, context = None))]
    fn call_soon(
        &self,
        callback: Py<PyAny>,
        _arguments: &Bound<'_, PyTuple>,
        context: Option<Py<PyAny>>,
    ) {
        let before = self.0.replace(Some((callback, context)));
        drop(before);
    }
}

/// `add` of the set of all Tasks, which every Task of the process is entered by when it is made.
#[pyclass(frozen, module = "rgun_async._native")]
struct Register {
    /// A request's Task is being made, by this thread.
    making: AtomicBool,
    thread: ThreadId,
    add: UnderGil<Py<PyAny>>,
}

impl Register {
    /// Puts it in its place.
    fn install(py: Python<'static>) -> PyResult<Bound<'static, Self>> {
        let tasks = py.import("asyncio.tasks")?.getattr("_all_tasks")?;
        let register = Self {
            making: AtomicBool::new(false),
            thread: std::thread::current().id(),
            add: UnderGil::new(tasks.getattr("add")?.unbind()),
        };
        let register = Bound::new(py, register)?;
        tasks.setattr("add", register.getattr("add")?)?;
        Ok(register)
    }

    fn enter(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.add.get(task.py()).call1(task.py(), (task,)).map(drop)
    }
}

#[pymethods]
impl Register {
    fn add(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        // Other threads may have loops of their own.
        if self.making.load(Ordering::Relaxed) && std::thread::current().id() == self.thread {
            return Ok(());
        }
        self.enter(task)
    }
}
