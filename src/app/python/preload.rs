//! `--preload`: the app is imported in the master, and the workers are forked with it: what it holds is in memory once, as
//! long as nobody writes to it.
//!
//! Gunicorn: `preload_app`. What is new: objects are frozen (`gc.freeze`), so that a worker's garbage collector does not
//! write to each of them, and threads that do not outlive the fork are named.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::object::Ref;
use super::{Interpreter, gevent, interface, load};
use crate::app::BootError;
use crate::channel::Interface;
use crate::config::{AppPath, Config, WorkerClass};

/// An app that was imported before the fork.
pub(super) struct Preloaded {
    path: AppPath,
    pub(super) app: Ref,
    interface: Option<Interface>,
}

impl Interpreter {
    /// Imports the app here, for every process that will be forked from this one.
    ///
    /// # Errors
    /// What a worker would fail of; [`BootError::Is`] where this process is ready for apps of another kind, and has to be
    /// started anew.
    pub(crate) fn preload(self, config: &Config) -> Result<(), BootError> {
        let Some(path) = config.wsgi_app.clone() else {
            return Ok(());
        };
        self.paths(config)?;
        let class = self.resolve(config, None);
        if class == WorkerClass::Gevent {
            gevent::patch(self.0)?;
        }
        let wanted = if class == WorkerClass::Asgi {
            Interface::Asgi
        } else {
            Interface::Wsgi
        };
        let app = self
            .import_as(config, wanted)
            .map_err(|error| match error {
                // What was imported for one kind of worker cannot serve in the other, and a second start has not helped.
                BootError::Is(interface) if self.2.is_some() => BootError::Load(format!(
                    "The app is {interface} now, and was not before: use --worker-class."
                )),
                error @ (BootError::Boot(_) | BootError::Load(_) | BootError::Is(_)) => {
                    in_the_master(error)
                }
            })?;
        let interface = interface::of(&app).map_err(|error| load::boot(self.0, &error))?;
        freeze(self.0).map_err(|error| load::boot(self.0, &error))?;
        warn_of_threads(self.0);
        // Set once: there is one master, and it preloads once.
        let _ = self.1.set(Preloaded {
            path,
            app,
            interface,
        });
        Ok(())
    }

    /// What was imported before the fork, if that is what `config` names: a reload may have brought another app.
    pub(super) fn preloaded(self, config: &Config) -> Option<&'static Preloaded> {
        self.1
            .get()
            .filter(|preloaded| config.wsgi_app.as_ref() == Some(&preloaded.path))
    }

    /// Whether this is the master, on its way to have the app.
    pub(super) fn is_preloading(self, config: &Config) -> bool {
        config.preload_app && !config.reload && self.1.get().is_none()
    }

    pub(super) fn preloaded_interface(self, config: &Config) -> Option<Interface> {
        match self.1.get() {
            Some(_) => self.preloaded(config)?.interface,
            // On the way there.
            None => self.2,
        }
    }

    /// In a worker: what an app's modules have to be told after a fork, and do not see to themselves.
    pub(super) fn after_fork(self) -> PyResult<()> {
        if self.1.get().is_none() {
            return Ok(());
        }
        let modules = self.0.import("sys")?.getattr("modules")?;
        if let Ok(gevent) = modules.get_item("gevent") {
            // Its hub, where there is one, has an epoll that the master and all workers would share.
            gevent.call_method0("reinit")?;
        }
        Ok(())
    }
}

/// The same failure, told by the master.
fn in_the_master(error: BootError) -> BootError {
    match error {
        BootError::Boot(text) => BootError::Boot(text.replacen(
            "Exception in worker process",
            "Exception while the app was preloaded",
            1,
        )),
        error @ (BootError::Load(_) | BootError::Is(_)) => error,
    }
}

/// What is garbage goes, the rest is not looked at again.
fn freeze(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    Ok(())
}

/// A fork takes the calling thread alone.
fn warn_of_threads(py: Python<'static>) {
    let named = names(py).unwrap_or_default();
    let main = i64::from(std::process::id());
    let threads: Vec<String> = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|thread| *thread != main)
        .map(|thread| named.get(&thread).cloned().unwrap_or_else(|| comm(thread)))
        .collect();
    if !threads.is_empty() {
        tracing::warn!(
            "{} {} started while the app was preloaded; no worker will have {}: {}",
            threads.len(),
            if threads.len() == 1 {
                "thread was"
            } else {
                "threads were"
            },
            if threads.len() == 1 { "it" } else { "them" },
            threads.join(", ")
        );
    }
}

/// Python's threads by their number in the kernel.
fn names(py: Python<'static>) -> PyResult<HashMap<i64, String>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let Ok(threading) = modules.get_item("threading") else {
        return Ok(HashMap::new());
    };
    let active = threading.getattr("_active")?.cast_into::<PyDict>()?;
    let mut names = HashMap::new();
    for thread in active.values() {
        if let Some(number) = thread.getattr("native_id")?.extract::<Option<i64>>()? {
            names.insert(number, thread.getattr("name")?.extract()?);
        }
    }
    Ok(names)
}

/// A thread that Python knows nothing of, by the kernel's name.
fn comm(thread: i64) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
    format!("{} (not Python's)", name.unwrap_or_default().trim())
}
