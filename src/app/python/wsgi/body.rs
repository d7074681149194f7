//! The body of a response on its way to the server.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::file::Blocks;
use super::later::{Later, Rest};
use super::source::{Returned, Source};
use crate::app::python::named::Named;
use crate::app::python::object::Context;
use crate::error::AnyError;

/// The body of a Python app's response.
pub(crate) struct PyBody(Kind);

enum Kind {
    Done,
    Whole(Bytes),
    Pulled(Box<Pulled>),
    File(Box<Sent>),
    Fed(Box<dyn Feed>),
}

/// A body that somebody else produces.
pub(in crate::app::python) trait Feed {
    /// The next chunk.
    fn poll_chunk(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, AnyError>>>;
    /// The length, where it is known.
    fn exact(&self) -> Option<u64>;
}

impl PyBody {
    /// Bytes that are here.
    pub(in crate::app::python) fn whole(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() {
            Kind::Done
        } else {
            Kind::Whole(bytes)
        })
    }

    /// The bytes of a body that is here.
    pub(in crate::app::python) fn into_whole(self) -> Option<Bytes> {
        match self.0 {
            Kind::Done => Some(Bytes::new()),
            Kind::Whole(bytes) => Some(bytes),
            Kind::Pulled(_) | Kind::File(_) | Kind::Fed(_) => None,
        }
    }

    /// An iterable, pulled as the server asks for more: the server's back-pressure is the app's.
    pub(in crate::app::python) fn pulled(
        source: Source,
        context: Context,
        later: Rc<Later>,
    ) -> Self {
        let source = Some((source, context));
        let pulled = Pulled {
            source,
            later,
            breathe: false,
        };
        Self(Kind::Pulled(Box::new(pulled)))
    }

    /// A file, read as the server asks for more.
    pub(in crate::app::python) fn file(
        file: FileBody,
        context: Context,
        later: Rc<Later>,
    ) -> Self {
        let FileBody { blocks, returned } = file;
        let returned = Some((returned, context));
        Self(Kind::File(Box::new(Sent {
            blocks,
            returned,
            later,
        })))
    }

    /// What `feed` produces.
    pub(in crate::app::python) fn fed(feed: impl Feed + 'static) -> Self {
        Self(Kind::Fed(Box::new(feed)))
    }
}

impl std::fmt::Debug for PyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Done => "Done",
            Kind::Whole(_) => "Whole",
            Kind::Pulled(_) => "Pulled",
            Kind::File(_) => "File",
            Kind::Fed(_) => "Fed",
        };
        f.debug_tuple("PyBody").field(&kind).finish()
    }
}

impl Body for PyBody {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let chunk = match &mut self.0 {
            Kind::Done => return Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Done;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Pulled(pulled) => std::task::ready!(pulled.poll_chunk(cx)),
            Kind::File(file) => file
                .blocks
                .read()
                .transpose()
                .map(|block| block.map_err(AnyError::from)),
            Kind::Fed(feed) => std::task::ready!(feed.poll_chunk(cx)),
        };
        if !matches!(chunk, Some(Ok(_))) {
            self.0 = Kind::Done;
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Done => true,
            Kind::File(file) => file.blocks.left() == 0,
            Kind::Whole(_) | Kind::Pulled(_) | Kind::Fed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.0 {
            Kind::Done => Some(0),
            Kind::Whole(bytes) => u64::try_from(bytes.len()).ok(),
            Kind::Pulled(_) => None,
            Kind::File(file) => Some(file.blocks.left()),
            Kind::Fed(feed) => feed.exact(),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

struct Pulled {
    /// There until it is left for later.
    source: Option<(Source, Context)>,
    later: Rc<Later>,
    /// A chunk was given out: before the next one is made, the server gets the chance to send it.
    breathe: bool,
}

impl Pulled {
    fn poll_chunk(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes, AnyError>>> {
        let Some((source, context)) = &mut self.source else {
            return Poll::Ready(None);
        };
        if std::mem::take(&mut self.breathe) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match context.run(|| source.next()) {
            Ok(None) => Poll::Ready(None),
            Ok(Some(Ok(chunk))) => {
                self.breathe = true;
                Poll::Ready(Some(Ok(chunk)))
            }
            Ok(Some(Err(error))) | Err(error) => {
                Poll::Ready(Some(Err(super::failed(source.py(), &error))))
            }
        }
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        if let Some((source, context)) = self.source.take() {
            self.later.leave(Rest::Source(source), context);
        }
    }
}

/// A file as an answer.
pub(in crate::app::python) struct FileBody {
    pub(in crate::app::python) blocks: Blocks,
    /// Its wrapper, to be closed.
    pub(super) returned: Returned,
}

impl FileBody {
    /// The request that it answers.
    pub(in crate::app::python) fn request(&self) -> &Named {
        self.returned.request()
    }

    /// What is read, and what is to be closed.
    pub(in crate::app::python) fn into_parts(self) -> (Blocks, Returned) {
        (self.blocks, self.returned)
    }
}

/// A file that the server reads.
struct Sent {
    blocks: Blocks,
    /// There until it is left for later.
    returned: Option<(Returned, Context)>,
    later: Rc<Later>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some((returned, context)) = self.returned.take() {
            self.later.leave(Rest::File(returned), context);
        }
    }
}
