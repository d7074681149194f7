//! Whether the app is called at once, or after the other requests of the turn have been read as well.
//!
//! A call at once saves the way through a queue, which counts for an app of a few microseconds. For a slower one it pays
//! to read what is there, call, and then write all answers: the clients are woken once. Where requests come one at a
//! time there is nothing to gather, however slow the app is.

use std::cell::Cell;
use std::time::Duration;

/// The moving mean of the app's time, in nanoseconds, and what follows from it.
#[derive(Debug)]
pub(super) struct Pace {
    mean: Cell<u64>,
    /// Calls until the next one that is timed.
    untimed: Cell<u32>,
    mode: Cell<Mode>,
    /// Calls that took [`LONG`], less those that did not.
    long: Cell<u8>,
    /// The turn of the last request, and how many there were in it so far.
    turn: Cell<(u32, u32)>,
    /// There were several in the turn before that.
    company: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each request is served as it is read.
    AtOnce,
    /// Requests are gathered, then served, then answered.
    Batch,
}

/// From this mean on requests are gathered.
const SLOW: Duration = Duration::from_micros(15);
/// Below this mean no longer.
const FAST: Duration = Duration::from_micros(12);
/// One call in so many is timed while they are served at once: reading the clock is dear beside them.
const SAMPLE: u32 = 8;
/// Whoever waits behind a request of this time had better wait elsewhere.
const LONG: Duration = Duration::from_millis(5);
/// So many more of such calls than of others make an app one of them: one that is slow at first, or was interrupted, is not.
const ENOUGH: u8 = 4;
/// No more are counted, so that an app which is quick again is soon known to be.
const COUNTED: u8 = 8;
/// The weight of a new time is one in so many.
const WEIGHT: u64 = 8;

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            mean: Cell::new(0),
            untimed: Cell::new(0),
            mode: Cell::new(Mode::AtOnce),
            long: Cell::new(0),
            turn: Cell::new((0, 0)),
            company: Cell::new(false),
        }
    }

    /// What is to be done with a request that was read in this turn of the worker.
    pub(super) fn mode(&self, turn: u32) -> Mode {
        if self.mode.get() == Mode::AtOnce {
            return Mode::AtOnce;
        }
        let (last, count) = self.turn.get();
        let count = if last == turn {
            count + 1
        } else {
            self.company.set(count > 1);
            1
        };
        self.turn.set((turn, count));
        if count > 1 || self.company.get() {
            Mode::Batch
        } else {
            Mode::AtOnce
        }
    }

    /// Whether a request holds the worker for so long that others had better go to another one.
    pub(super) fn is_long(&self) -> bool {
        self.long.get() >= ENOUGH
    }

    /// Whether this call is to be timed.
    pub(super) fn samples(&self) -> bool {
        if self.long.get() > 0 {
            return true;
        }
        match self.untimed.get() {
            0 => {
                self.untimed.set(SAMPLE - 1);
                true
            }
            left => {
                self.untimed.set(left - 1);
                false
            }
        }
    }

    /// A call took `time`.
    pub(super) fn record(&self, time: Duration) {
        let long = self.long.get();
        self.long.set(if time >= LONG {
            COUNTED.min(long + 1)
        } else {
            long.saturating_sub(1)
        });
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mean = self.mean.get();
        let mean = mean - mean / WEIGHT + time / WEIGHT;
        self.mean.set(mean);
        let mean = Duration::from_nanos(mean);
        if mean >= SLOW {
            self.mode.set(Mode::Batch);
        } else if mean < FAST {
            self.mode.set(Mode::AtOnce);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &Pace, micros: u64, times: u32) -> Mode {
        for _ in 0..times {
            pace.record(Duration::from_micros(micros));
        }
        // Never alone.
        pace.mode(1);
        pace.mode(1)
    }

    #[test]
    fn a_fast_app_is_called_at_once_and_a_slow_one_in_batches() {
        let pace = Pace::new();
        assert_eq!(pace.mode(1), Mode::AtOnce);
        assert_eq!(after(&pace, 3, 100), Mode::AtOnce);
        assert_eq!(after(&pace, 60, 100), Mode::Batch);
        assert_eq!(after(&pace, 3, 100), Mode::AtOnce);
    }

    #[test]
    fn between_the_two_limits_nothing_changes() {
        let pace = Pace::new();
        assert_eq!(after(&pace, 13, 1000), Mode::AtOnce);
        assert_eq!(after(&pace, 60, 1000), Mode::Batch);
        assert_eq!(after(&pace, 14, 1000), Mode::Batch);
    }

    #[test]
    fn an_app_is_long_when_most_of_its_calls_are() {
        let pace = Pace::new();
        after(&pace, 4_900, 1000);
        assert!(!pace.is_long());
        after(&pace, 900_000, 3);
        assert!(!pace.is_long(), "slow at first");
        assert!(
            pace.samples() && pace.samples(),
            "each is timed from now on"
        );
        after(&pace, 100, 100);
        assert!(!pace.is_long());
        after(&pace, 5_000, 4);
        assert!(pace.is_long());
        after(&pace, 5_000, 100);
        after(&pace, 100, 5);
        assert!(!pace.is_long());
    }

    #[test]
    fn one_long_call_is_enough() {
        let pace = Pace::new();
        assert_eq!(after(&pace, 100_000, 1), Mode::Batch);
    }

    #[test]
    fn one_call_in_eight_is_timed() {
        let pace = Pace::new();
        assert_eq!((0..80).filter(|_| pace.samples()).count(), 10);
    }

    #[test]
    fn a_time_without_end_does_not_overflow() {
        let pace = Pace::new();
        for _ in 0..100 {
            pace.record(Duration::MAX);
        }
        pace.mode(1);
        assert_eq!(pace.mode(1), Mode::Batch);
    }

    #[test]
    fn what_comes_alone_is_served_at_once() {
        let pace = Pace::new();
        pace.record(Duration::from_millis(1));
        for turn in 1..10 {
            assert_eq!(pace.mode(turn), Mode::AtOnce);
        }
        assert_eq!(pace.mode(10), Mode::AtOnce, "nobody knows of the next yet");
        assert_eq!(pace.mode(10), Mode::Batch);
        assert_eq!(pace.mode(11), Mode::Batch, "there was company");
        assert_eq!(pace.mode(12), Mode::AtOnce, "there no longer is");
    }
}
