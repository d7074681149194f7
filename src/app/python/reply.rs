//! The way of one answer back to the request's future, on one thread.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::Response;

use super::wsgi::{AppFailed, PyBody};
use crate::error::AnyError;

/// What an app's call comes to.
pub(super) type Outcome = Result<Response<PyBody>, AnyError>;

/// The end that the app's answer goes into.
#[derive(Debug)]
pub(super) struct Reply(Rc<RefCell<State>>);

/// The end that the request's future awaits.
#[derive(Debug)]
pub(super) struct Awaited(Rc<RefCell<State>>);

#[derive(Debug)]
enum State {
    Open(Option<Waker>),
    Answered(Outcome),
    Over,
}

/// A pair of ends.
pub(super) fn reply() -> (Reply, Awaited) {
    let state = Rc::new(RefCell::new(State::Open(None)));
    (Reply(Rc::clone(&state)), Awaited(state))
}

impl Reply {
    /// Answers, and returns whom to wake. An answer that nobody waits for is dropped.
    #[must_use]
    pub(super) fn send(self, outcome: Outcome) -> Option<Waker> {
        self.put(outcome)
    }

    /// Whether the request was given up: its client is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    fn put(&self, outcome: Outcome) -> Option<Waker> {
        if self.is_abandoned() {
            return None;
        }
        let previous = self.0.replace(State::Answered(outcome));
        match previous {
            State::Open(waker) => waker,
            State::Answered(_) | State::Over => {
                // The first answer stands.
                drop(self.0.replace(previous));
                None
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let open = matches!(*self.0.borrow(), State::Open(_));
        if open && let Some(waker) = self.put(Err(AppFailed::Abandoned.into())) {
            waker.wake();
        }
    }
}

impl Future for Awaited {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.borrow_mut();
        if let State::Open(waker) = &mut *state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Answered(outcome) => Poll::Ready(outcome),
            State::Open(_) | State::Over => Poll::Pending,
        }
    }
}
