//! The modules of Gunicorn's side that are Python.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyTuple};

use crate::config::HOOKS;
use crate::log::critical;

/// The module [`server`].
const NAME: &str = "rgun_async._gunicorn";

const SERVER: &str = concat!(
    include_str!("../../../../python/rgun_async/_gunicorn.py"),
    "\0"
);
const REQUESTS: &str = concat!(
    include_str!("../../../../python/rgun_async/_gunicorn_requests.py"),
    "\0"
);
const LOGS: &str = concat!(
    include_str!("../../../../python/rgun_async/_gunicorn_logs.py"),
    "\0"
);

const STAND_IN: &str = concat!(
    include_str!("../../../../python/rgun_async/_gunicorn_stand_in.py"),
    "\0"
);

/// [`server`], if it has been needed yet.
pub(super) fn loaded_server(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules"));
    modules.ok()?.get_item(NAME).ok()
}

/// The configuration file, and the objects that hooks get.
pub(super) fn server(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    module(py, NAME, SERVER, |module| {
        let py = module.py();
        let hooks = PyDict::new(py);
        for (name, arguments) in HOOKS {
            hooks.set_item(name, PyTuple::new(py, *arguments)?)?;
        }
        module.setattr("HOOKS", hooks)?;
        module.setattr("log", wrap_pyfunction!(log, module)?)
    })
}

/// The request hooks.
pub(super) fn requests(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    module(py, "rgun_async._gunicorn_requests", REQUESTS, |module| {
        module.setattr("gunicorn", server(module.py())?)
    })
}

/// The loggers.
pub(super) fn logs(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    module(py, "rgun_async._gunicorn_logs", LOGS, |module| {
        module.setattr("log", wrap_pyfunction!(log, module)?)
    })
}

/// What configuration files import of gunicorn.
pub(super) fn stand_in(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    module(py, "rgun_async._gunicorn_stand_in", STAND_IN, |_| Ok(()))
}

fn module<'py>(
    py: Python<'py>,
    name: &str,
    code: &'static str,
    connect: impl FnOnce(&Bound<'py, PyModule>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyModule>> {
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(module) = modules.get_item(name) {
        return Ok(module.cast_into()?);
    }
    let file = std::ffi::CString::new(format!("{}.py", name.replace('.', "/")))?;
    let called = std::ffi::CString::new(name)?;
    let code = CStr::from_bytes_with_nul(code.as_bytes())
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    let module = PyModule::from_code(py, code, &file, &called)?;
    connect(&module)?;
    modules.set_item(name, &module)?;
    Ok(module)
}

/// A line for the server's error log, of a level as Python's logging numbers them.
#[pyfunction]
fn log(level: u8, message: &str) {
    match level {
        50.. => critical!("{message}"),
        40..50 => tracing::error!("{message}"),
        30..40 => tracing::warn!("{message}"),
        20..30 => tracing::info!("{message}"),
        ..20 => tracing::debug!("{message}"),
    }
}
