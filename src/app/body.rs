//! The request body as an app sees it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// Why a body ended before its end. An app never sees a short body without one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than `--limit-request-body`; the client gets 413.
    #[error("request body too large")]
    TooLarge,
    /// Its framing breaks RFC 9112; the client gets 400.
    #[error("broken request body: {0}")]
    Broken(&'static str),
    /// The client closed the connection, or its sending half.
    #[error("client closed the connection before the end of the request body")]
    Cut,
    /// It came too slowly (`--body-timeout`, `--min-rate`); the client gets 408.
    #[error("request body timed out")]
    TimedOut,
}

/// What a connection and the body that it is receiving tell each other.
#[derive(Debug)]
pub(crate) struct Fate {
    /// From the connection: why the body ended early.
    error: OnceLock<BodyError>,
    /// From the body: what the app did not read.
    rest: Mutex<Option<Incoming>>,
    /// Of the connection's task.
    waker: Waker,
    /// The client sends nothing before the app reads (`Expect: 100-continue`).
    expects: bool,
}

impl Fate {
    /// `waker` is the one of the connection's task, which is woken when the app forsakes the body.
    pub(crate) fn new(waker: Waker, expects: bool) -> Arc<Self> {
        Arc::new(Self {
            error: OnceLock::new(),
            rest: Mutex::default(),
            waker,
            expects,
        })
    }

    /// Tells the cause, once, before the body's stream is ended.
    pub(crate) fn seal(&self, error: BodyError) {
        let _ = self.error.set(error);
    }

    /// What the app did not read, once it has dropped the body.
    pub(crate) fn rest(&self) -> Option<Incoming> {
        self.rest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// The body of a request: bytes as they come from the client, within `--limit-request-body`.
///
/// Ends with a [`BodyError`] if the client sends less than it announced, or in broken framing.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Incoming(Receiving),
    Other(Other),
}

/// A body that comes by another protocol than HTTP/1; it knows itself why it ends.
struct Other(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>);

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Other")
    }
}

/// A body that is coming in.
#[derive(Debug)]
struct Receiving {
    /// There until this is dropped.
    incoming: Option<Incoming>,
    fate: Arc<Fate>,
    begun: bool,
}

impl Drop for Receiving {
    /// The connection reads the rest, so that it can go on with the next request.
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        let unasked = self.fate.expects && !self.begun;
        if !unasked && !http_body::Body::is_end_stream(&incoming) {
            *self
                .fate
                .rest
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(incoming);
            self.fate.waker.wake_by_ref();
        }
    }
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that a connection is receiving; `fate` tells why it ended, if it ends early.
    pub(crate) fn incoming(incoming: Incoming, fate: Arc<Fate>) -> Self {
        Self(Kind::Incoming(Receiving {
            incoming: Some(incoming),
            fate,
            begun: false,
        }))
    }

    /// A body that comes by another protocol than HTTP/1.
    pub(crate) fn other(
        body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self(Kind::Other(Other(Box::pin(body))))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self(Kind::Whole(bytes))
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Other(Other(body)) => body.as_mut().poll_frame(cx),
            Kind::Incoming(Receiving {
                incoming,
                fate,
                begun,
            }) => {
                *begun = true;
                let Some(coming) = incoming else {
                    return Poll::Ready(None);
                };
                let frame = ready!(Pin::new(coming).poll_frame(cx));
                if frame.as_ref().is_none_or(Result::is_err) {
                    *incoming = None;
                }
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|_| fate.error.get().copied().unwrap_or(BodyError::Cut))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Other(Other(body)) => body.is_end_stream(),
            Kind::Incoming(receiving) => receiving
                .incoming
                .as_ref()
                .is_none_or(Incoming::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Kind::Other(Other(body)) => body.size_hint(),
            Kind::Incoming(receiving) => receiving
                .incoming
                .as_ref()
                .map_or(SizeHint::with_exact(0), Incoming::size_hint),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    fn sendable<T: Send + 'static>(_: &T) {}

    #[tokio::test]
    async fn a_body_from_bytes_gives_them_once() {
        let body = Body::from("abc");
        sendable(&body);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.expect("no error").to_bytes(), "abc");
    }

    #[tokio::test]
    async fn an_empty_body_has_ended() {
        let body = Body::from(Bytes::new());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(
            body.collect()
                .await
                .expect("no error")
                .to_bytes()
                .is_empty()
        );
    }
}
