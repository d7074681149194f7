//! Services that speak protocols of their own: bytes both ways, on listeners that name them (`tcp://HOST:PORT=NAME`).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(feature = "python")]
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use super::{Drain, Ends};
use crate::error::AnyError;
use crate::resident::Resident;

/// How long what is on its way may take when a worker drains, as for HTTP.
const ON_ITS_WAY: Duration = Duration::from_millis(150);

/// A connection of a service, to read from and write to; it ends when this is dropped.
///
/// It may travel with a task, but only the worker's own thread can use it.
#[derive(Debug)]
pub struct Stream(Resident<Rc<dyn Raw>>);

/// What is behind a [`Stream`].
pub(crate) trait Raw: fmt::Debug {
    fn poll_read(
        &self,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    fn poll_write(&self, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    fn poll_flush(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>>;

    fn poll_shutdown(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>>;

    /// Nobody uses it any more.
    fn let_go(&self);

    /// Gives the socket itself away; the connection counts until it is let go.
    #[cfg(feature = "python")]
    fn detach(&self) -> io::Result<OwnedFd>;

    /// So many bytes were sent on the socket that was given away.
    #[cfg(feature = "python")]
    fn count(&self, sent: u64);
}

impl Stream {
    pub(crate) fn new(raw: Rc<dyn Raw>) -> Self {
        Self(Resident::new(raw))
    }

    /// The socket, for who speaks to it in another way.
    #[cfg(feature = "python")]
    pub(crate) fn detach(&self) -> io::Result<OwnedFd> {
        self.raw()?.detach()
    }

    /// Who has the socket has sent so many bytes on it.
    #[cfg(feature = "python")]
    pub(crate) fn count(&self, sent: u64) {
        if let Ok(raw) = self.raw() {
            raw.count(sent);
        }
    }

    fn raw(&self) -> io::Result<&Rc<dyn Raw>> {
        let elsewhere = || io::Error::other("a connection is used on another thread");
        self.0.get().ok_or_else(elsewhere)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(raw) = self.0.get() {
            raw.let_go();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.raw()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.raw()?.poll_write(cx, bytes)
    }

    /// Only TLS holds anything back, and sends it also without this.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.raw()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.raw()?.poll_shutdown(cx)
    }
}

/// What a service knows of a connection.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) ends: Arc<Ends>,
    pub(crate) service: Rc<str>,
}

impl Context {
    /// The connection's two ends.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Tells when the worker is about to leave: the time to finish what is under way, and to close what is idle at the
    /// [last call](Self::last_call). What is still open at `--graceful-timeout` is cut.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.ends.drain
    }

    /// Waits until the worker drains and what clients had sent before they could know has had the time to arrive: then a
    /// connection on which nothing is under way may end, and no request is lost. Connections that come out of the kernel's
    /// queue while the worker drains have that time, too.
    ///
    /// *Cancel safety*: nothing is lost, but the time begins anew; keep one future for the whole connection.
    pub async fn last_call(&self) {
        self.drain().begun().await;
        tokio::time::sleep(ON_ITS_WAY).await;
    }

    /// The name by which the listener has called the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }
}

/// How a service comes to the end of a connection.
pub type Ended = Pin<Box<dyn Future<Output = Result<(), AnyError>>>>;

/// What serves connections in one worker, on the worker's one thread.
pub trait StreamApp {
    /// Serves a connection. An error is logged; dropping the future abandons the connection.
    fn serve(&self, stream: Stream, context: Context) -> Ended;
}

/// What a service's function may return.
pub trait Ending {
    /// As a result.
    ///
    /// # Errors
    /// What the log is to be told.
    fn ending(self) -> Result<(), AnyError>;
}

impl Ending for () {
    fn ending(self) -> Result<(), AnyError> {
        Ok(())
    }
}

impl<E: Into<AnyError>> Ending for Result<(), E> {
    fn ending(self) -> Result<(), AnyError> {
        self.map_err(Into::into)
    }
}

/// An `async fn(Stream, Context)` as a [`StreamApp`].
#[derive(Clone, Copy, Debug)]
pub struct Function<F>(pub F);

impl<F, R> StreamApp for Function<F>
where
    F: Fn(Stream, Context) -> R,
    R: Future<Output: Ending> + 'static,
{
    fn serve(&self, stream: Stream, context: Context) -> Ended {
        let served = (self.0)(stream, context);
        Box::pin(async move { served.await.ending() })
    }
}

/// A tower service over streams as a [`StreamApp`]. Each connection is served by a clone of it that was asked whether it is
/// ready.
#[derive(Clone, Copy, Debug)]
pub struct Tower<S>(pub S);

impl<S> StreamApp for Tower<S>
where
    S: Service<(Stream, Context)> + Clone + 'static,
    S::Error: Into<AnyError>,
{
    fn serve(&self, stream: Stream, context: Context) -> Ended {
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            ready.map_err(Into::into)?;
            let served = service.call((stream, context)).await;
            served.map(drop).map_err(Into::into)
        })
    }
}

/// Makes a service in a worker.
pub(crate) type Make =
    Rc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Rc<dyn StreamApp>, AnyError>>>>>;
