//! A request's body on its way to the app.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body as _;

use super::exchange::Exchange;
use crate::app::Body;
use crate::app::python::wsgi::next_chunk;

/// What of the body is still to be given to the app.
#[derive(Debug, Default)]
pub(super) enum Input {
    /// The message that says that there is none.
    Empty,
    /// A piece that is here, and what follows it; nothing follows the last.
    Held(Bytes, Option<Body>),
    /// What is still coming.
    Coming(Body),
    /// A task waits for more of it.
    Reading(Option<Waker>),
    /// Nothing: all was given.
    #[default]
    Given,
    /// Nothing: it broke off, and the app is not to take the part for the whole.
    Broken,
}

/// What the app gets next.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, and whether more follow.
    Bytes(Bytes, bool),
    /// The rest is not coming.
    Broken,
    /// It has to wait. With the body, if somebody has to read on.
    Wait(Option<Body>),
    /// It has had everything.
    Given,
}

impl Input {
    /// What `body` comes to, looked at without waiting: the connection hears that it is wanted.
    pub(super) fn look(mut body: Body) -> Self {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Pending => Self::Coming(body),
            Poll::Ready(frame) => Self::after(
                frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())),
                body,
            ),
        }
    }

    /// The same, looked at once more where nothing was there.
    pub(super) fn again(self) -> Self {
        match self {
            Self::Coming(body) => Self::look(body),
            Self::Empty | Self::Held(..) | Self::Reading(_) | Self::Given | Self::Broken => {
                self
            }
        }
    }

    /// What it comes to with the next piece of it.
    fn after<E>(piece: Option<Result<Bytes, E>>, body: Body) -> Self {
        match piece {
            None => Self::Held(Bytes::new(), None),
            Some(Ok(bytes)) => {
                let more = !body.is_end_stream();
                Self::Held(bytes, more.then_some(body))
            }
            Some(Err(_)) => Self::Broken,
        }
    }

    /// Takes what the app gets next. `can_poll` is where the body may be asked.
    pub(super) fn take(&mut self, can_poll: bool) -> Piece {
        if can_poll && let Self::Coming(body) = self {
            let body = std::mem::take(body);
            *self = Self::look(body);
        }
        match std::mem::take(self) {
            Self::Empty => Piece::Bytes(Bytes::new(), false),
            Self::Held(bytes, None) => Piece::Bytes(bytes, false),
            Self::Held(bytes, Some(body)) => {
                *self = Self::Coming(body);
                if bytes.is_empty() {
                    return self.take(can_poll);
                }
                Piece::Bytes(bytes, true)
            }
            Self::Coming(body) => {
                *self = Self::Reading(None);
                Piece::Wait(Some(body))
            }
            Self::Reading(waker) => {
                *self = Self::Reading(waker);
                Piece::Wait(None)
            }
            Self::Given => Piece::Given,
            Self::Broken => {
                *self = Self::Broken;
                Piece::Broken
            }
        }
    }
}

/// The task that waits for the next piece. The client is read from no further than that.
pub(super) async fn read_on(exchange: Rc<Exchange>, mut body: Body) {
    let piece = {
        let mut next = pin!(next_chunk(&mut body));
        poll_fn(|cx| {
            if !exchange.awaits_body(cx) {
                return Poll::Ready(None);
            }
            next.as_mut().poll(cx).map(Some)
        })
        .await
    };
    if let Some(piece) = piece {
        exchange.hold(Input::after(piece, body));
    }
}
