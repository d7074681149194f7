//! The way of one answer from a thread of the app's back to the request's future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::board::Board;
use super::output::{Fed, Sent};
use crate::app::Line;
use crate::app::python::wsgi::{AppFailed, PyBody};
use crate::error::AnyError;

/// A response's body, as it comes from a thread.
pub(super) enum Delivery {
    /// All of it.
    Whole(Bytes),
    /// The thread goes on making it.
    Fed(Fed),
    /// A file, which the server reads.
    Sent(Box<Sent>),
}

impl From<Delivery> for PyBody {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Whole(bytes) => Self::whole(bytes),
            Delivery::Fed(fed) => Self::fed(fed),
            Delivery::Sent(sent) => Self::fed(*sent),
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
pub(super) struct Awaited {
    state: Arc<Mutex<State>>,
    line: Line,
}

struct State {
    stage: Stage,
    /// Early hints for the connection, which is not the thread's to touch.
    hints: Vec<HeaderMap>,
}

enum Stage {
    Open(Option<Waker>),
    Answered(Outcome),
    Over,
}

/// A pair of ends; early hints go to `line`.
pub(super) fn reply(board: &Arc<Board>, line: Line) -> (Reply, Awaited) {
    let state = Arc::new(Mutex::new(State {
        stage: Stage::Open(None),
        hints: Vec::new(),
    }));
    let reply = Reply {
        state: Arc::clone(&state),
        board: Arc::clone(board),
    };
    (reply, Awaited { state, line })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reply {
    /// Answers. An answer that nobody waits for is dropped.
    pub(super) fn send(self, outcome: Outcome) {
        self.put(outcome);
    }

    /// Sends early hints, unless the answer is there.
    pub(super) fn hint(&self, fields: HeaderMap) {
        let mut state = lock(&self.state);
        let Stage::Open(waker) = &mut state.stage else {
            return;
        };
        let waker = waker.take();
        state.hints.push(fields);
        drop(state);
        if let Some(waker) = waker {
            self.board.wake(waker);
        }
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
        if let Stage::Open(waker) = &mut state.stage {
            let waker = waker.take();
            state.stage = Stage::Answered(outcome);
            drop(state);
            if let Some(waker) = waker {
                self.board.wake(waker);
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if matches!(lock(&self.state).stage, Stage::Open(_)) {
            self.put(Err(AppFailed::Abandoned.into()));
        }
    }
}

impl Future for Awaited {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = lock(&self.state);
        let hints = std::mem::take(&mut state.hints);
        let outcome = if let Stage::Open(waker) = &mut state.stage {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            Poll::Pending
        } else {
            match std::mem::replace(&mut state.stage, Stage::Over) {
                Stage::Answered(outcome) => Poll::Ready(outcome),
                Stage::Open(_) | Stage::Over => Poll::Pending,
            }
        };
        drop(state);
        for fields in &hints {
            // A hint that cannot be sent is no loss.
            let _ = self.line.inform(StatusCode::EARLY_HINTS, fields);
        }
        outcome
    }
}
