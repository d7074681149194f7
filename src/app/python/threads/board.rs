//! Which tasks the threads' answers wake.
//!
//! A wake from another thread writes to the runtime's eventfd. So threads only note whom to wake, and the first note of several
//! wakes one task, which wakes the others on the runtime's own thread.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The notes.
#[derive(Default)]
pub(super) struct Board(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    tasks: Vec<Waker>,
    /// The task that reads them.
    reader: Option<Waker>,
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `task`, soon.
    pub(super) fn wake(&self, task: Waker) {
        let mut notes = self.notes();
        let first = notes.tasks.is_empty();
        notes.tasks.push(task);
        let reader = if first { notes.reader.clone() } else { None };
        drop(notes);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The task that reads the notes; never ends.
    pub(super) async fn read(self: Arc<Self>) {
        let mut tasks = Vec::new();
        poll_fn(|cx| {
            {
                let mut notes = self.notes();
                if !notes
                    .reader
                    .as_ref()
                    .is_some_and(|reader| reader.will_wake(cx.waker()))
                {
                    notes.reader = Some(cx.waker().clone());
                }
                std::mem::swap(&mut tasks, &mut notes.tasks);
            }
            tasks.drain(..).for_each(Waker::wake);
            Poll::<()>::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_reader_is_woken_once_and_wakes_all() {
        let board = Arc::new(Board::default());
        let (reader, task) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let count = |counter: &Arc<Counter>| counter.0.load(Ordering::Relaxed);
        // Before there is a reader, too.
        board.wake(Arc::clone(&task).into());
        let mut reading = pin!(Arc::clone(&board).read());
        let waker = Waker::from(Arc::clone(&reader));
        let mut cx = Context::from_waker(&waker);
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(count(&task), 1);
        board.wake(Arc::clone(&task).into());
        board.wake(Arc::clone(&task).into());
        assert_eq!((count(&reader), count(&task)), (1, 1));
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(count(&task), 3);
        board.wake(Arc::clone(&task).into());
        assert_eq!(count(&reader), 2);
    }
}
