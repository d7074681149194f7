//! The `asgi` driver: ASGI 3 apps on an asyncio event loop, which is the worker's one thread with Tokio.
//!
//! Under asyncio's own loop Tokio waits: the loop's selector lets the runtime run ([`turns`]). uvloop takes no selector:
//! there the loop waits, and gives the runtime turns. Each request is a Task whose first step is done where the request
//! comes in ([`start`]), so an app that never waits costs no pass of the loop; what `receive` and `send` return waits only if
//! there is something to wait for ([`super::awaitable`]). The loop's futures are resolved on this same thread.

mod asyncio;
mod board;
mod exchange;
mod input;
mod lifespan;
mod message;
mod output;
mod port;
mod scope;
mod start;
mod turns;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::EXPECT;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use tokio::runtime::LocalRuntime;

use self::asyncio::{Asyncio, Kind};
use self::board::Board;
use self::exchange::{Dialogue, Exchange, Facts, Settings};
use self::input::Input;
use self::lifespan::Lifespan;
use self::message::Messages;
use self::output::Outcome;
use self::port::Ports;
use self::scope::Scopes;
use self::turns::Turns;
use super::counted::counted;
use super::named::Named;
use super::object::{self, Ref};
use super::services::{Services, Wake};
use super::{Interpreter, gil, load};
use crate::app::tcp::StreamApp;
use crate::app::{App, Bell, Body, BootError, Host, Line, Origin};
use crate::channel::{Interface, WorkerContext};
use crate::config::{AsgiLifespan, AsgiLoop, Config};
use crate::error::Exit;

pub(crate) use self::output::AsgiBody;

pyo3::create_exception!(
    rgun_async,
    ClientDisconnected,
    PyOSError,
    "The client has gone: nothing can be sent to it any more."
);

/// The app failed.
#[derive(Debug, thiserror::Error)]
enum AsgiFailed {
    /// It raised an exception: the traceback, on lines of its own.
    #[error("\n{0}")]
    Raised(String),
    /// It returned and had not answered.
    #[error("the application returned without a response")]
    Silent,
    /// It returned in the midst of its response.
    #[error("the application returned before its response was complete")]
    Unfinished,
    /// Its task was cancelled.
    #[error("the request's task was cancelled")]
    Cancelled,
}

/// Hosts an ASGI app.
pub(crate) struct AsgiHost {
    python: Interpreter,
    board: Rc<Board>,
    /// What the worker does before it waits, where the loop waits.
    idle: RefCell<Option<Box<dyn Fn() + Send + Sync>>>,
    app: OnceCell<Rc<Inner>>,
    services: Services,
}

impl std::fmt::Debug for AsgiHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsgiHost").finish_non_exhaustive()
    }
}

impl AsgiHost {
    /// A host in this process's interpreter.
    pub(crate) fn new(interpreter: Interpreter) -> Self {
        Self {
            python: interpreter,
            board: Rc::default(),
            idle: RefCell::default(),
            app: OnceCell::new(),
            services: Services::default(),
        }
    }

    /// Which loop the configuration asks for.
    fn kind(&self, config: &Config) -> Result<Kind, BootError> {
        let there = || {
            let found = self.python.finds("uvloop");
            found.map_err(|error| load::boot(self.python.token(), &error))
        };
        match config.asgi_loop {
            AsgiLoop::Asyncio => Ok(Kind::Asyncio),
            AsgiLoop::Auto if there()? => Ok(Kind::Uvloop),
            AsgiLoop::Auto => Ok(Kind::Asyncio),
            AsgiLoop::Uvloop if there()? => Ok(Kind::Uvloop),
            AsgiLoop::Uvloop => Err(BootError::Boot(
                "--asgi-loop uvloop: Python cannot import uvloop (pip install uvloop).".into(),
            )),
        }
    }
}

impl Host for AsgiHost {
    type App = AsgiApp;

    fn boot(&self, context: &WorkerContext) -> Result<(), BootError> {
        let config = &context.config;
        self.python.prepare(config)?;
        let py = self.python.token();
        let kind = self.kind(config)?;
        let board = Rc::clone(&self.board);
        // Before the app, which may ask for the current loop while it is imported; and the app before the loop runs.
        let asgi = Asyncio::new(py, kind, board, config.asgi_disconnect_grace_period)?;
        let app = self.python.import_as(config, Interface::Asgi)?;
        let inner = Inner::new(app, asgi, kind, config);
        let inner = inner.map_err(|error| load::boot(py, &error))?;
        drop(self.app.set(Rc::new(inner)));
        Ok(())
    }

    fn hooks(&self, builder: &mut tokio::runtime::Builder, idle: Box<dyn Fn() + Send + Sync>) {
        if self.app.get().is_some_and(|app| app.kind == Kind::Uvloop) {
            self.idle.replace(Some(idle));
            return;
        }
        builder.on_thread_park(move || {
            idle();
            gil::release();
        });
        builder.on_thread_unpark(gil::acquire);
    }

    async fn quiet(&self) {
        if let Some(app) = self.app.get() {
            app.asgi.quiet().await;
        }
    }

    async fn load(&self, _: &WorkerContext) -> Result<AsgiApp, BootError> {
        let Some(app) = self.app.get() else {
            return Err(BootError::Boot("the worker has not booted".into()));
        };
        app.lifespan
            .start(&app.asgi, &app.app, &app.state, app.how)
            .await?;
        Ok(AsgiApp(Rc::clone(app)))
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
        let Some(app) = self.app.get() else {
            return Exit::WorkerBoot;
        };
        if app.kind == Kind::Uvloop && epoll.is_none() {
            tracing::error!(
                "Tokio's epoll descriptor was not found: is /proc mounted? \
                 --asgi-loop asyncio can do without"
            );
            return Exit::WorkerBoot;
        }
        let finished = Rc::new(Cell::new(None));
        let result = Rc::clone(&finished);
        let board = Rc::clone(&self.board);
        runtime.spawn_local(counted(async move {
            result.set(Some(main.await));
            board.tell_loop();
        }));
        let board = Rc::clone(&self.board);
        let turns = Turns::new(
            runtime,
            board,
            Rc::clone(app),
            self.idle.take(),
            Rc::clone(&finished),
        );
        let py = self.python.token();
        let drive = || -> PyResult<()> {
            let event_loop = app.asgi.event_loop();
            let turns = Bound::new(py, turns)?;
            app.asgi.connect(turns.clone());
            let glue = asyncio::glue(py)?;
            glue.call_method1("drive", (event_loop, &turns, epoll))
                .map(drop)
        };
        match drive() {
            Ok(()) => finished.get().unwrap_or(Exit::Internal),
            Err(error) => {
                let text = super::traceback::text(py, &error);
                tracing::error!("The event loop failed\n{text}");
                Exit::Internal
            }
        }
    }

    async fn services(&self, names: &[&str]) -> Result<Vec<Rc<dyn StreamApp>>, BootError> {
        let Some(app) = self.app.get() else {
            return Err(BootError::Boot("the worker has not booted".into()));
        };
        let (waking, telling) = (Rc::clone(&self.board), Rc::clone(&self.board));
        let wake: Wake = Rc::new(move |py, task| waking.wake(py, task));
        let tell: Rc<dyn Fn()> = Rc::new(move || telling.tell_loop());
        let event_loop = app.asgi.event_loop();
        let driver =
            |glue: &Bound<'static, PyModule>| glue.call_method1("Streams", (event_loop,));
        let py = self.python.token();
        self.services
            .load(py, names, driver, app.write_timeout, &wake, &tell)
    }

    fn leaving(&self, until: Instant) {
        self.services.drain();
        self.board.tell_loop();
        if let Some(app) = self.app.get() {
            app.until.set(Some(until));
        }
    }

    fn code(&self) -> Vec<std::path::PathBuf> {
        self.python.code()
    }

    fn shutdown(&self) {
        self.python.shutdown();
    }
}

/// An app, and what calling it takes.
struct Inner {
    app: Ref,
    kind: Kind,
    asgi: Rc<Asyncio>,
    how: AsgiLifespan,
    lifespan: Lifespan,
    state: Bound<'static, PyDict>,
    scopes: Scopes,
    messages: Rc<Messages>,
    ports: Rc<Ports>,
    websocket: Rc<Settings>,
    write_timeout: Duration,
    /// Until when the worker has to leave, once it does.
    until: Cell<Option<Instant>>,
}

impl Inner {
    fn new(app: Ref, asgi: Asyncio, kind: Kind, config: &Config) -> PyResult<Self> {
        let py = app.py();
        let root_path = if config.root_path.is_empty() {
            py.import("os")?
                .getattr("environ")?
                .call_method1("get", ("SCRIPT_NAME", ""))?
                .extract::<String>()?
        } else {
            config.root_path.clone()
        };
        let state = PyDict::new(py);
        Ok(Self {
            app,
            kind,
            asgi: Rc::new(asgi),
            how: config.asgi_lifespan,
            lifespan: Lifespan::default(),
            scopes: Scopes::new(py, root_path.trim_end_matches('/'), state.clone())?,
            state,
            messages: Rc::new(Messages::new(py)?),
            ports: Rc::default(),
            websocket: Rc::new(Settings::from(config)),
            write_timeout: config.write_timeout,
            until: Cell::new(None),
        })
    }

    /// The lifespan that has to be told of the end, once.
    fn lifespan(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let _ = py;
        self.lifespan.take().map(Bound::unbind)
    }

    /// What is left of the worker's time.
    fn left(&self) -> Duration {
        self.until.get().map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Calls the app; its Task has done its first step when this returns. The request's headers are gone then: their memory
    /// is the response's.
    fn start(
        &self,
        parts: &mut Parts,
        origin: &Origin,
        line: Line,
        input: Input,
        dialogue: Option<Dialogue>,
    ) -> Rc<Exchange> {
        let facts = Facts::of(parts);
        let exchange = Exchange::new(
            Rc::clone(&self.asgi),
            Rc::clone(&self.messages),
            line,
            facts,
            input,
            dialogue,
        );
        if let Err(error) = self.call(parts, origin, facts, &exchange) {
            exchange.conclude(Some(&error));
        }
        exchange
    }

    fn call(
        &self,
        parts: &mut Parts,
        origin: &Origin,
        facts: Facts,
        exchange: &Rc<Exchange>,
    ) -> PyResult<()> {
        let scope = self.scopes.make(parts, origin, facts.trailers)?;
        exchange.settle_scope(&scope)?;
        // Once, as this is called once.
        drop(exchange.request.set(Named::take(parts)));
        parts.headers.clear();
        exchange.room.replace(std::mem::take(&mut parts.headers));
        let scope = scope.into_any();
        let port = self.ports.lease(self.asgi.py(), exchange)?;
        let coroutine = object::call3(&self.app, &scope, port.receive(), port.send())?;
        drop(scope);
        let task = match self.asgi.start(&coroutine) {
            Ok(task) => task,
            // An awaitable that is no coroutine.
            Err(error)
                if error.is_instance_of::<PyTypeError>(self.asgi.py())
                    && coroutine.hasattr("__await__")? =>
            {
                let coroutine =
                    asyncio::glue(self.asgi.py())?.call_method1("awaiting", (&coroutine,))?;
                self.asgi.start(&coroutine)?
            }
            Err(error) => return Err(error),
        };
        drop(coroutine);
        exchange.started(task, port);
        Ok(())
    }
}

/// An ASGI app.
pub(crate) struct AsgiApp(Rc<Inner>);

impl std::fmt::Debug for AsgiApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsgiApp").finish_non_exhaustive()
    }
}

impl App for AsgiApp {
    type Body = AsgiBody;
    type Future = AsgiCall;

    /// Without a connection: no early hints, and the client's end is seen late.
    fn call(&self, request: Request<Body>, origin: Origin) -> AsgiCall {
        self.serve(request, origin, Line::default())
    }

    fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> AsgiCall {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            let app = Rc::clone(&self.0);
            let plain = Plain {
                app,
                parts,
                origin,
                line,
            };
            return AsgiCall(if self.0.asgi.board.is_aside() {
                Stage::PutOff(Some(Box::new(plain)))
            } else {
                plain.start()
            });
        }
        // A client that waits for `100 Continue` gets that only from an app that wants the body.
        let input = if parts.headers.contains_key(EXPECT) {
            Input::Coming(body)
        } else {
            Input::look(body)
        };
        AsgiCall(Stage::Starting(Some(Box::new(Starting {
            app: Rc::clone(&self.0),
            parts,
            origin,
            line,
            input,
        }))))
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct AsgiCall(Stage);

#[derive(Debug)]
enum Stage {
    /// The connection has just been asked for the body: what of it is here comes with the call.
    Starting(Option<Box<Starting>>),
    /// A request without a body, that came while no app could be called.
    PutOff(Option<Box<Plain>>),
    Running(Rc<Exchange>),
    /// No app is asked.
    Refused(Option<Box<Response<AsgiBody>>>),
    Over,
}

/// A request without a body.
struct Plain {
    app: Rc<Inner>,
    parts: Parts,
    origin: Origin,
    line: Line,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Plain {
    fn start(self) -> Stage {
        let Self {
            app,
            mut parts,
            origin,
            line,
        } = self;
        match Dialogue::asked(&mut parts, &origin, &app.websocket) {
            Ok(dialogue) => {
                Stage::Running(app.start(&mut parts, &origin, line, Input::Empty, dialogue))
            }
            Err(answer) => Stage::Refused(Some(answer)),
        }
    }
}

struct Starting {
    app: Rc<Inner>,
    parts: Parts,
    origin: Origin,
    line: Line,
    input: Input,
}

impl std::fmt::Debug for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}

impl Future for AsgiCall {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Stage::PutOff(plain) = &mut self.0 {
            match plain.take_if(|plain| !plain.app.asgi.board.puts_off(cx.waker())) {
                Some(plain) => self.0 = plain.start(),
                None => return Poll::Pending,
            }
        }
        if let Stage::Starting(starting) = &mut self.0 {
            if starting
                .as_ref()
                .is_some_and(|one| one.app.asgi.board.puts_off(cx.waker()))
            {
                return Poll::Pending;
            }
            let Some(starting) = starting.take() else {
                return Poll::Pending;
            };
            let Starting {
                app,
                mut parts,
                origin,
                line,
                input,
            } = *starting;
            let input = if parts.headers.contains_key(EXPECT) {
                input
            } else {
                input.again()
            };
            self.0 = Stage::Running(app.start(&mut parts, &origin, line, input, None));
        }
        match &mut self.0 {
            Stage::Refused(answer) => match answer.take() {
                Some(answer) => Poll::Ready(Ok(*answer)),
                None => Poll::Pending,
            },
            Stage::Running(exchange) => match exchange.poll_answer(cx) {
                Some(answer) => {
                    self.0 = Stage::Over;
                    Poll::Ready(answer)
                }
                None => Poll::Pending,
            },
            Stage::Starting(_) | Stage::PutOff(_) | Stage::Over => Poll::Pending,
        }
    }
}

impl Drop for AsgiCall {
    fn drop(&mut self) {
        if let Stage::Running(exchange) = &self.0 {
            exchange.gone();
        }
    }
}
