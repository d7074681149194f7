//! The way in from an interpreter: the extension module `rgun_async._native`. The master and its workers are that
//! interpreter, forked.

use std::ffi::OsString;
use std::io::Write;
use std::rc::Rc;

use pyo3::prelude::*;

use crate::app::BootError;
use crate::app::builtin::Builtin;
use crate::app::python::{
    AsgiHost, GeventHost, Interpreter, PythonHooks, Scripts, SyncHost, ThreadsHost,
};
use crate::channel::WorkerContext;
use crate::cli::Sources;
use crate::config::{AppPath, Config, WorkerClass};
use crate::entry::{PROGRAM, builtin_parts, leave_on_term, subcommand};
use crate::error::Exit;
use crate::os::fork::{Hooks, exit_now, threads};
use crate::server::{self, NotPreloaded, Parts};
use crate::worker;

#[pymodule]
mod _native {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "a Python name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Serves what the command line `argv` says, and returns the exit code. `command` starts this program again.
    #[pyfunction]
    fn main(py: Python<'_>, argv: Vec<OsString>, command: Vec<OsString>) -> PyResult<u8> {
        super::main(py, argv, command)
    }
}

fn main(py: Python<'_>, argv: Vec<OsString>, command: Vec<OsString>) -> PyResult<u8> {
    leave_on_term();
    // Python's own handler raises KeyboardInterrupt wherever the worker is.
    // The module without the enums: they take longer to import than all the rest of the master.
    let signal = py.import("_signal")?;
    signal.call_method1(
        "signal",
        (signal.getattr("SIGINT")?, signal.getattr("SIG_DFL")?),
    )?;
    let told = server::told();
    let argv: Vec<String> = argv
        .into_iter()
        .map(|text| text.to_string_lossy().into_owned())
        .collect();
    let sources = Sources::of_process()?;
    let sources = Sources {
        argv,
        python: Some(Rc::new(Scripts::new(&sources.cwd))),
        ..sources
    };
    if let Some(exit) = subcommand(&PROGRAM, &sources) {
        return Ok(exit.code());
    }
    let interpreter = Interpreter::new(py, told);
    let exit = server::run(PROGRAM, sources, |config| {
        parts(interpreter, config, command)
    });
    if threads() > 1 {
        // The interpreter's own end waits for threads that were started in the master, for ever if need be.
        interpreter.shutdown();
        exit_now(exit.code());
    }
    Ok(exit.code())
}

fn parts(
    interpreter: Interpreter,
    config: &Config,
    command: Vec<OsString>,
) -> Result<Parts, Exit> {
    let hooks = interpreter.fork_hooks();
    let hooks = Hooks {
        before: hooks.before,
        parent: hooks.parent,
        child: hooks.child,
        pause: hooks.pause,
        resume: hooks.resume,
        threads: true,
    };
    if let Some(AppPath::Builtin(name)) = &config.wsgi_app {
        return Ok(Parts {
            hooks,
            server_hooks: Rc::new(PythonHooks),
            ..builtin_parts(name, command)?
        });
    }
    Ok(Parts {
        kind: interpreter.resolve(config, None).to_string(),
        worker_main: Box::new(move |context| work(interpreter, context)),
        check: Box::new(move |config| check(interpreter, config)),
        hooks,
        server_hooks: Rc::new(PythonHooks),
        preload: Some(Box::new(move |config| preload(interpreter, config))),
        command,
    })
}

/// A worker's life. A reload may have changed what it serves, and how.
fn work(interpreter: Interpreter, context: WorkerContext) -> Exit {
    let config = Rc::clone(&context.config);
    if let Some(AppPath::Builtin(name)) = &config.wsgi_app {
        return match Builtin::named(name) {
            Some(host) => worker::run(context, host),
            None => Exit::AppLoad,
        };
    }
    match interpreter.resolve(&config, context.interface) {
        WorkerClass::Asgi => worker::run(context, AsgiHost::new(interpreter)),
        WorkerClass::Gthread => worker::run(context, ThreadsHost::new(interpreter)),
        WorkerClass::Gevent => worker::run(context, GeventHost::new(interpreter)),
        WorkerClass::Sync | WorkerClass::Auto => {
            worker::run(context, SyncHost::new(interpreter))
        }
    }
}

fn preload(interpreter: Interpreter, config: &Config) -> Result<(), NotPreloaded> {
    interpreter.preload(config).map_err(|error| match error {
        BootError::Is(interface) => NotPreloaded::Is(interface),
        error @ (BootError::Boot(_) | BootError::Load(_)) => {
            tracing::error!("{error}");
            NotPreloaded::Failed(error.exit())
        }
    })
}

fn check(interpreter: Interpreter, config: &Config) -> Exit {
    match interpreter.check(config) {
        Ok(()) => Exit::Done,
        Err(error) => {
            // Nobody is left to tell where standard error is gone.
            let _ = writeln!(std::io::stderr(), "Error: {error}");
            error.exit()
        }
    }
}
