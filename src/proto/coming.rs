//! Where the bytes of a response come from.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

#[cfg(feature = "compression")]
use super::compress::{Announced, poll_compressed};
use crate::app::{FileBody, FileRange};
use crate::error::AnyError;

pin_project! {
    /// Who makes a body.
    #[project = SourceProjection]
    #[derive(Debug)]
    pub(super) enum Source<B> {
        /// The app.
        App { #[pin] body: B },
        /// Nobody: it is a file.
        File { body: FileBody },
    }
}

impl<B> Body for Source<B>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    type Data = Bytes;
    type Error = AnyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        match self.project() {
            SourceProjection::App { body } => body.poll_frame(cx),
            SourceProjection::File { body } => Pin::new(body).poll_frame(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::App { body } => body.is_end_stream(),
            Self::File { body } => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::App { body } => body.size_hint(),
            Self::File { body } => body.size_hint(),
        }
    }
}

/// A compressed body.
#[cfg(feature = "compression")]
pub(super) type Compressed<B> = tower_http::compression::CompressionBody<Announced<B>>;
/// There is none.
#[cfg(not(feature = "compression"))]
pub(super) type Compressed<B> = Source<B>;

pin_project! {
    /// A body on its way, as its maker made it or compressed.
    #[project = ComingProjection]
    pub(super) enum Coming<B>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        Plain { #[pin] body: Source<B> },
        // Seldom there, and large.
        Compressed { body: Pin<Box<Compressed<B>>> },
    }
}

impl<B> Coming<B>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    #[inline]
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        match self.project() {
            ComingProjection::Plain { body } => body.poll_frame(cx),
            #[cfg(feature = "compression")]
            ComingProjection::Compressed { body } => poll_compressed(body.as_mut(), cx),
            #[cfg(not(feature = "compression"))]
            ComingProjection::Compressed { body } => body.as_mut().poll_frame(cx),
        }
    }

    /// The file that it is, where nobody is reading it yet.
    #[inline]
    pub(super) fn file(&self) -> Option<&FileRange> {
        match self {
            Self::Plain {
                body: Source::File { body },
            } => body.unread(),
            Self::Plain {
                body: Source::App { .. },
            }
            | Self::Compressed { .. } => None,
        }
    }

    #[inline]
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain { body } => body.is_end_stream(),
            Self::Compressed { body } => body.is_end_stream(),
        }
    }
}
