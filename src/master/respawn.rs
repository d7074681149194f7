//! How soon a worker that died is replaced: at once, unless workers keep dying young. Pure, given `now`.

use std::time::{Duration, Instant};

/// A worker that lived at least this long did not die of starting.
const GROWN_UP: Duration = Duration::from_secs(2);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The pace of replacements.
#[derive(Debug, Default)]
pub(crate) struct Respawn {
    early_deaths: u32,
    /// When the last of them was. Who was born before died with that one, not after it.
    last: Option<Instant>,
    not_before: Option<Instant>,
    /// A worker born since the last early death is ready, since then.
    ready: Option<Instant>,
}

impl Respawn {
    /// A worker born at `born` died; whether it did so of starting is to be told by its age, unless it never was `ready`.
    /// True where a series begins: the time to say so in the log.
    pub(crate) fn died(&mut self, born: Instant, ready: bool, now: Instant) -> bool {
        if ready && now.saturating_duration_since(born) >= GROWN_UP {
            return false;
        }
        if self.last.is_some_and(|last| born <= last) {
            // Several die together: of one cause, which may be gone.
            return false;
        }
        self.count(now)
    }

    /// Starting failed (no memory, no process to be had): the next try comes later, like after an early death.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.early_deaths = self.early_deaths.max(1);
        self.count(now)
    }

    fn count(&mut self, now: Instant) -> bool {
        self.early_deaths = self.early_deaths.saturating_add(1);
        self.last = Some(now);
        self.ready = None;
        if self.early_deaths < 2 {
            // One death is an accident: the successor comes at once.
            return false;
        }
        let doublings = (self.early_deaths - 2).min(16);
        let delay = FIRST_DELAY
            .saturating_mul(1 << doublings)
            .min(LONGEST_DELAY);
        self.not_before = Some(now + delay);
        self.early_deaths == 2
    }

    /// A worker born at `born` is ready: if it lives on, the series has ended.
    pub(crate) fn ready(&mut self, born: Instant, now: Instant) {
        if self.last.is_some_and(|last| born > last) {
            self.ready.get_or_insert(now);
        }
    }

    /// Whether a series has ended by now: the time to say so in the log.
    pub(crate) fn healed(&mut self, now: Instant) -> bool {
        if self.ready.is_none_or(|ready| now < ready + GROWN_UP) {
            return false;
        }
        let looped = self.early_deaths > 1;
        self.forget();
        looped
    }

    /// What was is no sign of what comes: the configuration or the code has changed.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How many died young in a row.
    pub(crate) const fn early_deaths(&self) -> u32 {
        self.early_deaths
    }

    /// When the next worker may start, if not now.
    pub(crate) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|moment| *moment > now)
    }

    /// The next moment at which something changes by itself.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let healed = self.ready.map(|ready| ready + GROWN_UP);
        self.wait_until(now).into_iter().chain(healed).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_millis(1);
    const ALMOST: Duration = GROWN_UP.saturating_sub(LATER);

    #[test]
    fn the_first_death_is_replaced_at_once_and_a_series_backs_off_to_five_seconds() {
        let mut now = Instant::now();
        let mut respawn = Respawn::default();
        assert!(!respawn.died(now, false, now));
        assert_eq!(respawn.wait_until(now), None);
        let mut delays = Vec::new();
        for death in 0..9 {
            let born = now + LATER;
            now = born + LATER;
            assert_eq!(respawn.died(born, false, now), death == 0, "told once");
            delays.push(respawn.wait_until(now).unwrap() - now);
        }
        assert_eq!(delays[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(delays[8], LONGEST_DELAY);
    }

    #[test]
    fn who_was_ready_and_dies_young_counts_too() {
        let mut now = Instant::now();
        let mut respawn = Respawn::default();
        for _ in 0..5 {
            let born = now + LATER;
            respawn.ready(born, born);
            now = born + ALMOST;
            assert!(!respawn.healed(now));
            respawn.died(born, true, now);
        }
        assert_eq!(respawn.early_deaths(), 5);
    }

    #[test]
    fn who_never_was_ready_died_of_starting_however_long_that_took() {
        let born = Instant::now();
        let mut respawn = Respawn::default();
        respawn.died(born, false, born + GROWN_UP * 100);
        assert_eq!(respawn.early_deaths(), 1);
    }

    #[test]
    fn all_that_die_together_are_one_accident() {
        let born = Instant::now();
        let mut respawn = Respawn::default();
        for worker in 0..9 {
            respawn.died(born, true, born + LATER * (1 + worker));
        }
        assert_eq!(respawn.wait_until(born + LATER), None);
        assert_eq!(respawn.early_deaths(), 1);
    }

    #[test]
    fn a_worker_that_lives_on_ends_the_series_and_one_from_before_does_not() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        (1..6).for_each(|death| {
            respawn.died(now + LATER * death, false, now + LATER * death);
        });
        let later = now + LATER * 10;
        respawn.ready(now, later);
        assert!(
            !respawn.healed(later + GROWN_UP),
            "it was well all the time"
        );
        respawn.ready(later, later);
        assert_eq!(respawn.deadline(later + ALMOST), Some(later + GROWN_UP));
        assert!(!respawn.healed(later + ALMOST));
        assert!(respawn.healed(later + GROWN_UP), "told");
        assert!(!respawn.healed(later + GROWN_UP), "once");
        assert_eq!((respawn.early_deaths(), respawn.deadline(later)), (0, None));
    }

    #[test]
    fn an_old_workers_death_neither_begins_nor_ends_a_series() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        (1..6).for_each(|death| {
            respawn.died(now + LATER * death, false, now + LATER * death);
        });
        assert!(!respawn.died(now, true, now + GROWN_UP));
        assert_eq!(respawn.early_deaths(), 5);
    }

    #[test]
    fn a_fork_that_fails_waits_from_the_first_time() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        assert!(respawn.failed(now));
        assert!(respawn.wait_until(now).is_some());
        assert!(!respawn.failed(now), "told once");
    }
}
