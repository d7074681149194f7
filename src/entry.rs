//! The ways in that need no interpreter: the `rgun-async` binary, and the `main` of a Rust program with its own app.

use std::ffi::OsString;
use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_service::Service;

use crate::app::builtin::Builtin;
use crate::app::tcp::{self, Context, Ending, Function, Make, Stream, StreamApp};
use crate::app::tower::Factory;
use crate::app::{Body, Host};
use crate::channel::WorkerContext;
use crate::cli::{self, AppArgument, Program, Sources};
use crate::config::{AppPath, Config};
use crate::error::{AnyError, Exit};
use crate::hooks::{self, NoHooks};
use crate::os::fork::Hooks;
use crate::server::{self, Parts};
use crate::worker;

/// What `rgun-async --help` says it is.
const ABOUT: &str = "A pre-fork application server for WSGI apps and Rust services";

/// The `rgun-async` program: reads the command line of this process and serves until a signal ends it.
#[must_use]
pub fn binary() -> Exit {
    leave_on_term();
    with_sources(|sources| {
        if let Some(exit) = subcommand(&PROGRAM, &sources) {
            return exit;
        }
        if cli::wants_python(&PROGRAM, &sources) {
            return become_python();
        }
        server::run(PROGRAM, sources, |config| match &config.wsgi_app {
            Some(AppPath::Python { .. }) => Err(become_python()),
            Some(AppPath::Builtin(name)) => builtin_parts(name, arguments()),
            // The command line insists on an app.
            None => Err(Exit::Config),
        })
    })
}

/// The `rgun-async` program's command line.
pub(crate) const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    about: ABOUT,
    app: AppArgument::Required,
    services: None,
};

/// A built-in app, in whatever process.
pub(crate) fn builtin_parts(name: &str, command: Vec<OsString>) -> Result<Parts, Exit> {
    let Some(host) = Builtin::named(name) else {
        eprintln!(
            "Error: there is no built-in app {name:?}; there are hello, echo and static:DIRECTORY"
        );
        return Err(Exit::Config);
    };
    Ok(Parts {
        kind: String::from("builtin"),
        worker_main: Box::new(move |context| worker::run(context, host)),
        check: Box::new(|_| Exit::Done),
        hooks: Hooks::NONE,
        server_hooks: Rc::new(NoHooks),
        preload: None,
        command,
    })
}

/// Serves what `factory` makes, with the whole command line of rgun-async, until a signal ends it: the `main` of a
/// Rust program.
///
/// `factory` runs in each worker, after the fork, inside the worker's runtime: what it opens belongs to that worker
/// alone. Nothing may start a thread before this call (no `#[tokio::main]`): the process is about to fork.
///
/// The service is any [`tower_service::Service`] of HTTP requests, an axum `Router` among them; it need not be `Send`.
/// Requests carry their [`Origin`](crate::app::Origin) as an extension.
///
/// ```no_run
/// # use std::convert::Infallible;
/// use rgun_async::app::Body;
///
/// async fn hello(_: http::Request<Body>) -> Result<http::Response<String>, Infallible> {
///     Ok(http::Response::new(String::from("hello world!")))
/// }
///
/// fn main() -> std::process::ExitCode {
///     rgun_async::serve(|| async { tower::service_fn(hello) })
/// }
/// ```
pub fn serve<F, Fut, S, B>(factory: F) -> ExitCode
where
    F: Fn() -> Fut + 'static,
    Fut: Future<Output = S> + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<AnyError>,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    Server::new().serve(factory)
}

/// Like [`serve`], for a factory that can fail: its error is logged, the worker ends with 3, and at start so does the
/// server.
pub fn try_serve<F, Fut, S, B, E>(factory: F) -> ExitCode
where
    F: Fn() -> Fut + 'static,
    Fut: Future<Output = Result<S, E>> + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<AnyError>,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
    E: Into<AnyError>,
{
    Server::new().try_serve(factory)
}

/// A Rust program's server, with its name and description for `--help`, the log and ps(1).
#[derive(Clone)]
pub struct Server {
    name: String,
    about: String,
    hooks: Rc<dyn hooks::Hooks>,
    services: Vec<(String, Make)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|(name, _)| name).collect();
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("services", &services)
            .finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Named after the executable.
    #[must_use]
    pub fn new() -> Self {
        let executable = std::env::args_os().next().map(std::path::PathBuf::from);
        let name = executable
            .as_deref()
            .and_then(std::path::Path::file_name)
            .map_or_else(
                || String::from("server"),
                |name| name.to_string_lossy().into_owned(),
            );
        Self {
            name,
            about: String::from("A server on rgun-async"),
            hooks: Rc::new(NoHooks),
            services: Vec::new(),
        }
    }

    /// Named `name`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What `--help` says it is, in a line.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// With `hooks` that are called at the points of the server's life, in the master and in the workers.
    #[must_use]
    pub fn hooks(mut self, hooks: impl hooks::Hooks + 'static) -> Self {
        self.hooks = Rc::new(hooks);
        self
    }

    /// With a service that speaks a protocol of its own, for listeners that name it: `--bind tcp://0.0.0.0:9000=NAME`.
    ///
    /// `serve` is any `async fn(Stream, Context)`; it may return a `Result`, whose error is logged. Its connections count under
    /// `--worker-connections`, learn of a drain by [`Context::last_call`], and are in the access log,
    /// as those of HTTP are.
    ///
    /// ```no_run
    /// use std::pin::pin;
    ///
    /// use rgun_async::app::tcp::{Context, Stream};
    /// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    ///
    /// async fn shout(stream: Stream, context: Context) -> std::io::Result<()> {
    ///     let mut stream = BufReader::new(stream);
    ///     let mut line = String::new();
    ///     let mut last_call = pin!(context.last_call());
    ///     loop {
    ///         line.clear();
    ///         tokio::select! {
    ///             read = stream.read_line(&mut line) => if read? == 0 { return Ok(()) },
    ///             () = &mut last_call => return Ok(()),
    ///         }
    ///         stream.write_all(line.to_uppercase().as_bytes()).await?;
    ///     }
    /// }
    ///
    /// fn main() -> std::process::ExitCode {
    ///     rgun_async::Server::new().tcp("shout", shout).run()
    /// }
    /// ```
    #[must_use]
    pub fn tcp<F, R>(self, name: impl Into<String>, serve: F) -> Self
    where
        F: Fn(Stream, Context) -> R + 'static,
        R: Future<Output: Ending> + 'static,
    {
        let app: Rc<dyn StreamApp> = Rc::new(Function(serve));
        self.make(name.into(), move || {
            let app = Rc::clone(&app);
            Box::pin(async { Ok(app) })
        })
    }

    /// The same with a tower service over streams, made in each worker by `factory`, as that of [`serve`] is.
    #[must_use]
    pub fn tcp_service<F, R, S, E>(self, name: impl Into<String>, factory: F) -> Self
    where
        F: Fn() -> R + 'static,
        R: Future<Output = Result<S, E>> + 'static,
        S: Service<(Stream, Context)> + Clone + 'static,
        S::Error: Into<AnyError>,
        E: Into<AnyError>,
    {
        self.make(name.into(), move || {
            let made = factory();
            Box::pin(async move {
                let service = made.await.map_err(Into::into)?;
                let app: Rc<dyn StreamApp> = Rc::new(tcp::Tower(service));
                Ok(app)
            })
        })
    }

    fn make<F>(mut self, name: String, make: F) -> Self
    where
        F: Fn() -> Pin<Box<dyn Future<Output = Result<Rc<dyn StreamApp>, AnyError>>>> + 'static,
    {
        self.services.retain(|(known, _)| *known != name);
        self.services.push((name, Rc::new(make)));
        self
    }

    /// Serves the services alone: what is asked by HTTP is answered with 404.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.serve(|| async { Nothing })
    }

    /// See [`serve`].
    pub fn serve<F, Fut, S, B>(self, factory: F) -> ExitCode
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = S> + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<AnyError>,
        S::Future: 'static,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<AnyError>,
    {
        self.try_serve(move || {
            let made = factory();
            async move { Ok::<_, std::convert::Infallible>(made.await) }
        })
    }

    /// See [`try_serve`].
    pub fn try_serve<F, Fut, S, B, E>(self, factory: F) -> ExitCode
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = Result<S, E>> + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<AnyError>,
        S::Future: 'static,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<AnyError>,
        E: Into<AnyError>,
    {
        let factory = Rc::new(factory);
        let services = self.services.clone();
        self.host(move || {
            let factory = Rc::clone(&factory);
            Factory::new(move || factory(), services.clone())
        })
    }

    fn host<H: Host>(self, host: impl Fn() -> H + 'static) -> ExitCode {
        // Once in the life of the process: the command line's description outlives it.
        let program = Program {
            name: Box::leak(self.name.into_boxed_str()),
            about: Box::leak(self.about.into_boxed_str()),
            app: AppArgument::None,
            services: Some(Box::leak(
                self.services.iter().map(|(name, _)| name.clone()).collect(),
            )),
        };
        leave_on_term();
        let exit = with_sources(|sources| {
            if let Some(exit) = subcommand(&program, &sources) {
                return exit;
            }
            server::run(program, sources, |_| {
                Ok(Parts {
                    kind: String::from("tower"),
                    worker_main: Box::new(move |context: WorkerContext| {
                        worker::run(context, host())
                    }),
                    check: Box::new(|_: &Config| Exit::Done),
                    hooks: Hooks::NONE,
                    server_hooks: self.hooks,
                    preload: None,
                    command: arguments(),
                })
            })
        });
        exit.into()
    }
}

/// Has nothing at any path.
#[derive(Clone, Copy, Debug)]
struct Nothing;

impl Service<Request<Body>> for Nothing {
    type Response = Response<String>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut response = Response::new(String::from("not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        std::future::ready(Ok(response))
    }
}

/// From now on TERM is a stop like any later one. Who only checks or shows something has not succeeded by it.
pub(crate) fn leave_on_term() {
    if !only_looks()
        && let Err(error) = crate::os::signal::leave_on_term()
    {
        eprintln!("Error: cannot take the signal TERM: {error}");
    }
}

/// Whether this process does not serve.
fn only_looks() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    let subcommand =
        word(0).is_some_and(|first| first == "upgrade" || cli::uwsgi::is_named(first, word(1)));
    subcommand
        || words
            .iter()
            .any(|word| word == "--check-config" || word == "--print-config")
}

/// The subcommand that the command line names, if it names one.
pub(crate) fn subcommand(program: &Program, sources: &Sources) -> Option<Exit> {
    let exit = if let Some(wanted) = cli::upgrade::asked(program, sources) {
        wanted.map(|wanted| crate::upgrade::run(&wanted))
    } else {
        cli::uwsgi::asked(program, sources)?.map(|ask| crate::uwsgi_client::run(&ask))
    };
    Some(exit.unwrap_or_else(|outcome| server::print(&outcome)))
}

fn with_sources(run: impl FnOnce(Sources) -> Exit) -> Exit {
    match Sources::of_process() {
        Ok(sources) => run(sources),
        Err(error) => {
            eprintln!("Error: the current directory cannot be read: {error}");
            Exit::Config
        }
    }
}

/// This process's command, with the executable's full path where the shell found it on `PATH`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let by_path = arguments
        .first()
        .is_some_and(|first| std::path::Path::new(first).components().count() > 1);
    if !by_path
        && let Ok(executable) = std::env::current_exe()
        && let Some(first) = arguments.first_mut()
    {
        *first = executable.into_os_string();
    }
    arguments
}

/// Replaces this process by an interpreter that serves the same command line; returns only when there is none.
fn become_python() -> Exit {
    if !only_looks() {
        // A TERM in between is the interpreter's. Without this it would end the process by the signal.
        let _ = crate::os::signal::keep_term_for_exec();
    }
    let error = crate::trampoline::exec(&arguments());
    eprintln!("Error: {error}");
    Exit::Config
}
