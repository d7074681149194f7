//! A bounded queue of bytes between a task of the runtime and a greenlet, on one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

/// The queue. `E` is how the bytes may break off, `G` how a waiting greenlet is resumed. Whoever is to go on is returned,
/// for the caller to tell once nothing is borrowed.
pub(super) struct Pipe<E, G>(RefCell<State<E, G>>);

struct State<E, G> {
    chunks: VecDeque<Bytes>,
    /// Their length in all.
    held: usize,
    limit: usize,
    /// The writer has said how it ended.
    end: Option<Result<(), E>>,
    /// The reader has asked for something at least once.
    wanted: bool,
    /// The reader is gone.
    closed: bool,
    reader: Option<Side<G>>,
    writer: Option<Side<G>>,
}

/// Who waits at one end.
#[derive(Debug)]
pub(super) enum Side<G> {
    Task(Waker),
    Greenlet(G),
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<E> {
    Chunk(Bytes),
    End(Result<(), E>),
    /// Nothing is there yet.
    Nothing,
}

/// Whether a writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room, and the reader has asked.
    Free,
    /// The writer should wait.
    Full,
    /// The reader is gone.
    Closed,
}

impl<E, G> Pipe<E, G> {
    /// An empty queue that is full with `limit` bytes or more.
    pub(super) fn new(limit: usize) -> Self {
        Self(RefCell::new(State {
            chunks: VecDeque::new(),
            held: 0,
            limit,
            end: None,
            wanted: false,
            closed: false,
            reader: None,
            writer: None,
        }))
    }

    /// Puts a chunk in, full or not; a reader that is gone gets nothing. Returns the reader, if it waits.
    #[must_use]
    pub(super) fn push(&self, chunk: Bytes) -> Option<Side<G>> {
        let mut state = self.0.borrow_mut();
        if state.closed || state.end.is_some() {
            return None;
        }
        state.held += chunk.len();
        state.chunks.push_back(chunk);
        state.reader.take()
    }

    /// Nothing more comes; the first end stands. Returns the reader, if it waits.
    ///
    /// # Errors
    /// That of `end`, where nobody is left to be told.
    pub(super) fn finish(&self, end: Result<(), E>) -> Result<Option<Side<G>>, E> {
        let mut state = self.0.borrow_mut();
        if state.closed {
            end?;
        } else if state.end.is_none() {
            state.end = Some(end);
        }
        Ok(state.reader.take())
    }

    /// Takes what is next. Returns the writer as well, if it waited for that.
    #[must_use]
    pub(super) fn take(&self) -> (Taken<E>, Option<Side<G>>) {
        let mut state = self.0.borrow_mut();
        let blocked = !state.has_room();
        state.wanted = true;
        let taken = match state.chunks.pop_front() {
            Some(chunk) => {
                state.held -= chunk.len();
                Taken::Chunk(chunk)
            }
            None => match state.end.take() {
                // What broke off is told once; after that there is nothing.
                Some(end) => {
                    state.end = Some(Ok(()));
                    Taken::End(end)
                }
                None => Taken::Nothing,
            },
        };
        let writer = if blocked && state.has_room() {
            state.writer.take()
        } else {
            None
        };
        (taken, writer)
    }

    /// The reader goes: what is held is dropped. Returns the writer, if it waits.
    #[must_use]
    pub(super) fn close(&self) -> Option<Side<G>> {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        state.held = 0;
        let dropped = std::mem::take(&mut state.chunks);
        let writer = state.writer.take();
        drop(state);
        drop(dropped);
        writer
    }

    /// How the bytes broke off, if the reader went before it was told.
    pub(super) fn untold(&self) -> Option<E> {
        let mut state = self.0.borrow_mut();
        let end = state.end.take();
        end.and_then(|end| end.map(|()| state.end = Some(Ok(()))).err())
    }

    /// Whether a writer goes on.
    pub(super) fn room(&self) -> Room {
        let state = self.0.borrow();
        if state.closed {
            Room::Closed
        } else if state.has_room() {
            Room::Free
        } else {
            Room::Full
        }
    }

    /// The reader waits, or no longer does.
    pub(super) fn park_reader(&self, side: Option<Side<G>>) {
        let previous = std::mem::replace(&mut self.0.borrow_mut().reader, side);
        drop(previous);
    }

    /// The writer waits for room or the end of the reader, or no longer does.
    pub(super) fn park_writer(&self, side: Option<Side<G>>) {
        let previous = std::mem::replace(&mut self.0.borrow_mut().writer, side);
        drop(previous);
    }
}

impl<E, G> State<E, G> {
    fn has_room(&self) -> bool {
        self.wanted && self.held < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Pipe<&'static str, u8>;

    fn chunk(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn greenlet(side: Option<Side<u8>>) -> Option<u8> {
        match side? {
            Side::Greenlet(id) => Some(id),
            Side::Task(_) => None,
        }
    }

    #[test]
    fn what_goes_in_comes_out_and_then_the_end() {
        let pipe = Tested::new(8);
        assert!(pipe.push(chunk("a")).is_none());
        assert!(pipe.push(chunk("b")).is_none());
        assert!(matches!(pipe.finish(Ok(())), Ok(None)));
        assert_eq!(pipe.take().0, Taken::Chunk(chunk("a")));
        assert_eq!(pipe.take().0, Taken::Chunk(chunk("b")));
        assert_eq!(pipe.take().0, Taken::End(Ok(())));
        assert_eq!(pipe.take().0, Taken::End(Ok(())));
    }

    #[test]
    fn a_break_is_told_after_what_came_before_and_once() {
        let pipe = Tested::new(8);
        assert!(pipe.push(chunk("a")).is_none());
        assert!(matches!(pipe.finish(Err("cut")), Ok(None)));
        assert!(matches!(pipe.finish(Ok(())), Ok(None)));
        assert_eq!(pipe.take().0, Taken::Chunk(chunk("a")));
        assert_eq!(pipe.take().0, Taken::End(Err("cut")));
        assert_eq!(pipe.take().0, Taken::End(Ok(())));
    }

    #[test]
    fn a_waiting_reader_is_told_of_a_chunk_and_of_the_end() {
        let pipe = Tested::new(8);
        assert_eq!(pipe.take().0, Taken::Nothing);
        pipe.park_reader(Some(Side::Greenlet(1)));
        assert_eq!(greenlet(pipe.push(chunk("a"))), Some(1));
        assert!(pipe.push(chunk("b")).is_none(), "told once");
        pipe.park_reader(Some(Side::Greenlet(2)));
        let reader = pipe.finish(Ok(())).expect("it is there");
        assert_eq!(greenlet(reader), Some(2));
    }

    #[test]
    fn a_writer_waits_for_the_first_question_and_for_room() {
        let pipe = Tested::new(2);
        assert_eq!(pipe.room(), Room::Full, "nobody has asked yet");
        pipe.park_writer(Some(Side::Greenlet(1)));
        assert_eq!(greenlet(pipe.take().1), Some(1));
        assert_eq!(pipe.room(), Room::Free);
        drop(pipe.push(chunk("abc")));
        assert_eq!(pipe.room(), Room::Full);
        pipe.park_writer(Some(Side::Greenlet(2)));
        assert_eq!(greenlet(pipe.take().1), Some(2));
        assert_eq!(pipe.room(), Room::Free);
    }

    #[test]
    fn a_reader_that_goes_frees_the_writer() {
        let pipe = Tested::new(1);
        drop(pipe.push(chunk("ab")));
        pipe.park_writer(Some(Side::Greenlet(1)));
        assert_eq!(greenlet(pipe.close()), Some(1));
        assert_eq!(pipe.room(), Room::Closed);
        assert!(pipe.push(chunk("c")).is_none());
        assert_eq!(pipe.take().0, Taken::Nothing);
    }

    #[test]
    fn a_break_that_nobody_takes_comes_back() {
        let pipe = Tested::new(8);
        assert!(matches!(pipe.finish(Err("early")), Ok(None)));
        assert!(pipe.close().is_none());
        assert_eq!(pipe.untold(), Some("early"));
        assert_eq!(pipe.untold(), None, "once");
        let pipe = Tested::new(8);
        assert!(pipe.close().is_none());
        assert!(matches!(pipe.finish(Err("late")), Err("late")));
        assert!(matches!(pipe.finish(Ok(())), Ok(None)));
        let pipe = Tested::new(8);
        assert!(matches!(pipe.finish(Err("in time")), Ok(None)));
        assert_eq!(pipe.take().0, Taken::End(Err("in time")));
        assert_eq!(pipe.untold(), None);
    }
}
