//! Python apps: WSGI (PEP 3333), called on the worker's one thread.
//!
//! Two hosts differ in who waits: under [`SyncHost`] Tokio does, and the app runs inside its tasks; under [`GeventHost`]
//! gevent's hub does, and gives the runtime turns. Everything here runs in an interpreter that was there before us:
//! `pyentry` is loaded by it.
//!
//! The rules of the room: references stay on the worker's thread; no borrow of ours is held while the app's code can
//! run, for a greenlet may be switched, or a destructor come back to us.

mod gevent;
mod gil;
mod load;
mod object;
mod pace;
mod reply;
mod signals;
mod sync;
mod traceback;
mod wsgi;

use pyo3::prelude::*;

use self::wsgi::{Multithread, Wsgi};
use crate::app::BootError;
use crate::config::{AppPath, Config, WorkerClass};

pub use self::gevent::{GeventApp, GeventCall, GeventHost};
pub use self::gil::{ForkHooks, fork_hooks};
pub use self::sync::{SyncApp, SyncCall, SyncHost};
pub use self::wsgi::{AppFailed, PyBody};

/// The driver for a worker class: `auto` is gevent where that is installed.
#[must_use]
pub fn resolve(py: Python<'_>, class: WorkerClass) -> WorkerClass {
    let found = || -> PyResult<bool> {
        // Not `importlib.util`, which imports threading; and nothing of gevent itself: the master has no use for it.
        let finder = py.import("importlib.machinery")?.getattr("PathFinder")?;
        Ok(!finder.call_method1("find_spec", ("gevent",))?.is_none())
    };
    match class {
        WorkerClass::Auto if found().unwrap_or(false) => WorkerClass::Gevent,
        WorkerClass::Auto => WorkerClass::Sync,
        WorkerClass::Sync | WorkerClass::Gevent => class,
    }
}

/// The interpreter, as a host has it.
#[derive(Clone, Copy)]
struct Python3(Python<'static>);

impl std::fmt::Debug for Python3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Python3")
    }
}

impl Python3 {
    fn new(py: Python<'_>) -> Self {
        Self(object::token(py))
    }

    fn token(self) -> Python<'static> {
        self.0
    }

    fn extend_path(self, config: &Config) -> Result<(), BootError> {
        load::extend_path(self.0, config.pythonpath.iter().map(AsRef::as_ref))
    }

    fn load(self, config: &Config, multithread: Multithread) -> Result<Wsgi, BootError> {
        let Some(AppPath::Python { module, attribute }) = &config.wsgi_app else {
            return Err(BootError::Load("No application module specified.".into()));
        };
        let signals = signals::Taken::now();
        let app = load::app(self.0, module, attribute.as_deref())?;
        for signal in signals.since() {
            tracing::info!("The application handles {signal} itself.");
        }
        Wsgi::new(app, config, multithread).map_err(|error| load::boot(self.0, &error))
    }

    /// What the interpreter would do at its end; it is not ended itself, for that waits for daemon threads and greenlets.
    fn shutdown(self) {
        let py = self.0;
        let exit = || -> PyResult<()> {
            py.import("atexit")?.call_method0("_run_exitfuncs")?;
            let sys = py.import("sys")?;
            for name in ["stdout", "stderr"] {
                let stream = sys.getattr(name)?;
                if !stream.is_none() {
                    stream.call_method0("flush")?;
                }
            }
            Ok(())
        };
        if let Err(error) = exit() {
            tracing::error!("Error in an exit handler\n{}", traceback::text(py, &error));
        }
    }
}
