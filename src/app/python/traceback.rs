//! Python exceptions as text for the error log.

use pyo3::prelude::*;

/// The whole traceback, as the interpreter would print it, without the last line end.
pub(super) fn text(py: Python<'_>, error: &PyErr) -> String {
    format(py, error).unwrap_or_else(|_| error.to_string())
}

fn format(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // All three: before Python 3.12 an exception that reaches us has not been given its traceback yet.
    let parts = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py
        .import("traceback")?
        .call_method1("format_exception", parts)?
        .extract::<Vec<String>>()?;
    Ok(lines.concat().trim_end().to_owned())
}

/// Only what is wrong: `TypeError: …`.
pub(super) fn line(py: Python<'_>, error: &PyErr) -> String {
    let lines = py
        .import("traceback")
        .and_then(|module| {
            module.call_method1(
                "format_exception_only",
                (error.get_type(py), error.value(py)),
            )
        })
        .and_then(|lines| lines.extract::<Vec<String>>());
    lines.map_or_else(
        |_| error.to_string(),
        |lines| lines.concat().trim_end().to_owned(),
    )
}
