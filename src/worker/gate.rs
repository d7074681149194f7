//! The hard cap of connections: a permit is taken before a connection is accepted and given back when it ends.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::scoreboard::Row;

/// What becomes of connections that wait in the kernel when a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Others accept them.
    Left,
    /// Nobody else would: all of them are accepted, however long it takes to have room.
    Emptied,
}

/// As many connections at a time are answered with 503 beyond the cap.
const SPARES: usize = 64;

/// Counts the connections of one worker.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    open: Cell<usize>,
    /// Connections beyond the limit, which get a 503.
    spares: Cell<usize>,
    row: Row,
    closing: Cell<Option<Queue>>,
    /// Acceptors that may still let somebody in.
    acceptors: Cell<usize>,
    /// A permit came back, the gate closes, or an acceptor has gone after that.
    changed: Notify,
    /// Another worker calls for help.
    called: Notify,
    /// The first connection is there.
    first: Notify,
}

impl Gate {
    /// Open, for `limit` connections.
    pub(crate) fn new(limit: usize, row: Row) -> Rc<Self> {
        Rc::new(Self {
            limit,
            open: Cell::new(0),
            spares: Cell::new(0),
            row,
            closing: Cell::new(None),
            acceptors: Cell::new(0),
            changed: Notify::new(),
            called: Notify::new(),
            first: Notify::new(),
        })
    }

    /// Counts one connection more; `None` at the cap.
    pub(crate) fn permit(self: &Rc<Self>) -> Option<Permit> {
        if self.is_full() {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Permit {
            gate: Rc::clone(self),
            counted: false,
        })
    }

    /// A place beyond the cap for a connection that gets a 503; `None` where too many get one now.
    pub(crate) fn spare(self: &Rc<Self>) -> Option<Spare> {
        let spares = self.spares.get();
        (spares < SPARES).then(|| {
            self.spares.set(spares + 1);
            Spare(Rc::clone(self))
        })
    }

    /// Whether the cap is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.open.get() >= self.limit
    }

    /// How many permits are out.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// The worker's counters.
    pub(crate) const fn row(&self) -> Row {
        self.row
    }

    /// No more connections from now on, but for what waits already where that is to be emptied.
    pub(crate) fn close(&self, queue: Queue) {
        self.closing.set(Some(queue));
        self.changed.notify_waiters();
    }

    /// Enters an acceptor, for as long as the guard lives.
    pub(crate) fn attend(self: &Rc<Self>) -> Attendance {
        self.acceptors.set(self.acceptors.get() + 1);
        Attendance(Rc::clone(self))
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// What becomes of who waits; `None` while the gate is open.
    pub(crate) fn queue(&self) -> Option<Queue> {
        self.closing.get()
    }

    /// Another worker, above its share, calls.
    pub(crate) fn call(&self) {
        self.called.notify_waiters();
    }

    /// Waits for such a call. Cancel safe.
    pub(crate) async fn called(&self) {
        self.called.notified().await;
    }

    /// Waits until there is room, or the gate closes. Cancel safe.
    pub(crate) async fn room(&self) {
        while self.is_full() && !self.is_closing() {
            self.changed.notified().await;
        }
    }

    /// Waits until there is room, also when the gate has closed. Cancel safe.
    pub(crate) async fn last_room(&self) {
        while self.is_full() {
            self.changed.notified().await;
        }
    }

    /// Waits until the gate closes. Cancel safe.
    pub(crate) async fn closed(&self) {
        while !self.is_closing() {
            self.changed.notified().await;
        }
    }

    /// Waits until there is a connection. Cancel safe.
    pub(crate) async fn any(&self) {
        while self.open.get() == 0 && self.spares.get() == 0 {
            self.first.notified().await;
        }
    }

    /// Waits until all permits are back and nobody hands out more. Cancel safe.
    pub(crate) async fn empty(&self) {
        while self.open.get() > 0 || self.spares.get() > 0 || self.acceptors.get() > 0 {
            self.changed.notified().await;
        }
    }
}

/// One acceptor's work.
#[derive(Debug)]
pub(crate) struct Attendance(Rc<Gate>);

impl Drop for Attendance {
    fn drop(&mut self) {
        let gate = &self.0;
        gate.acceptors.set(gate.acceptors.get() - 1);
        if gate.is_closing() {
            gate.changed.notify_waiters();
        }
    }
}

/// One connection's right to be.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Rc<Gate>,
    counted: bool,
}

impl Permit {
    /// The connection is there: others may see it.
    pub(crate) fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            self.gate.row.open_connection();
            if self.gate.open() == 1 {
                self.gate.first.notify_waiters();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.counted {
            self.gate.row.close_connection();
        }
        let gate = &self.gate;
        let was_full = gate.is_full();
        gate.open.set(gate.open.get() - 1);
        // Only who waits for room, or for the end, wants to know.
        if was_full || gate.is_closing() {
            gate.changed.notify_waiters();
        }
    }
}

/// The right of a connection beyond the cap to be told so.
#[derive(Debug)]
pub(crate) struct Spare(Rc<Gate>);

impl Drop for Spare {
    fn drop(&mut self) {
        let gate = &self.0;
        gate.spares.set(gate.spares.get() - 1);
        if gate.is_closing() {
            gate.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    fn gate(limit: usize) -> Rc<Gate> {
        Gate::new(limit, Scoreboard::new().unwrap().take().unwrap())
    }

    #[test]
    fn at_the_cap_there_is_no_permit_until_one_comes_back() {
        let gate = gate(2);
        let first = gate.permit().unwrap();
        let _second = gate.permit().unwrap();
        assert!(gate.permit().is_none());
        drop(first);
        assert!(gate.permit().is_some());
    }

    #[test]
    fn those_beyond_the_cap_are_few_and_count_for_nobody() {
        let gate = gate(1);
        let _permit = gate.permit().unwrap();
        let spares: Vec<_> = std::iter::from_fn(|| gate.spare()).collect();
        assert_eq!((spares.len(), gate.open()), (SPARES, 1));
        drop(spares);
        assert!(gate.spare().is_some());
    }

    #[tokio::test]
    async fn who_waits_for_room_and_for_the_end_is_told() {
        let gate = gate(1);
        let permit = gate.permit().unwrap();
        let mut room = Box::pin(gate.room());
        assert!(futures_poll(&mut room).is_none());
        drop(permit);
        assert!(futures_poll(&mut room).is_some());
        let permit = gate.permit().unwrap();
        let acceptor = gate.attend();
        gate.close(Queue::Emptied);
        let mut last_room = Box::pin(gate.last_room());
        assert!(futures_poll(&mut last_room).is_none());
        let mut empty = Box::pin(gate.empty());
        assert!(futures_poll(&mut empty).is_none());
        drop(permit);
        assert!(futures_poll(&mut last_room).is_some());
        assert!(futures_poll(&mut empty).is_none());
        drop(acceptor);
        assert!(futures_poll(&mut empty).is_some());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
