//! Answers are sent late: when every connection that had something to read in this turn of the worker has been served.
//!
//! An answer that is sent at once wakes a client, which may take the processor from the worker between two of its
//! requests. Sent together at the end of the turn, the same answers cost the kernel less. The turn's end is a task: the
//! runtime wakes the connections that are ready, in one go, before it runs any, so the task that the first of them wakes
//! comes behind all of them. No answer waits for more than a tick of the coarse clock (4 ms and less), even if a
//! service keeps the thread for that long.
//!
//! The same task ends what requests of one turn share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nix::time::{ClockId, clock_gettime};

use super::io::Wire;

/// The connections whose answers wait for the end of the turn.
#[derive(Debug, Default)]
pub(crate) struct Late {
    wires: RefCell<Vec<Rc<Wire>>>,
    /// The task that ends the turn; without one nothing is late.
    sender: RefCell<Option<Waker>>,
    /// When the first of them began to wait.
    since: Cell<i64>,
    /// When requests of this turn began to share something.
    shared: Cell<Option<i64>>,
}

/// What a request finds of those before it in the same turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: no task ends turns.
    Alone,
    /// Nothing: it is the first, or the last one is too long ago.
    First,
    /// What they share.
    Another,
}

impl Late {
    /// Whether there is a task to send what is late.
    pub(crate) fn is_served(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// `wire` has gathered answers; they are sent at the end of the turn, or now, where it has lasted too long.
    pub(crate) fn add(&self, wire: Rc<Wire>) {
        let mut wires = self.wires.borrow_mut();
        wires.push(wire);
        let now = tick();
        if wires.len() == 1 {
            self.since.set(now);
            if let Some(sender) = &*self.sender.borrow() {
                sender.wake_by_ref();
            }
        } else if now != self.since.get() {
            drop(wires);
            self.send();
        }
    }

    /// A request joins those that share something until the task runs, for a tick of the coarse clock at the most.
    pub(super) fn join(&self) -> Turn {
        let sender = self.sender.borrow();
        let Some(sender) = &*sender else {
            return Turn::Alone;
        };
        let now = tick();
        match self.shared.replace(Some(now)) {
            Some(before) if before == now => Turn::Another,
            Some(_) => Turn::First,
            None => {
                sender.wake_by_ref();
                Turn::First
            }
        }
    }

    /// The task. Never ends.
    pub(crate) fn poll_send(&self, cx: &Context<'_>) -> Poll<()> {
        let mut sender = self.sender.borrow_mut();
        if !sender
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *sender = Some(cx.waker().clone());
        }
        drop(sender);
        self.shared.set(None);
        self.send();
        Poll::Pending
    }

    fn send(&self) {
        // Whoever is woken by this may have more to send: the list is not held meanwhile.
        let mut wires = self.wires.take();
        for wire in wires.drain(..) {
            wire.send_late();
        }
        let mut kept = self.wires.borrow_mut();
        if kept.is_empty() {
            // The allocation, for the next turn.
            *kept = wires;
        }
    }
}

/// The coarse clock, which costs no system call and next to no time.
fn tick() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |now| {
        now.tv_sec()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(now.tv_nsec())
    })
}
