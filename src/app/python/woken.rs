//! Tasks that Python code has woken between two turns of the runtime: they are woken within the next one, where that costs
//! no write to the runtime's eventfd.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How long several of them wait for a turn, while Python code goes on with others.
const PATIENCE: Duration = Duration::from_micros(500);

/// Tasks to wake in the next turn.
#[derive(Default)]
pub(super) struct Woken {
    tasks: RefCell<Vec<Waker>>,
    /// Since when several have been waiting, as far as anybody asked.
    since: Cell<Option<Instant>>,
    /// A turn is running: tasks can be woken now.
    turning: Cell<bool>,
}

impl Woken {
    /// One more.
    pub(super) fn push(&self, task: Waker) {
        self.tasks.borrow_mut().push(task);
    }

    /// More, which are taken from there.
    pub(super) fn append(&self, tasks: &mut Vec<Waker>) {
        self.tasks.borrow_mut().append(tasks);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// Whether several have been waiting for a turn for a while.
    ///
    /// What waits for the same (a time, a lock) goes on one after the other, with no turn between. Were the answers
    /// written at the end of it all, their clients would ask all at once again, and that for ever.
    pub(super) fn are_overdue(&self) -> bool {
        if self.turning.get() || self.tasks.borrow().len() < 2 {
            return false;
        }
        let now = Instant::now();
        if let Some(since) = self.since.get() {
            return now - since >= PATIENCE;
        }
        self.since.set(Some(now));
        false
    }

    /// A turn begins: nobody has been waiting.
    pub(super) fn begin(&self) {
        self.since.set(None);
        self.turning.set(true);
    }

    /// The turn has ended.
    pub(super) fn end(&self) {
        self.turning.set(false);
    }

    /// Whether a turn runs.
    pub(super) fn is_turning(&self) -> bool {
        self.turning.get()
    }

    /// Within a turn: wakes them.
    pub(super) fn wake(&self) {
        if !self.is_empty() {
            for task in self.take() {
                task.wake();
            }
        }
    }

    /// Takes them away.
    pub(super) fn take(&self) -> Vec<Waker> {
        self.tasks.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_overdue_after_a_while_and_no_more_once_a_turn_began() {
        let woken = Woken::default();
        woken.push(Waker::noop().clone());
        assert!(!woken.are_overdue(), "one alone");
        woken.since.set(Instant::now().checked_sub(2 * PATIENCE));
        assert!(!woken.are_overdue(), "one alone, for long");
        woken.push(Waker::noop().clone());
        assert!(woken.are_overdue());
        woken.begin();
        assert!(!woken.are_overdue(), "a turn runs");
        woken.end();
        assert!(!woken.are_overdue(), "the time begins with the question");
        assert!(woken.since.get().is_some());
    }
}
