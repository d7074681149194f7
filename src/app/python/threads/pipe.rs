//! A bounded queue of bytes from a thread of the app's to a task of the runtime.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::board::Board;
use crate::app::python::named::Failure;
use crate::error::AnyError;

/// The queue.
pub(super) struct Pipe {
    state: Mutex<State>,
    /// There is room again, or the reader is gone.
    room: Condvar,
    board: Arc<Board>,
    limit: usize,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Their length in all.
    held: usize,
    /// The writer has said how it ended.
    end: Option<Result<(), Failure>>,
    /// The reader is gone.
    closed: bool,
    /// The reader waits.
    reader: Option<Waker>,
    /// The writer waits.
    blocked: bool,
}

/// Whether a writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// It should wait.
    Full,
    /// The reader is gone.
    Closed,
}

impl Pipe {
    /// An empty queue that is full with `limit` bytes or more.
    pub(super) fn new(limit: usize, board: Arc<Board>) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            board,
            limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a chunk in, full or not; a reader that is gone gets nothing. Says how it stands then.
    pub(super) fn push(&self, chunk: Bytes) -> Room {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return Room::Closed;
        }
        state.held += chunk.len();
        state.chunks.push_back(chunk);
        let room = if state.held < self.limit {
            Room::Free
        } else {
            Room::Full
        };
        let reader = state.reader.take();
        drop(state);
        self.tell(reader);
        room
    }

    /// Waits for half of it to be free, or for the reader to go. Not with the GIL held.
    pub(super) fn wait(&self) -> Room {
        let mut state = self.state();
        while !state.closed && state.held >= self.limit.div_ceil(2) {
            state.blocked = true;
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.blocked = false;
        if state.closed {
            Room::Closed
        } else {
            Room::Free
        }
    }

    /// Nothing more comes. Gives `end` back where nobody is left to be told.
    pub(super) fn finish(&self, end: Result<(), Failure>) -> Result<(), Failure> {
        let mut state = self.state();
        if state.closed {
            return end;
        }
        state.end = Some(end);
        let reader = state.reader.take();
        drop(state);
        self.tell(reader);
        Ok(())
    }

    fn tell(&self, reader: Option<Waker>) {
        if let Some(reader) = reader {
            self.board.wake(reader);
        }
    }

    /// The next chunk, for the reader.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnyError>>> {
        let mut state = self.state();
        let Some(chunk) = state.chunks.pop_front() else {
            return match state.end.take() {
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(end) => {
                    // What broke off is told once.
                    state.end = Some(Ok(()));
                    Poll::Ready(end.err().map(|failure| Err(failure.into_error())))
                }
            };
        };
        state.held -= chunk.len();
        let resume = state.blocked && state.held < self.limit.div_ceil(2);
        drop(state);
        if resume {
            self.room.notify_one();
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    /// The reader goes: what is held is dropped. Tells how the bytes broke off, if nobody has been told.
    #[must_use]
    pub(super) fn close(&self) -> Option<Failure> {
        let mut state = self.state();
        state.closed = true;
        state.held = 0;
        let dropped = std::mem::take(&mut state.chunks);
        let untold = state.end.take().and_then(Result::err);
        drop(state);
        self.room.notify_one();
        drop(dropped);
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::python::named::Named;

    fn pipe(limit: usize) -> Arc<Pipe> {
        Arc::new(Pipe::new(limit, Arc::default()))
    }

    fn take(pipe: &Pipe) -> Poll<Option<Result<Bytes, String>>> {
        let mut cx = Context::from_waker(Waker::noop());
        pipe.poll_take(&mut cx)
            .map(|item| item.map(|item| item.map_err(|error| error.to_string())))
    }

    fn failure(text: &'static str) -> Failure {
        let (parts, ()) = http::Request::new(()).into_parts();
        Failure::new(text.into(), Named::of(&parts))
    }

    fn chunk(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn what_goes_in_comes_out_and_then_the_end() {
        let pipe = pipe(8);
        assert_eq!(take(&pipe), Poll::Pending);
        assert_eq!(pipe.push(chunk("a")), Room::Free);
        assert_eq!(pipe.push(chunk("b")), Room::Free);
        assert!(pipe.finish(Ok(())).is_ok());
        assert_eq!(take(&pipe), Poll::Ready(Some(Ok(chunk("a")))));
        assert_eq!(take(&pipe), Poll::Ready(Some(Ok(chunk("b")))));
        assert_eq!(take(&pipe), Poll::Ready(None));
        assert_eq!(take(&pipe), Poll::Ready(None));
    }

    #[test]
    fn a_break_is_told_after_what_came_before_and_once() {
        let pipe = pipe(8);
        pipe.push(chunk("a"));
        assert!(pipe.finish(Err(failure("cut"))).is_ok());
        assert_eq!(take(&pipe), Poll::Ready(Some(Ok(chunk("a")))));
        assert_eq!(take(&pipe), Poll::Ready(Some(Err("cut".into()))));
        assert_eq!(take(&pipe), Poll::Ready(None));
    }

    #[test]
    fn a_writer_waits_until_half_of_it_is_free() {
        let pipe = pipe(4);
        assert_eq!(pipe.push(chunk("ab")), Room::Free);
        assert_eq!(pipe.push(chunk("cd")), Room::Full);
        assert_eq!(pipe.push(chunk("e")), Room::Full, "nothing is lost");
        let writer = {
            let pipe = Arc::clone(&pipe);
            std::thread::Builder::new()
                .spawn(move || pipe.wait())
                .unwrap()
        };
        assert!(take(&pipe).is_ready());
        assert!(take(&pipe).is_ready());
        assert_eq!(writer.join().unwrap(), Room::Free);
    }

    #[test]
    fn a_reader_that_goes_frees_the_writer() {
        let pipe = pipe(1);
        assert_eq!(pipe.push(chunk("ab")), Room::Full);
        let writer = {
            let pipe = Arc::clone(&pipe);
            std::thread::Builder::new()
                .spawn(move || pipe.wait())
                .unwrap()
        };
        assert!(pipe.close().is_none());
        assert_eq!(writer.join().unwrap(), Room::Closed);
        assert_eq!(pipe.push(chunk("c")), Room::Closed);
        assert!(pipe.finish(Err(failure("nobody"))).is_err());
    }

    #[test]
    fn a_break_that_nobody_takes_comes_back() {
        let pipe = pipe(1);
        assert!(pipe.finish(Err(failure("early"))).is_ok());
        let untold = pipe.close().expect("it was not taken");
        assert_eq!(untold.into_error().to_string(), "early");
    }
}
