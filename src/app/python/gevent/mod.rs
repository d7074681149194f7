//! The `gevent` driver: gevent's hub waits, on Tokio's epoll descriptor among others, and gives the runtime a turn when
//! that has something; requests run in greenlets between the turns. All on the worker's one thread.
//!
//! A greenlet that is switched out has its part of the C stack copied away, so nothing that lives on a stack may be
//! reached from elsewhere: what turns and greenlets share is on the heap.

mod board;
mod hub;
mod input;
mod output;
mod pipe;
mod turns;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use http::request::Parts;
use http_body::Body as _;
use pyo3::prelude::*;
use tokio::runtime::LocalRuntime;

use self::board::Board;
use self::hub::Hub;
use self::output::Output;
use self::turns::Turns;
use super::counted::counted;
use super::named::Named;
use super::reply::{Awaited, Outcome, Reply, reply};
use super::services::{Services, Wake};
use super::wsgi::{Answer, Given, Input, Multithread, Outlet, PyBody, Wsgi, failed, refused};
use super::{Interpreter, cstr, load};
use crate::app::tcp::StreamApp;
use crate::app::{App, Bell, Body, BootError, Host, Line, Origin};
use crate::channel::WorkerContext;
use crate::error::{AnyError, Exit};

/// The part of the driver that has to be Python: hub watchers and greenlet switches.
const GLUE: &std::ffi::CStr = cstr(concat!(
    include_str!("../../../../python/rgun_async/_gevent.py"),
    "\0"
));

/// A body that declares no more than this is here before the app is called; a longer one is read as it comes.
const GATHERED: u64 = 64 * 1024;

/// Hosts a WSGI app under gevent.
pub(crate) struct GeventHost {
    python: Interpreter,
    board: Rc<Board>,
    /// What the worker does before it waits.
    idle: RefCell<Option<Box<dyn Fn() + Send + Sync>>>,
    app: RefCell<Option<Rc<Inner>>>,
    services: Services,
    write_timeout: Cell<Duration>,
}

impl std::fmt::Debug for GeventHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeventHost").finish_non_exhaustive()
    }
}

impl GeventHost {
    /// A host in this process's interpreter.
    pub(crate) fn new(interpreter: Interpreter) -> Self {
        Self {
            python: interpreter,
            board: Rc::default(),
            idle: RefCell::default(),
            app: RefCell::default(),
            services: Services::default(),
            write_timeout: Cell::default(),
        }
    }
}

impl Host for GeventHost {
    type App = GeventApp;
    const TOKIO_TIME: bool = false;

    fn boot(&self, context: &WorkerContext) -> Result<(), BootError> {
        self.python.prepare(&context.config)?;
        let py = self.python.token();
        patch(py)?;
        // Here and not in `load`, which runs in the hub: an app may wait for something while it is imported.
        let wsgi = self
            .python
            .load(&context.config, Multithread::Interleaved)?;
        let hub =
            Hub::new(py, Rc::clone(&self.board)).map_err(|error| load::boot(py, &error))?;
        self.write_timeout.set(context.config.write_timeout);
        self.app.replace(Some(Rc::new(Inner {
            wsgi,
            hub: Rc::new(hub),
        })));
        Ok(())
    }

    fn hooks(&self, _: &mut tokio::runtime::Builder, idle: Box<dyn Fn() + Send + Sync>) {
        self.idle.replace(Some(idle));
    }

    async fn load(&self, _: &WorkerContext) -> Result<GeventApp, BootError> {
        let app = self.app.borrow().clone();
        app.map(GeventApp)
            .ok_or_else(|| BootError::Boot("the worker has not booted".into()))
    }

    async fn services(&self, names: &[&str]) -> Result<Vec<Rc<dyn StreamApp>>, BootError> {
        let board = Rc::clone(&self.board);
        let wake: Wake = Rc::new(move |py, task| board.wake(py, task));
        // The hub looks for new greenlets after each turn.
        let tell: Rc<dyn Fn()> = Rc::new(|| {});
        let driver = |glue: &Bound<'static, PyModule>| glue.call_method0("Sockets");
        let (py, timeout) = (self.python.token(), self.write_timeout.get());
        self.services.load(py, names, driver, timeout, &wake, &tell)
    }

    fn leaving(&self, _: Instant) {
        self.services.drain();
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(counted(task));
    }

    fn bell(&self) -> Option<Bell> {
        self.board.bell()
    }

    fn drive(
        &self,
        runtime: LocalRuntime,
        epoll: Option<RawFd>,
        main: impl Future<Output = Exit> + 'static,
    ) -> Exit {
        let (Some(epoll), Some(app)) = (epoll, self.app.borrow().clone()) else {
            tracing::error!("Tokio's epoll descriptor was not found: is /proc mounted?");
            return Exit::WorkerBoot;
        };
        let finished = Rc::new(Cell::new(None));
        let result = Rc::clone(&finished);
        runtime.spawn_local(counted(async move { result.set(Some(main.await)) }));
        let turns = Turns::new(
            runtime,
            Rc::clone(&self.board),
            app,
            self.idle.take(),
            finished,
        );
        let py = self.python.token();
        match drive(py, turns, epoll) {
            Ok(exit) => exit,
            Err(error) => {
                let text = super::traceback::text(py, &error);
                tracing::error!("gevent's hub failed\n{text}");
                Exit::Internal
            }
        }
    }

    fn code(&self) -> Vec<std::path::PathBuf> {
        self.python.code()
    }

    fn shutdown(&self) {
        self.python.shutdown();
    }
}

/// Patches the standard library, which the app is then written against.
///
/// # Errors
/// Where there is no gevent.
pub(super) fn patch(py: Python<'static>) -> Result<(), BootError> {
    let late = glue(py)
        .and_then(|glue| glue.call_method0("patch"))
        .and_then(|late| late.extract::<Vec<String>>())
        .map_err(|error| load::boot(py, &error))?;
    for what in late {
        tracing::warn!("gevent patches the standard library late: {what}");
    }
    Ok(())
}

fn glue(py: Python<'static>) -> PyResult<Bound<'static, PyModule>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let name = c"rgun_async._gevent";
    if let Ok(module) = modules.get_item("rgun_async._gevent") {
        return Ok(module.cast_into()?);
    }
    let module = PyModule::from_code(py, GLUE, c"rgun_async/_gevent.py", name)?;
    modules.set_item("rgun_async._gevent", &module)?;
    Ok(module)
}

/// Hands the wait to the hub until the worker's main future has ended.
fn drive(py: Python<'static>, turns: Turns, epoll: RawFd) -> PyResult<Exit> {
    let turns = Bound::new(py, turns)?;
    let driven = glue(py)?.call_method1("drive", (&turns, epoll));
    let turns = turns.borrow();
    turns.close();
    driven?;
    Ok(turns.exit().unwrap_or(Exit::Internal))
}

/// A WSGI app under the `gevent` driver.
pub(crate) struct GeventApp(Rc<Inner>);

struct Inner {
    wsgi: Wsgi,
    hub: Rc<Hub>,
}

/// A request that waits for a greenlet.
struct Job {
    parts: Parts,
    origin: Origin,
    line: Line,
    input: Awaiting,
    reply: Reply,
}

enum Awaiting {
    Gathered(Input),
    Stream(Py<input::BodyStream>),
}

impl std::fmt::Debug for GeventApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeventApp").finish_non_exhaustive()
    }
}

impl App for GeventApp {
    type Body = PyBody;
    type Future = GeventCall;

    /// Without a connection: no early hints.
    fn call(&self, request: Request<Body>, origin: Origin) -> GeventCall {
        self.serve(request, origin, Line::default())
    }

    fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> GeventCall {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return self
                .0
                .queued(parts, origin, line, Awaiting::Gathered(Input::Empty));
        }
        if body
            .size_hint()
            .upper()
            .is_some_and(|length| length <= GATHERED)
        {
            let inner = Rc::clone(&self.0);
            return GeventCall(Stage::Gathering(Box::pin(async move {
                match Input::gather(body).await {
                    Ok(input) => {
                        let input = Awaiting::Gathered(input);
                        inner.submit(parts, origin, line, input).await
                    }
                    Err(error) => refused(error),
                }
            })));
        }
        match input::stream(&self.0.hub, body) {
            Ok((stream, fill)) => {
                tokio::task::spawn_local(counted(fill));
                self.0
                    .queued(parts, origin, line, Awaiting::Stream(stream.unbind()))
            }
            Err(error) => {
                let error = failed(self.0.wsgi.py(), &error);
                GeventCall(Stage::Gathering(Box::pin(std::future::ready(Err(error)))))
            }
        }
    }
}

/// The answer to one request.
pub(crate) struct GeventCall(Stage);

enum Stage {
    /// The body is on its way.
    Gathering(Pin<Box<dyn Future<Output = Outcome>>>),
    /// A greenlet has it, or will.
    Queued(Awaited),
}

impl std::fmt::Debug for GeventCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.0 {
            Stage::Gathering(_) => "Gathering",
            Stage::Queued(_) => "Queued",
        };
        f.debug_tuple("GeventCall").field(&stage).finish()
    }
}

impl Future for GeventCall {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            Stage::Gathering(future) => future.as_mut().poll(cx),
            Stage::Queued(awaited) => Pin::new(awaited).poll(cx),
        }
    }
}

impl Inner {
    fn submit(&self, parts: Parts, origin: Origin, line: Line, input: Awaiting) -> Awaited {
        let (reply, awaited) = reply();
        self.hub.board.jobs.borrow_mut().push_back(Job {
            parts,
            origin,
            line,
            input,
            reply,
        });
        awaited
    }

    fn queued(&self, parts: Parts, origin: Origin, line: Line, input: Awaiting) -> GeventCall {
        GeventCall(Stage::Queued(self.submit(parts, origin, line, input)))
    }

    /// Serves one request, in a greenlet.
    fn serve(&self, mut job: Job) {
        if job.reply.is_abandoned() {
            return;
        }
        let output = Rc::new(Output::new(Rc::clone(&self.hub), job.reply, job.line));
        let py = self.wsgi.py();
        let body = match &job.input {
            Awaiting::Stream(stream) => Some(stream.clone_ref(py)),
            Awaiting::Gathered(_) => None,
        };
        if let Err(error) = self.run(&mut job.parts, &job.origin, job.input, &output) {
            output.fail(error, &Named::of(&job.parts));
        }
        // The app may still hold it, say in the cycle of an exception: then the client would wait to send the rest.
        if let Some(body) = body {
            body.bind(py).borrow().close();
        }
    }

    fn run(
        &self,
        parts: &mut Parts,
        origin: &Origin,
        input: Awaiting,
        output: &Rc<Output>,
    ) -> Result<(), AnyError> {
        let py = self.wsgi.py();
        let context = self.wsgi.context()?;
        let input = match input {
            Awaiting::Gathered(input) => Given::Gathered(input),
            Awaiting::Stream(stream) => Given::Object(stream.into_bound(py).into_any()),
        };
        let sink: Rc<Output> = Rc::clone(output);
        let ran = context.run(|| -> Result<(), AnyError> {
            match self.wsgi.call(parts, origin, input, Outlet::Sink(sink))? {
                Answer::Whole(response) => output.answer(response),
                Answer::File(head, file) => output.file(head, file),
                Answer::Stream(head, source) => output.stream(Some(head), source),
                Answer::Rest(source) => output.stream(None, source),
            }
            Ok(())
        });
        ran.unwrap_or_else(|error| Err(failed(py, &error)))
    }
}
