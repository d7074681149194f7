//! What serves a request: the [`App`] trait, and the [`Host`] that brings an app into a worker.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Notify;

use crate::channel::{Interface, WorkerContext};
use crate::error::{AnyError, Exit};

mod body;
pub mod builtin;
mod file;
#[cfg(feature = "static")]
pub(crate) mod files;
mod gateway;
mod line;
#[cfg(feature = "python")]
pub(crate) mod python;
pub mod tcp;
mod tls;
pub mod tower;

pub use crate::drain::{Departure, Drain};
pub(crate) use body::Fate;
pub use body::{Body, BodyError};
pub use file::FileBody;
#[cfg(feature = "python")]
pub(crate) use file::FileReader;
pub(crate) use file::{FileRange, became_shorter};
pub use gateway::Gateway;
pub(crate) use gateway::Span;
pub use line::Line;
pub(crate) use line::{Client, Connection, Forsaken};
use tcp::StreamApp;
pub use tls::{ClientIdentity, Tls, pem};

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The client's address, as a PROXY header tells it or the socket has it (a proxy's, where there is one that tells
    /// nothing).
    pub peer: Address,
    /// The address of ours that the client connected to.
    pub local: Address,
    /// What is known of its TLS, where it has any.
    pub tls: Option<Arc<Tls>>,
    /// What else a PROXY header tells.
    pub proxied: Option<Box<Proxied>>,
    /// Tells when the connection's worker is about to leave.
    pub(crate) drain: Drain,
}

impl Ends {
    /// The ends of a connection that no worker holds: its [`Drain`] never begins.
    #[must_use]
    pub fn new(peer: Address, local: Address) -> Self {
        Self {
            peer,
            local,
            tls: None,
            proxied: None,
            drain: Drain::default(),
        }
    }

    /// Who is at the other end of the socket: the proxy, where the client's address is its word.
    #[must_use]
    pub fn neighbour(&self) -> &Address {
        match &self.proxied {
            Some(proxied) => &proxied.proxy,
            None => &self.peer,
        }
    }
}

/// What a PROXY header tells, and who told it (`--proxy-protocol`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The proxy's address, as the socket has it.
    pub proxy: Address,
    /// The address of the proxy's that the client connected to.
    pub server: SocketAddr,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A unix socket; clients seldom have a path.
    Unix(Option<PathBuf>),
}

/// The URL scheme the client used: the connection's own, or what a trusted proxy tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTPS, ended here or at a trusted proxy.
    Https,
}

/// Where a request came from. Tower services find it in the request's extensions.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The connection's two ends.
    pub ends: Arc<Ends>,
    /// `https` where the connection is so, or where a trusted proxy said so (`--forwarded-allow-ips`,
    /// `secure_scheme_headers`).
    pub scheme: Scheme,
    /// The neighbour is one of `--forwarded-allow-ips` (unix peers always are): its forwarded headers may be believed.
    pub trusted: bool,
    /// What a front end said beside the request, where it speaks uwsgi.
    pub gateway: Option<Arc<Gateway>>,
}

impl Origin {
    /// Tells when the worker is about to leave, so that answers without end and upgraded connections can come to theirs.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.ends.drain
    }

    /// What is known of the connection's TLS, where it has any: it may have been ended at a proxy instead.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.ends.tls.as_deref()
    }
}

/// What serves requests in one worker, on the worker's one thread.
///
/// An error returned from the future or from the response body is ours to log: the client gets a 500, or, once the
/// head is out, a cut connection.
pub trait App: 'static {
    /// The response's body.
    type Body: http_body::Body<Data = Bytes, Error = AnyError> + 'static;
    /// The answer to come.
    type Future: Future<Output = Result<Response<Self::Body>, AnyError>> + 'static;

    /// Serves one request. Dropping the future abandons the request.
    fn call(&self, request: Request<Body>, origin: Origin) -> Self::Future;

    /// The same, for an app that has more to do with the connection than to answer.
    fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> Self::Future {
        drop(line);
        self.call(request, origin)
    }
}

/// Why an app is not there; the worker logs it and exits with its code, at which the master stops.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The app cannot be imported, or its factory failed: exit code 3.
    #[error("{0}")]
    Boot(String),
    /// The app's name leads nowhere: exit code 4.
    #[error("{0}")]
    Load(String),
    /// The app is of this kind, and the worker was made for another: no failure, the master makes another worker.
    #[error("the app is an {0} app")]
    Is(Interface),
}

impl BootError {
    /// The worker's exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Boot(_) => Exit::WorkerBoot,
            Self::Load(_) => Exit::AppLoad,
            Self::Is(_) => Exit::Done,
        }
    }

    /// A listener names a service, and what serves the app has none.
    pub(crate) fn no_service(name: &str) -> Self {
        Self::Load(format!(
            "There is no service {name:?} here: Python's are served by --worker-class asgi or gevent."
        ))
    }
}

/// Where a worker waits whose host waits by itself: an epoll that is not the runtime's.
///
/// A listening socket that is to wake one worker of many must stand in the epoll that the kernel wakes
/// (`EPOLLEXCLUSIVE`, `epoll_ctl(2)`). It is entered there in the name of another descriptor, the bell, which the host
/// watches and nobody ever rings otherwise.
#[derive(Clone, Debug)]
pub struct Bell {
    /// The host's epoll.
    pub epoll: RawFd,
    /// The descriptor in whose name listening sockets are entered.
    pub socket: RawFd,
    /// Told by the host, before the runtime's next turn, that the bell seemed readable: a listening socket is.
    pub rung: Rc<Notify>,
}

/// Brings an app into a worker: loads it after the fork, and says who owns the worker's wait.
///
/// The order in a worker: [`boot`](Self::boot), the runtime is built with [`hooks`](Self::hooks),
/// [`load`](Self::load) runs inside it, then [`drive`](Self::drive) runs the worker's main future to its end.
pub trait Host: 'static {
    /// What the host loads.
    type App: App;
    /// Whether the app may want Tokio's timers. Without them a turn of the worker need not look at the clock.
    const TOKIO_TIME: bool = true;

    /// In the worker, after the fork, before the runtime is built: what must come first (a monkey patch, an import).
    ///
    /// # Errors
    /// A [`BootError`] ends the worker.
    fn boot(&self, context: &WorkerContext) -> Result<(), BootError> {
        let _ = context;
        Ok(())
    }

    /// Adds park hooks to the runtime. `idle` must be called just before each wait: it writes what the turn has
    /// gathered (the access log).
    fn hooks(&self, builder: &mut tokio::runtime::Builder, idle: Box<dyn Fn() + Send + Sync>) {
        builder.on_thread_park(idle);
    }

    /// Inside the runtime: the app itself.
    ///
    /// # Errors
    /// A [`BootError`] ends the worker.
    fn load(
        &self,
        context: &WorkerContext,
    ) -> impl Future<Output = Result<Self::App, BootError>>;

    /// The services that listeners name, in this order; after [`load`](Self::load).
    ///
    /// # Errors
    /// There is none of a name, or it cannot be had.
    fn services(
        &self,
        names: &[&str],
    ) -> impl Future<Output = Result<Vec<Rc<dyn StreamApp>>, BootError>> {
        std::future::ready(match names.first() {
            Some(name) => Err(BootError::no_service(name)),
            None => Ok(Vec::new()),
        })
    }

    /// Starts a task of the worker; a host whose driver counts runnable tasks wraps it.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    /// Runs the worker's main future to its end: who owns the wait decides here. `epoll` is the runtime's, where it
    /// could be found.
    fn drive(
        &self,
        runtime: tokio::runtime::LocalRuntime,
        epoll: Option<RawFd>,
        main: impl Future<Output = Exit> + 'static,
    ) -> Exit {
        let _ = epoll;
        runtime.block_on(main)
    }

    /// Where the worker waits, if not in the runtime's epoll. Asked while the main future runs.
    fn bell(&self) -> Option<Bell> {
        None
    }

    /// Whether the app has moved within this time, or had no reason to. A worker whose app does not move gives no sign of life;
    /// where the app runs on the worker's thread there is nothing to ask, for then nobody would.
    fn moves_within(&self, time: Duration) -> bool {
        let _ = time;
        true
    }

    /// Waits until nothing of the app's is at work, once the last connection has ended. Cancel safe.
    fn quiet(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// The worker begins to leave: what the app has not finished by `until` is cut.
    fn leaving(&self, until: Instant) {
        let _ = until;
    }

    /// The files that the app was loaded from, as far as they are known; asked from time to time where they are watched.
    fn code(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// After the last connection has ended: exit handlers of the app.
    fn shutdown(&self) {}
}
