//! The report of a worker that hangs: what `last_words` cannot know, the stacks of the interpreter.
//!
//! ABRT makes the interpreter call a handler of ours on the main thread as soon as code runs there, or a system call
//! returns that the signal has interrupted: it walks over all threads, greenlets and tasks. Where the interpreter does not come to
//! that, as a call holds it that never returns, `faulthandler` writes the stacks of the threads from outside; so it does
//! for a worker that crashes.

use std::ffi::CStr;

use nix::sys::signal::Signal;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyIterator};
use pyo3::{ffi, intern};

use super::{cstr, hooks, traceback};
use crate::last_words;

/// The part that is Python.
const GLUE: &CStr = cstr(concat!(
    include_str!("../../../python/rgun_async/_stacks.py"),
    "\0"
));

/// The name of our handler, by which it is known.
const NAME: &CStr = c"rgun_async_report";

/// Nobody sends it: a way to get at the handler that `faulthandler` makes.
const UNUSED: Signal = Signal::SIGTRAP;

/// In a worker, before the app is there: from now on ABRT is answered by a report.
///
/// # Errors
/// Where a module of the standard library is not as it should be.
pub(super) fn report_on_abort(py: Python<'static>) -> PyResult<()> {
    let faults = py.import("faulthandler")?;
    let options = PyDict::new(py);
    options.set_item("file", last_words::report())?;
    if !faults.call_method0("is_enabled")?.is_truthy()? {
        faults.call_method("enable", (), Some(&options))?;
    }
    faults.call_method("register", (number(UNUSED),), Some(&options))?;
    last_words::dump_by_handler_of(UNUSED)?;
    let stacks =
        PyModule::from_code(py, GLUE, c"rgun_async/_stacks.py", c"rgun_async._stacks")?;
    let stacks = stacks.unbind();
    let handler = PyCFunction::new_closure(py, Some(NAME), None, move |arguments, _| {
        let py = arguments.py();
        let interrupted = arguments.get_item(1)?;
        report(stacks.bind(py), &interrupted);
        PyResult::Ok(())
    })?;
    py.import("signal")?
        .call_method1("signal", (number(Signal::SIGABRT), handler))?;
    // Else an optimiser that sees the whole program knows what will be called, and the binary, which has no Python, needs it.
    last_words::ask_by(std::hint::black_box(ffi::PyErr_SetInterruptEx));
    Ok(last_words::take()?)
}

/// After the app was loaded: an app that has only switched `faulthandler` on, which takes ABRT on the way, did not mean that.
///
/// # Errors
/// Those of sigaction(2).
pub(super) fn keep(py: Python<'_>) -> PyResult<()> {
    let handler = py
        .import("signal")?
        .call_method1("getsignal", (number(Signal::SIGABRT),))?;
    let is_ours = handler
        .getattr_opt(intern!(py, "__name__"))?
        .is_some_and(|name| name.eq(NAME.to_str().unwrap_or_default()).unwrap_or(false));
    if is_ours {
        last_words::take()?;
    }
    Ok(())
}

/// Writes the report, and ends the process.
fn report(stacks: &Bound<'_, PyModule>, interrupted: &Bound<'_, PyAny>) {
    last_words::begin();
    if let Err(error) = write(stacks, interrupted) {
        let text = traceback::text(stacks.py(), &error);
        last_words::write(&format!("The stacks cannot be told: {text}\n"));
    }
    hooks::aborted(stacks.py());
    last_words::end()
}

fn write(stacks: &Bound<'_, PyModule>, interrupted: &Bound<'_, PyAny>) -> PyResult<()> {
    let pieces = stacks.call_method1("report", (interrupted,))?;
    for piece in PyIterator::from_object(&pieces)? {
        last_words::write(&piece?.extract::<String>()?);
    }
    Ok(())
}

fn number(signal: Signal) -> i32 {
    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a C-like enum is the number"
    )]
    let number = signal as i32;
    number
}
