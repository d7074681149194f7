//! The way of one answer from a thread of the app's back to the request's future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Response;

use super::board::Board;
use super::output::{Fed, Sent};
use crate::app::python::wsgi::{AppFailed, PyBody};
use crate::error::AnyError;

/// A response's body, as it comes from a thread.
pub(super) enum Delivery {
    /// All of it.
    Whole(Bytes),
    /// The thread goes on making it.
    Fed(Fed),
    /// A file, which the server reads.
    Sent(Sent),
}

impl From<Delivery> for PyBody {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Whole(bytes) => Self::whole(bytes),
            Delivery::Fed(fed) => Self::fed(fed),
            Delivery::Sent(sent) => Self::fed(sent),
        }
    }
}

/// What an app's call comes to.
pub(super) type Outcome = Result<Response<Delivery>, AnyError>;

/// The end that the app's answer goes into.
pub(super) struct Reply {
    state: Arc<Mutex<State>>,
    board: Arc<Board>,
}

/// The end that the request's future awaits.
pub(super) struct Awaited(Arc<Mutex<State>>);

enum State {
    Open(Option<Waker>),
    Answered(Outcome),
    Over,
}

/// A pair of ends.
pub(super) fn reply(board: &Arc<Board>) -> (Reply, Awaited) {
    let state = Arc::new(Mutex::new(State::Open(None)));
    let reply = Reply {
        state: Arc::clone(&state),
        board: Arc::clone(board),
    };
    (reply, Awaited(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reply {
    /// Answers. An answer that nobody waits for is dropped.
    pub(super) fn send(self, outcome: Outcome) {
        self.put(outcome);
    }

    /// Whether the request was given up: its client is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.state) == 1
    }

    fn put(&self, outcome: Outcome) {
        if self.is_abandoned() {
            return;
        }
        let mut state = lock(&self.state);
        if let State::Open(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Answered(outcome);
            drop(state);
            if let Some(waker) = waker {
                self.board.wake(waker);
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if matches!(*lock(&self.state), State::Open(_)) {
            self.put(Err(AppFailed::Abandoned.into()));
        }
    }
}

impl Future for Awaited {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = lock(&self.0);
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
