//! A request's Task, whose first step is done at once: an app that never waits is answered with no pass of the loop.
//!
//! It is a real `asyncio.Task` all the same. Python 3.12 has `eager_start` for that. Before, a Task hands its first step to
//! `loop.call_soon`, which is ours for just that moment; the step is then done in the Task's own context.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::app::python::object::{Context, Ref};

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
            } => {
                event_loop.setattr(name, call_soon)?;
                let task = self.task.call((coroutine,), Some(&self.keywords));
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
