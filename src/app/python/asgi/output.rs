//! A response on its way from the app to the server.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

use super::exchange::Exchange;
use crate::app::{FileRange, FileReader};
use crate::error::AnyError;

/// An app that has sent so many bytes which are not on their way yet waits before it goes on.
pub(super) const HIGH: usize = 64 * 1024;
/// Until they are so few.
const LOW: usize = 16 * 1024;

/// What a request comes to.
pub(super) type Outcome = Result<Response<AsgiBody>, AnyError>;

/// How far the app has come with its response.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Nothing has come.
    #[default]
    Unstarted,
    /// The head has come; it waits for the first of the body. With it, whether trailers follow.
    Started(Box<Response<AsgiBody>>, bool),
    /// Part of the body has. With it, whether trailers follow.
    Streaming(bool),
    /// The body is complete, the trailers are not.
    Trailing,
    /// All has come.
    Complete,
}

/// What lies between the app and the server.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) phase: Phase,
    /// For the request's future to take.
    pub(super) answer: Option<Result<Box<Response<AsgiBody>>, AnyError>>,
    /// Of the task that sends the response.
    pub(super) waker: Option<Waker>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Apart, as few have any.
    pub(super) trailers: Option<Box<HeaderMap>>,
    end: Option<Result<(), AnyError>>,
    /// The server takes no more: the client has what it gets.
    pub(super) sated: bool,
    /// A response of this kind has no body.
    pub(super) bodiless: bool,
}

impl Output {
    /// More of the body.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !self.sated && !chunk.is_empty() {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// No more of the body comes; the first end stands.
    pub(super) fn finish(&mut self, end: Result<(), AnyError>) {
        self.end.get_or_insert(end);
    }

    /// The app is to wait.
    pub(super) fn is_full(&self) -> bool {
        self.queued > HIGH
    }

    /// An app that waits can go on.
    pub(super) fn has_room(&self) -> bool {
        self.queued <= LOW
    }

    /// Drops what is queued.
    pub(super) fn clear(&mut self) -> VecDeque<Bytes> {
        self.queued = 0;
        self.sated = true;
        std::mem::take(&mut self.queue)
    }

    /// Everything has been taken, and it ended well.
    fn is_done(&self) -> bool {
        self.queue.is_empty() && self.trailers.is_none() && matches!(self.end, Some(Ok(())))
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        if let Some(chunk) = self.queue.pop_front() {
            self.queued -= chunk.len();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match &mut self.end {
            None => {
                self.park(cx);
                Poll::Pending
            }
            Some(Ok(())) => {
                let trailers = self.trailers.take();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            end @ Some(Err(_)) => {
                let ended = end.replace(Ok(()));
                Poll::Ready(ended.and_then(Result::err).map(Err))
            }
        }
    }

    /// Keeps the waker of the task that sends the response.
    pub(super) fn park(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

/// The body of an ASGI app's response.
pub(crate) struct AsgiBody(Kind);

enum Kind {
    Done,
    Whole(Bytes),
    File(Box<FileReader>),
    Stream(Stream),
}

/// A body that the app is still sending.
struct Stream {
    exchange: Rc<Exchange>,
    /// What the head has announced, less what was taken.
    left: Option<u64>,
}

impl AsgiBody {
    /// Bytes that are here.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() {
            Kind::Done
        } else {
            Kind::Whole(bytes)
        })
    }

    /// A file, read as the server asks for more.
    pub(super) fn file(range: FileRange) -> Self {
        Self(Kind::File(Box::new(range.into())))
    }

    /// What the app is still sending; `length` where the head announces it.
    pub(super) fn stream(exchange: Rc<Exchange>, length: Option<u64>) -> Self {
        Self(Kind::Stream(Stream {
            exchange,
            left: length,
        }))
    }
}

impl std::fmt::Debug for AsgiBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Done => "Done",
            Kind::Whole(_) => "Whole",
            Kind::File(_) => "File",
            Kind::Stream(_) => "Stream",
        };
        f.debug_tuple("AsgiBody").field(&kind).finish()
    }
}

impl Body for AsgiBody {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        match &mut self.0 {
            Kind::Done => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Done;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::File(reader) => reader
                .poll_block(cx)
                .map(|block| block.map(|block| block.map(Frame::data).map_err(AnyError::from))),
            Kind::Stream(stream) => {
                let polled = stream.exchange.with_output(|output| output.poll(cx));
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let (Some(left), Some(data)) = (&mut stream.left, frame.data_ref())
                {
                    *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
                }
                if polled.is_ready() {
                    stream.exchange.let_send();
                }
                if matches!(polled, Poll::Ready(Some(Err(_)) | None)) {
                    stream.left = Some(0);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Done => true,
            Kind::Whole(_) => false,
            Kind::File(reader) => reader.left() == 0,
            Kind::Stream(stream) => stream.exchange.with_output(|output| output.is_done()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.0 {
            Kind::Done => Some(0),
            Kind::Whole(bytes) => u64::try_from(bytes.len()).ok(),
            Kind::File(reader) => Some(reader.left()),
            Kind::Stream(_) => None,
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Stream {
    /// The server is done with it: as it has all, or as the client has gone.
    fn drop(&mut self) {
        let done = self.left == Some(0) || self.exchange.with_output(|output| output.is_done());
        if done {
            self.exchange.sate();
        } else {
            self.exchange.gone();
        }
    }
}
