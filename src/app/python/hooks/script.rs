//! Runs Python configuration files (`gunicorn.conf.py`).
//!
//! Gunicorn: `Application.load_config_from_module_name_or_filename` (`gunicorn/app/base.py`).

use std::cell::Cell;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::super::traceback;
use super::{glue, values};
use crate::config::{self, Config, Evaluate, Evaluated, Place, Script};

/// Reads the files of one server.
#[derive(Debug)]
pub(crate) struct Scripts {
    /// The directory of the start: it is on the file's `sys.path`.
    directory: PathBuf,
}

impl Scripts {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }
}

impl Evaluate for Scripts {
    fn evaluate(&self, place: &Place) -> Result<Evaluated, String> {
        Python::attach(|py| {
            self.run(py, place).map_err(|error| {
                if error.is_instance_of::<PySystemExit>(py) {
                    return format!("it has left by sys.exit({})", said(py, &error));
                }
                traceback::text(py, &error)
            })
        })
    }
}

impl Scripts {
    fn run(&self, py: Python<'_>, place: &Place) -> PyResult<Evaluated> {
        let (file, module) = match place {
            Place::File(path) => (Some(path.as_path()), None),
            Place::Module(name) => (None, Some(name.as_str())),
        };
        super::watch_logging(py, config::LogLevel::Info)?;
        let file = file.map(|file| file.to_string_lossy().into_owned());
        let directory = self.directory.to_string_lossy();
        let place = (file, module, directory, glue::stand_in(py)?);
        let read = glue::server(py)?.call_method1("read", place);
        super::flush(py);
        let script = read?;
        let mut globals = Vec::new();
        for (name, value) in script.getattr("values")?.cast_into::<PyDict>()?.iter() {
            globals.push((name.extract()?, values::item(&value)?));
        }
        Ok(Evaluated {
            globals,
            notes: script.getattr("notes")?.extract()?,
            script: Script::new(Kept {
                script: script.unbind(),
                configured: Cell::new(false),
            }),
        })
    }
}

/// What `sys.exit` was given.
pub(super) fn said(py: Python<'_>, error: &PyErr) -> String {
    let code = error.value(py).getattr("code");
    code.and_then(|code| code.str())
        .map_or_else(|_| String::new(), |text| text.to_string())
}

/// What is kept of a file for as long as its configuration is in use.
struct Kept {
    script: Py<PyAny>,
    /// It has its `cfg`, which needs the whole configuration.
    configured: Cell<bool>,
}

/// The file that `config` comes from, if that is Python, with its `cfg`.
pub(super) fn of<'py>(py: Python<'py>, config: &Config) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(kept) = config.script.get::<Kept>() else {
        return Ok(None);
    };
    let script = kept.script.bind(py).clone();
    if !kept.configured.replace(true) {
        let table = |items: Vec<(&'static str, config::Item)>| {
            let table = PyDict::new(py);
            for (name, item) in items {
                table.set_item(name, values::object(py, &item)?)?;
            }
            Ok::<_, PyErr>(table)
        };
        let (ours, foreign) = (table(config.values())?, table(config::foreign_values())?);
        glue::server(py)?.call_method1("configure", (&script, ours, foreign))?;
    }
    Ok(Some(script))
}
