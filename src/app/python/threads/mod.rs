//! The `gthread` driver: each request in a thread of Python's, the runtime on the main thread.
//!
//! The main thread holds no GIL while it works: it has no business with Python but to let signal handlers of the app run.
//! What threads make of a request comes back as bytes; what belongs to Python goes to a thread to be freed.

mod board;
mod output;
mod pipe;
mod pool;
mod reply;
mod runner;
mod signals;

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use pyo3::prelude::*;
use tokio::runtime::LocalRuntime;

use self::board::Board;
use self::pool::Pool;
use self::reply::{Awaited, reply};
use self::runner::{Job, Task, Threads};
use self::signals::Wakeup;
use super::wsgi::{Input, PyBody, refused};
use super::{Interpreter, gil, load, object, shared, traceback};
use crate::app::{App, Body, BootError, Host, Line, Origin};
use crate::channel::{Interface, WorkerContext};
use crate::config::LogTarget;
use crate::error::{AnyError, Exit};

/// How often it is looked whether the threads have done their work, at the end.
const LOOK: Duration = Duration::from_millis(10);

/// What the main thread and the others share.
struct Shared {
    pool: Pool<Task>,
    board: Arc<Board>,
    /// This is a process that the app has forked.
    forked: AtomicBool,
    /// How many threads were ever started.
    started: AtomicUsize,
}

impl Shared {
    fn submit(&self, parts: Parts, origin: Origin, line: Line, input: Input) -> Awaited {
        let (reply, awaited) = reply(&self.board, line);
        let refused = self.pool.push(Task::Serve(Box::new(Job {
            parts,
            origin,
            input,
            reply,
        })));
        drop(refused);
        awaited
    }

    /// Ends a process that the app has forked and that comes back to us: the locks may be held by threads that it has not.
    fn end_if_forked(&self, py: Python<'_>) {
        if self.forked.load(Ordering::Relaxed) {
            // It does not return.
            let ended = py
                .import("os")
                .and_then(|os| os.call_method1("_exit", (0,)));
            drop(ended);
        }
    }
}

/// Hosts a WSGI app in threads.
pub(crate) struct ThreadsHost {
    python: Interpreter,
    shared: RefCell<Option<Arc<Shared>>>,
    /// What the threads need, until they are started.
    ready: RefCell<Option<(object::Ref, LogTarget)>>,
    wakeup: RefCell<Option<Wakeup>>,
}

impl std::fmt::Debug for ThreadsHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadsHost").finish_non_exhaustive()
    }
}

impl ThreadsHost {
    /// A host in this process's interpreter.
    pub(crate) fn new(interpreter: Interpreter) -> Self {
        Self {
            python: interpreter,
            shared: RefCell::default(),
            ready: RefCell::default(),
            wakeup: RefCell::default(),
        }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.borrow().clone()
    }

    fn start(&self) -> PyResult<Option<Arc<Shared>>> {
        let (Some(shared), Some((app, errorlog))) = (self.shared(), self.ready.take()) else {
            return Ok(None);
        };
        let py = app.py();
        self.wakeup.replace(Some(Wakeup::install(py)?));
        let caller = Arc::clone(&shared);
        shared::keep(move || caller.pool.nudge());
        Threads::start(py, Arc::clone(&shared), app.unbind(), errorlog)?;
        Ok(Some(shared))
    }
}

impl Host for ThreadsHost {
    type App = ThreadsApp;

    fn boot(&self, context: &WorkerContext) -> Result<(), BootError> {
        let config = &context.config;
        self.python.prepare(config)?;
        // Here and not in `load`, where the GIL is given away.
        let app = self.python.import_as(config, Interface::Wsgi)?;
        no_greenlets(app.py())?;
        let most = config.max_threads.max(config.threads);
        self.ready.replace(Some((app, config.errorlog.clone())));
        self.shared.replace(Some(Arc::new(Shared {
            pool: Pool::new(config.threads, most).told_in(context.row),
            board: Arc::default(),
            forked: AtomicBool::new(false),
            started: AtomicUsize::new(0),
        })));
        Ok(())
    }

    async fn load(&self, _: &WorkerContext) -> Result<ThreadsApp, BootError> {
        let (Some(shared), Some(wakeup)) = (self.shared(), self.wakeup.take()) else {
            return Err(BootError::Boot("the worker has not booted".into()));
        };
        tokio::task::spawn_local(Arc::clone(&shared.board).read());
        tokio::task::spawn_local(wakeup.watch());
        Ok(ThreadsApp(shared))
    }

    fn drive(
        &self,
        runtime: LocalRuntime,
        _: Option<RawFd>,
        main: impl Future<Output = Exit> + 'static,
    ) -> Exit {
        let shared = match self.start() {
            Ok(Some(shared)) => shared,
            Ok(None) => return Exit::Internal,
            Err(error) => {
                let text = traceback::text(self.python.token(), &error);
                tracing::error!("cannot start the threads\n{text}");
                return Exit::WorkerBoot;
            }
        };
        gil::release();
        let exit = runtime.block_on(main);
        // What waits for a thread has nobody who waits for it.
        drop(shared.pool.close());
        // A thread that still writes a body to a file is not waited for.
        runtime.shutdown_timeout(Duration::ZERO);
        gil::acquire();
        exit
    }

    fn moves_within(&self, time: Duration) -> bool {
        self.shared
            .borrow()
            .as_ref()
            .is_none_or(|shared| shared.pool.moves_within(time))
    }

    async fn quiet(&self) {
        let Some(shared) = self.shared() else { return };
        while !shared.pool.is_quiet() {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn code(&self) -> Vec<std::path::PathBuf> {
        self.python.code()
    }

    fn shutdown(&self) {
        self.python.shutdown();
    }
}

/// With `threading` patched by gevent the threads would be greenlets of the main thread, which never runs them.
fn no_greenlets(py: Python<'static>) -> Result<(), BootError> {
    let patched = || -> PyResult<bool> {
        let modules = py.import("sys")?.getattr("modules")?;
        let monkey = modules.call_method1("get", ("gevent.monkey",))?;
        if monkey.is_none() {
            return Ok(false);
        }
        monkey
            .call_method1("is_module_patched", ("threading",))?
            .is_truthy()
    };
    if patched().map_err(|error| load::boot(py, &error))? {
        return Err(BootError::Boot(
            "The application has patched threads by gevent: use --worker-class gevent.".into(),
        ));
    }
    Ok(())
}

/// A WSGI app under the `gthread` driver.
pub(crate) struct ThreadsApp(Arc<Shared>);

impl std::fmt::Debug for ThreadsApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadsApp").finish_non_exhaustive()
    }
}

impl App for ThreadsApp {
    type Body = PyBody;
    type Future = ThreadsCall;

    /// Without a connection: no early hints.
    fn call(&self, request: Request<Body>, origin: Origin) -> ThreadsCall {
        self.serve(request, origin, Line::default())
    }

    fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> ThreadsCall {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            let queued = self.0.submit(parts, origin, line, Input::Empty);
            return ThreadsCall(Stage::Queued(queued));
        }
        let shared = Arc::clone(&self.0);
        // All of it: a thread is too dear to wait for a client.
        ThreadsCall(Stage::Gathering(Box::pin(async move {
            match Input::gather(body).await {
                Ok(input) => delivered(shared.submit(parts, origin, line, input).await),
                Err(error) => refused(error),
            }
        })))
    }
}

type Outcome = Result<Response<PyBody>, AnyError>;

fn delivered(outcome: reply::Outcome) -> Outcome {
    outcome.map(|response| response.map(PyBody::from))
}

/// The answer to one request.
pub(crate) struct ThreadsCall(Stage);

enum Stage {
    /// The body is on its way.
    Gathering(Pin<Box<dyn Future<Output = Outcome>>>),
    /// A thread has it, or will.
    Queued(Awaited),
}

impl std::fmt::Debug for ThreadsCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.0 {
            Stage::Gathering(_) => "Gathering",
            Stage::Queued(_) => "Queued",
        };
        f.debug_tuple("ThreadsCall").field(&stage).finish()
    }
}

impl Future for ThreadsCall {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            Stage::Gathering(future) => future.as_mut().poll(cx),
            Stage::Queued(awaited) => Pin::new(awaited).poll(cx).map(delivered),
        }
    }
}
