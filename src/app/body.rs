//! The request body as an app sees it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

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

/// What the connection knows of the end of a body; written by the connection, read by the body.
#[derive(Debug, Default)]
pub(crate) struct Fate(OnceLock<BodyError>);

impl Fate {
    /// Tells the cause, once, before the body's stream is ended.
    pub(crate) fn seal(&self, error: BodyError) {
        let _ = self.0.set(error);
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
    Incoming(hyper::body::Incoming, Arc<Fate>),
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that a connection is receiving; `fate` tells why it ended, if it ends early.
    pub(crate) fn incoming(incoming: hyper::body::Incoming, fate: Arc<Fate>) -> Self {
        Self(Kind::Incoming(incoming, fate))
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
            Kind::Incoming(incoming, fate) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|_| fate.0.get().copied().unwrap_or(BodyError::Cut))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Incoming(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Kind::Incoming(incoming, _) => incoming.size_hint(),
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
