//! Gunicorn's configuration file in Python, and its server hooks.
//!
//! The file's functions are called with objects that have the attributes of Gunicorn's arbiter, workers and requests; those
//! are Python, in `python/rgun_async/_gunicorn*.py`. What is here brings them what they are told. Each call takes the GIL
//! anew: a worker's driver may have its runtime on a thread that does not hold it.

mod glue;
mod script;
mod values;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyList, PyTuple};

pub(crate) use self::script::Scripts;

use super::object::Ref;
use super::{gil, traceback};
use crate::channel::Interface;
use crate::config::{Config, LogLevel};
use crate::error::Exit;
use crate::hooks::{Failed, Hooks, Outcome, Server, Worker};

/// The hooks of the Python configuration file that a configuration comes from; none where it comes from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PythonHooks;

impl PythonHooks {
    /// Brings the server object up to date and calls `function` of the glue with the file and `more`.
    fn server(
        server: &Server<'_>,
        function: &str,
        more: impl for<'py> FnOnce(Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>>,
    ) -> Outcome {
        call(server.config, |py, script| {
            let glue = glue::server(py)?;
            let listeners = PyList::new(py, &server.listeners)?;
            let pid = std::process::id();
            glue.call_method1(
                "update",
                (
                    script,
                    pid,
                    server.workers_wanted,
                    server.worker_age,
                    listeners,
                ),
            )?;
            let mut arguments = vec![script.clone()];
            arguments.append(&mut more(py)?);
            glue.call_method1(function, PyTuple::new(py, arguments)?)?;
            Ok(())
        })
    }

    /// Calls a hook whose only argument is the server.
    fn plain(server: &Server<'_>, hook: &'static str) -> Outcome {
        Self::server(server, "server_hook", |py| Ok(vec![text(py, hook)]))
    }

    /// Calls a hook of the worker that this process is.
    fn worker(config: &Config, function: &str) -> Outcome {
        call(config, |py, script| {
            glue::server(py)?.call_method1(function, (script,))?;
            Ok(())
        })
    }
}

impl Hooks for PythonHooks {
    fn on_starting(&self, server: &Server<'_>) -> Outcome {
        Self::plain(server, "on_starting")
    }

    fn nworkers_changed(&self, server: &Server<'_>, new: usize, old: Option<usize>) -> Outcome {
        Self::server(server, "server_hook", |py| {
            Ok(vec![
                text(py, "nworkers_changed"),
                new.into_pyobject(py)?.into_any(),
                old.into_pyobject(py)?.into_any(),
            ])
        })
    }

    fn when_ready(&self, server: &Server<'_>) -> Outcome {
        Self::plain(server, "when_ready")
    }

    fn on_reload(&self, server: &Server<'_>) -> Outcome {
        Self::plain(server, "on_reload")
    }

    fn pre_fork(&self, server: &Server<'_>, worker: &Worker) -> Outcome {
        Self::server(server, "pre_fork", |py| {
            Ok(vec![
                worker.age.into_pyobject(py)?.into_any(),
                worker.heartbeat.into_pyobject(py)?.into_any(),
            ])
        })
    }

    fn forked(&self, worker: &Worker, config: &Config) {
        let told = call(config, |py, _| {
            glue::server(py)?.call_method1("forked", (worker.age, worker.pid))?;
            Ok(())
        });
        if let Err(failed) = told {
            tracing::error!("{failed}");
        }
    }

    fn post_fork(&self, worker: &Worker, config: &Config) -> Outcome {
        call(config, |py, script| {
            let row = worker.row;
            let requests =
                PyCFunction::new_closure(py, None, None, move |_, _| row.requests())?;
            let heartbeat = worker.heartbeat;
            glue::server(py)?
                .call_method1("post_fork", (script, worker.age, heartbeat, requests))?;
            Ok(())
        })
    }

    fn post_worker_init(&self, _: &Worker, config: &Config) -> Outcome {
        call(config, |py, script| {
            let glue = glue::server(py)?;
            // An app that was not loaded here, or before the fork.
            glue.call_method1("initialise", (script,))?;
            glue.call_method0("booted")?;
            Ok(())
        })
    }

    fn worker_int(&self, _: &Worker, config: &Config) -> Outcome {
        Self::worker(config, "worker_int")
    }

    fn worker_exit(&self, _: &Worker, config: &Config) -> Outcome {
        Self::worker(config, "worker_exit")
    }

    fn child_exit(&self, server: &Server<'_>, worker: &Worker) -> Outcome {
        Self::server(server, "child_exit", |py| {
            Ok(vec![
                worker.age.into_pyobject(py)?.into_any(),
                worker.pid.into_pyobject(py)?.into_any(),
            ])
        })
    }

    fn pre_exec(&self, server: &Server<'_>) -> Outcome {
        Self::plain(server, "pre_exec")
    }

    fn on_exit(&self, server: &Server<'_>) -> Outcome {
        Self::plain(server, "on_exit")
    }
}

/// Does `work` with the file that `config` comes from; nothing where that is not Python.
fn call(
    config: &Config,
    work: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> Outcome {
    gil::held(|py| {
        let worked = script::of(py, config).and_then(|script| match script {
            Some(script) => {
                let worked = work(py, &script);
                flush(py);
                worked
            }
            None => Ok(()),
        });
        worked.map_err(|error| failed(py, &error))
    })
}

/// What was printed goes out: left where it is, each process that is forked would print it, too.
fn flush(py: Python<'_>) {
    for stream in ["stdout", "stderr"] {
        let flushed = py
            .import("sys")
            .and_then(|sys| sys.getattr(stream)?.call_method0("flush"));
        // A stream that is closed has nothing.
        drop(flushed);
    }
}

/// `sys.exit` is a way to end the process, everything else a fault.
fn failed(py: Python<'_>, error: &PyErr) -> Failed {
    if !error.is_instance_of::<PySystemExit>(py) {
        return Failed {
            message: traceback::text(py, error),
            exit: None,
        };
    }
    let code = error.value(py).getattr("code");
    let number = code
        .as_ref()
        .map(pyo3::types::PyAnyMethods::extract::<Option<i32>>);
    match number {
        Ok(Ok(number)) => Failed {
            message: String::new(),
            exit: Some(Exit::from_code(number.unwrap_or(0)).unwrap_or(Exit::Config)),
        },
        // `sys.exit("why")`.
        Ok(Err(_)) | Err(_) => Failed {
            message: script::said(py, error),
            exit: Some(Exit::Config),
        },
    }
}

fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyAny> {
    pyo3::types::PyString::new(py, text).into_any()
}

/// Before the app is imported: Gunicorn's loggers, and the logging that `config` asks for.
///
/// # Errors
/// The logging cannot be configured.
pub(super) fn before_import(py: Python<'_>, config: &Config) -> PyResult<()> {
    watch_logging(py, config.loglevel)?;
    let script = script::of(py, config)?;
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    let (json, ini) = (path(&config.logconfig_json), path(&config.logconfig));
    if script.is_some() || json.is_some() || ini.is_some() {
        glue::logs(py)?.call_method1("logconfig", (script, json, ini))?;
    }
    Ok(())
}

/// When the app is there: what serves requests in its place.
///
/// # Errors
/// `post_worker_init` failed.
pub(super) fn after_import(
    py: Python<'static>,
    config: &Config,
    app: Ref,
    interface: Interface,
) -> PyResult<Ref> {
    let Some(script) = script::of(py, config)? else {
        return Ok(app);
    };
    let asgi = interface == Interface::Asgi;
    let glue = glue::server(py)?;
    let wrapped = glue.call_method1("wrap", (&script, app, asgi, glue::requests(py)?))?;
    glue.call_method1("initialise", (script,))?;
    Ok(wrapped)
}

/// The worker is about to end for its silence: `worker_abort`, then `worker_exit`, if there are any.
pub(super) fn aborted(py: Python<'_>) {
    let told = match glue::loaded_server(py) {
        Some(glue) => glue.call_method0("abort").map(drop),
        None => Ok(()),
    };
    if let Err(error) = told
        && !error.is_instance_of::<PySystemExit>(py)
    {
        tracing::error!(
            "Exception in worker process\n{}",
            traceback::text(py, &error)
        );
    }
}

/// Gunicorn's loggers get their handlers as soon as there is a `logging` module.
fn watch_logging(py: Python<'_>, level: LogLevel) -> PyResult<()> {
    let level = match level {
        LogLevel::Debug => 10,
        LogLevel::Info => 20,
        LogLevel::Warning => 30,
        LogLevel::Error => 40,
        LogLevel::Critical => 50,
    };
    glue::logs(py)?.call_method1("loggers", (level,))?;
    Ok(())
}
