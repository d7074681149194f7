//! Which connections go first where a worker holds all that it may and others wait: those whose end costs least.

use std::cmp::Reverse;
use std::time::Instant;

use super::{Connections, Phase, Verdict, Watch};

/// A client that has been silent between requests for this long, in milliseconds, is not about to send the next one.
/// These times are of the coarse clock: half of a sweep more than the least that is meant.
const IDLE: u64 = 500;
/// How long the end of a closed connection is waited for, in milliseconds.
const LINGERING: u64 = 250;
/// How long a client may be silent that owes us a request, or the rest of one, in milliseconds.
const STALLED: u64 = 1250;

/// What is lost with a connection, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    /// All was said.
    Nothing,
    /// A connection that would have been used again, perhaps.
    Kept,
    /// One that was never used.
    Unused,
    /// Half a head.
    Head,
    /// A request whose body does not come.
    Body,
}

impl Watch {
    /// What its end would cost and how it would end; `None` if it is at work, or not silent for long enough.
    fn loss(&self) -> Option<(Loss, Verdict)> {
        if self.verdict.get().is_some() || self.refused || self.part {
            return None;
        }
        let age = self.clock.now.get().saturating_sub(self.since.get());
        match self.phase.get() {
            Phase::Lingering if age >= LINGERING => Some((Loss::Nothing, Verdict::Close)),
            Phase::Idle if age >= IDLE => Some((Loss::Kept, Verdict::Close)),
            Phase::Greeting | Phase::Handshake | Phase::Fresh if age >= STALLED => {
                Some((Loss::Unused, Verdict::Close))
            }
            Phase::Head if age >= STALLED => Some((Loss::Head, Verdict::SlowHead)),
            Phase::Receiving if self.received.behind.get() >= STALLED => {
                Some((Loss::Body, Verdict::SlowBody))
            }
            Phase::Lingering
            | Phase::Idle
            | Phase::Greeting
            | Phase::Handshake
            | Phase::Fresh
            | Phase::Head
            | Phase::Receiving
            | Phase::Handling
            | Phase::Streams
            | Phase::Upgraded => None,
        }
    }
}

impl Connections {
    /// Ends at most `most` connections that serve nobody, to make room: those between requests first, then those that
    /// have sent nothing, half a head (408), half a body (408); of one kind the longest silent. Tells how many.
    pub(crate) fn shed(&self, most: usize, now: Instant) -> usize {
        self.sweep(now);
        let slots = self.slots.borrow();
        let mut found: Vec<_> = slots
            .iter()
            .filter_map(|(_, watch)| Some((watch.loss()?, watch)))
            .collect();
        let oldest = |watch: &Watch| (watch.since.get(), Reverse(watch.received.behind.get()));
        found.sort_unstable_by_key(|((loss, _), watch)| (*loss, oldest(watch)));
        let shed = found.iter().take(most);
        for ((_, verdict), watch) in shed.clone() {
            watch.shed.set(true);
            watch.verdict.set(Some(*verdict));
            watch.wake();
        }
        shed.len()
    }

    /// A connection waits for room to shake hands, as long as this is held.
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "nobody shakes hands")
    )]
    pub(crate) fn queue_for_handshake(&self) -> Queued<'_> {
        self.queued.set(self.queued.get() + 1);
        Queued(self)
    }

    /// Ends handshakes in which the client is silent, as many as others wait for room; the longest silent first.
    pub(super) fn make_room_for_handshakes(&self) {
        let slots = self.slots.borrow();
        let now = self.clock.now.get();
        let age = |watch: &Watch| now.saturating_sub(watch.since.get());
        let mut silent: Vec<_> = slots
            .iter()
            .map(|(_, watch)| watch)
            .filter(|watch| watch.phase.get() == Phase::Handshake)
            .filter(|watch| watch.verdict.get().is_none() && age(watch) >= STALLED)
            .collect();
        silent.sort_unstable_by_key(|watch| watch.since.get());
        for watch in silent.into_iter().take(self.queued.get()) {
            watch.verdict.set(Some(Verdict::Close));
            watch.wake();
        }
    }
}

/// A place among those who wait for room to shake hands.
#[derive(Debug)]
pub(crate) struct Queued<'a>(&'a Connections);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.set(self.0.queued.get().saturating_sub(1));
    }
}
