//! `wsgi.errors`: what an app writes there goes to the error log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::app::python::object::Ref;
use crate::config::LogTarget;

/// Standard error itself where the log goes there; else a stream whose lines become lines of the log.
pub(in crate::app::python) fn stream(py: Python<'static>, log: &LogTarget) -> PyResult<Ref> {
    match log {
        LogTarget::Standard => py.import("sys")?.getattr("stderr"),
        LogTarget::File(_) => Ok(Bound::new(py, ErrorStream::default())?.into_any()),
    }
}

/// A text stream into the log, for any thread.
#[derive(Default)]
#[pyclass(frozen, module = "rgun_async._native")]
struct ErrorStream {
    /// An unfinished line.
    line: Mutex<String>,
}

#[pymethods]
impl ErrorStream {
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        let text = text.to_cow()?;
        let whole = {
            let mut line = self.line();
            line.push_str(&text);
            let Some(end) = line.rfind('\n') else {
                return Ok(text.chars().count());
            };
            let rest = line.split_off(end + 1);
            std::mem::replace(&mut *line, rest)
        };
        log(&whole);
        Ok(text.chars().count())
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast()?)?;
        }
        Ok(())
    }

    fn flush(&self) {
        let line = std::mem::take(&mut *self.line());
        log(&line);
    }
}

impl ErrorStream {
    /// Not held while Python code can run.
    fn line(&self) -> MutexGuard<'_, String> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(text: &str) {
    let text = text.trim_end_matches('\n');
    if !text.is_empty() {
        tracing::error!("{text}");
    }
}
