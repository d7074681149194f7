//! A file that is to answer a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::app::FileBody;

/// The answer that it is.
pub(super) enum Opening {
    /// It is there.
    #[cfg(feature = "static")]
    Now(Option<Response<FileBody>>),
    /// It is to come.
    #[cfg_attr(
        not(feature = "static"),
        expect(dead_code, reason = "without files there is none to come")
    )]
    Later(Pin<Box<dyn Future<Output = Response<FileBody>>>>),
}

impl Opening {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response<FileBody>> {
        match self {
            #[cfg(feature = "static")]
            Self::Now(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}
