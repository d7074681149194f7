//! Python apps: WSGI (PEP 3333).
//!
//! The hosts differ in who waits: under [`SyncHost`] Tokio does, and the app runs inside its tasks; under [`GeventHost`]
//! gevent's hub does, and gives the runtime turns; under [`ThreadsHost`] Tokio does, and the app runs in threads beside it.
//! Everything here runs in an interpreter that was there before us:
//! `pyentry` is loaded by it.
//!
//! The rules of the room: references stay on their thread, or travel as `shared` says; no borrow of ours is held while the app's code can
//! run, for a greenlet may be switched, or a destructor come back to us.

mod asgi;
mod awaitable;
mod counted;
mod gevent;
mod gil;
mod hooks;
mod interface;
mod last;
mod load;
mod named;
mod names;
mod object;
mod pace;
mod preload;
mod reply;
mod services;
mod shared;
mod signals;
mod stuck;
mod sync;
mod texts;
mod threads;
mod traceback;
mod woken;
mod wsgi;

use std::cell::OnceCell;

use pyo3::prelude::*;

use self::preload::Preloaded;
use self::wsgi::{Multithread, Wsgi};
use crate::app::BootError;
use crate::channel::Interface;
use crate::config::{AppPath, Config, WorkerClass};

pub(crate) use self::asgi::AsgiHost;
pub(crate) use self::gevent::GeventHost;
pub(crate) use self::gil::ForkHooks;
pub(crate) use self::hooks::{PythonHooks, Scripts};
pub(crate) use self::sync::SyncHost;
pub(crate) use self::threads::ThreadsHost;

/// The interpreter that this process is.
///
/// Whoever has one is on the thread that holds the GIL: it is made once, from the token that `main` of the extension module
/// gets, and cannot be sent.
#[derive(Clone, Copy)]
pub(crate) struct Interpreter(
    Python<'static>,
    &'static OnceCell<Preloaded>,
    Option<Interface>,
);

/// A file of ours in Python, which ends with a NUL, as the interpreter wants it.
const fn cstr(text: &str) -> &std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the glue has a NUL in it"),
    }
}

impl std::fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interpreter")
    }
}

impl Interpreter {
    /// For the time of the call that `py` comes from, in which the process spends its life.
    ///
    /// `told` is what an earlier start of this process has found the app to be.
    pub(crate) fn new(py: Python<'_>, told: Option<Interface>) -> Self {
        // Once in the life of the process.
        Self(object::token(py), Box::leak(Box::default()), told)
    }

    /// What a fork needs around it.
    #[expect(clippy::unused_self, reason = "there has to be an interpreter")]
    pub(crate) fn fork_hooks(self) -> ForkHooks {
        gil::FORK_HOOKS
    }

    /// The driver for the app: what `--worker-class` says, or by what the app is, seen or guessed.
    ///
    /// Gunicorn: more than one of `--threads` makes gthread of sync.
    pub(crate) fn resolve(self, config: &Config, seen: Option<Interface>) -> WorkerClass {
        let threads = config.threads.max(config.max_threads) > 1;
        match config.worker_class {
            WorkerClass::Sync if threads => WorkerClass::Gthread,
            WorkerClass::Auto => match seen
                .or_else(|| self.preloaded_interface(config))
                .or_else(|| self.guess(config))
            {
                Some(Interface::Asgi) => WorkerClass::Asgi,
                Some(Interface::Wsgi) | None if threads => WorkerClass::Gthread,
                Some(Interface::Wsgi) | None if self.finds("gevent").unwrap_or(false) => {
                    WorkerClass::Gevent
                }
                Some(Interface::Wsgi) | None => WorkerClass::Sync,
            },
            class @ (WorkerClass::Sync
            | WorkerClass::Gevent
            | WorkerClass::Gthread
            | WorkerClass::Asgi) => class,
        }
    }

    fn guess(self, config: &Config) -> Option<Interface> {
        let Some(AppPath::Python { module, attribute }) = &config.wsgi_app else {
            return None;
        };
        let mut directories = vec![config.chdir.clone().unwrap_or_default()];
        directories.extend(config.pythonpath.iter().cloned());
        let path = self.0.import("sys").and_then(|sys| sys.getattr("path"));
        directories.extend(
            path.and_then(|path| path.extract::<Vec<std::path::PathBuf>>())
                .unwrap_or_default(),
        );
        interface::guess(module, attribute.as_deref(), &directories)
    }

    /// Loads the app as a worker would, for `--check-config`.
    ///
    /// # Errors
    /// What a worker would fail of.
    pub(crate) fn check(self, config: &Config) -> Result<(), BootError> {
        self.paths(config)?;
        if self.resolve(config, None) == WorkerClass::Gevent {
            gevent::patch(self.0)?;
        }
        let app = self.import(config)?;
        let seen = interface::of(&app).map_err(|error| load::boot(self.0, &error))?;
        let names = services::named(config);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        match (names.first(), self.resolve(config, seen)) {
            (None, _) => Ok(()),
            (Some(_), WorkerClass::Asgi) => services::check(self.0, &names, "Streams"),
            (Some(_), WorkerClass::Gevent) => services::check(self.0, &names, "Sockets"),
            (Some(name), WorkerClass::Sync | WorkerClass::Gthread | WorkerClass::Auto) => {
                Err(BootError::no_service(name))
            }
        }
    }

    /// Whether Python could import `package`.
    fn finds(self, package: &str) -> PyResult<bool> {
        // Not `importlib.util`, which imports threading; and nothing of gevent itself: the master has no use for it.
        let finder = self
            .0
            .import("importlib.machinery")?
            .getattr("PathFinder")?;
        Ok(!finder.call_method1("find_spec", (package,))?.is_none())
    }

    fn token(self) -> Python<'static> {
        self.0
    }

    /// In a worker, before anything of the app's is imported.
    fn prepare(self, config: &Config) -> Result<(), BootError> {
        self.after_fork()
            .and_then(|()| stuck::report_on_abort(self.0))
            .map_err(|error| load::boot(self.0, &error))?;
        if let Some(directory) = &config.tmp_upload_dir {
            wsgi::keep_in(directory);
        }
        self.paths(config)
    }

    fn paths(self, config: &Config) -> Result<(), BootError> {
        load::sync_environment(self.0)?;
        load::extend_path(self.0, config.pythonpath.iter().map(AsRef::as_ref))
    }

    /// The app, for a driver of WSGI apps.
    fn load(self, config: &Config, multithread: Multithread) -> Result<Wsgi, BootError> {
        let app = self.import_as(config, Interface::Wsgi)?;
        Wsgi::new(app, &config.errorlog, multithread)
            .map_err(|error| load::boot(self.0, &error))
    }

    /// The app, where it is of this kind, or its kind cannot be seen.
    ///
    /// # Errors
    /// As [`import`](Self::import); [`BootError::Is`] for another kind where the worker class was left open.
    fn import_as(self, config: &Config, wanted: Interface) -> Result<object::Ref, BootError> {
        let app = self.import(config)?;
        let is = interface::of(&app).map_err(|error| load::boot(self.0, &error))?;
        match is {
            Some(is) if is != wanted && config.worker_class == WorkerClass::Auto => {
                Err(BootError::Is(is))
            }
            Some(Interface::Asgi) if wanted == Interface::Wsgi => Err(BootError::Load(
                "The application is an ASGI app: use --worker-class asgi or auto.".into(),
            )),
            Some(Interface::Wsgi) if wanted == Interface::Asgi => Err(BootError::Load(
                "The application is a WSGI app: use --worker-class gevent, gthread, sync or auto."
                    .into(),
            )),
            Some(_) | None => hooks::after_import(self.0, config, app, wanted)
                .map_err(|error| load::boot(self.0, &error)),
        }
    }

    /// Imports the app.
    ///
    /// # Errors
    /// It cannot be imported, or is not there.
    fn import(self, config: &Config) -> Result<object::Ref, BootError> {
        let Some(AppPath::Python { module, attribute }) = &config.wsgi_app else {
            return Err(BootError::Load("No application module specified.".into()));
        };
        if let Some(preloaded) = self.preloaded(config) {
            return Ok(preloaded.app.clone());
        }
        hooks::before_import(self.0, config).map_err(|error| load::boot(self.0, &error))?;
        let signals = signals::Taken::now();
        let app = load::app(self.0, module, attribute.as_deref())?;
        stuck::keep(self.0).map_err(|error| load::boot(self.0, &error))?;
        for signal in signals.since() {
            if self.is_preloading(config) {
                tracing::warn!(
                    "The application has set a handler for {signal}: the server's own replaces it, since it was preloaded."
                );
            } else {
                tracing::info!("The application has a handler of its own for {signal}.");
            }
        }
        Ok(app)
    }

    /// The files of all modules that are loaded.
    #[expect(clippy::unused_self, reason = "there has to be an interpreter")]
    pub(crate) fn code(self) -> Vec<std::path::PathBuf> {
        // The main thread of a worker does not always hold the GIL.
        Python::attach(|py| load::files(py).unwrap_or_default())
    }

    /// What the interpreter would do at its end; it is not ended itself, for that waits for daemon threads and greenlets.
    pub(crate) fn shutdown(self) {
        if let Err(error) = self.run_exit_handlers() {
            tracing::error!(
                "Error in an exit handler\n{}",
                traceback::text(self.0, &error)
            );
        }
    }

    fn run_exit_handlers(self) -> PyResult<()> {
        self.0.import("atexit")?.call_method0("_run_exitfuncs")?;
        let sys = self.0.import("sys")?;
        for name in ["stdout", "stderr"] {
            let stream = sys.getattr(name)?;
            if !stream.is_none() {
                stream.call_method0("flush")?;
            }
        }
        Ok(())
    }
}
