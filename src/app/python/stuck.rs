//! The report of a worker that hangs: what `last_words` cannot know, the stacks of the interpreter.
//!
//! ABRT makes the interpreter call a handler of ours on the main thread as soon as code runs there, or a system call
//! returns that the signal has interrupted: it walks over all threads, greenlets and tasks. Where the interpreter does not come to
//! that, as a call holds it that never returns, `faulthandler` writes the stacks of the threads from outside; so it does
//! for a worker that crashes.

use std::ffi::CStr;

use nix::sys::signal::Signal;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyIterator, PyList};
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
    let callers = callers(py)?.unbind();
    let handler = PyCFunction::new_closure(py, Some(NAME), None, move |arguments, _| {
        let interrupted = arguments.get_item(1)?;
        report(&interrupted, callers.bind(arguments.py()));
        PyResult::Ok(())
    })?;
    py.import("_signal")?
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
        .import("_signal")?
        .call_method1("getsignal", (number(Signal::SIGABRT),))?;
    let is_ours = handler
        .getattr_opt(intern!(py, "__name__"))?
        .is_some_and(|name| name.eq(NAME.to_str().unwrap_or_default()).unwrap_or(false));
    if is_ours {
        last_words::take()?;
    }
    Ok(())
}

/// The frames below this call: of who called the server.
fn callers(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let callers = PyList::empty(py);
    let mut frame = py.import("sys")?.call_method0("_getframe")?;
    while !frame.is_none() {
        callers.append(&frame)?;
        frame = frame.getattr("f_back")?;
    }
    Ok(callers)
}

/// Writes the report, and ends the process.
fn report(interrupted: &Bound<'_, PyAny>, callers: &Bound<'_, PyList>) {
    let py = interrupted.py();
    last_words::begin();
    if let Err(error) = write(interrupted, callers) {
        let text = traceback::text(py, &error);
        last_words::write(&format!("The stacks cannot be told: {text}\n"));
        last_words::dump();
    }
    hooks::aborted(py);
    last_words::end()
}

fn write(interrupted: &Bound<'_, PyAny>, callers: &Bound<'_, PyList>) -> PyResult<()> {
    let py = interrupted.py();
    // Not before there is a need: it is compiled here.
    let file = c"rgun_async/_stacks.py";
    let stacks = PyModule::from_code(py, GLUE, file, c"rgun_async._stacks")?;
    let pieces = stacks.call_method1("report", (interrupted, callers))?;
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
