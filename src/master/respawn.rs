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
    not_before: Option<Instant>,
}

impl Respawn {
    /// A worker died after `lived`. True at the first of a series: the time to say so in the log.
    pub(crate) fn died(&mut self, lived: Duration, now: Instant) -> bool {
        if lived >= GROWN_UP {
            self.healthy();
            return false;
        }
        self.early_deaths = self.early_deaths.saturating_add(1);
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

    /// Starting failed (no memory, no process to be had): the next try comes later, like after an early death.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.early_deaths = self.early_deaths.max(1);
        self.died(Duration::ZERO, now)
    }

    /// A worker is ready and well: the next death is an accident again.
    pub(crate) fn healthy(&mut self) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_replaced_at_once_and_a_series_backs_off_to_five_seconds() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        assert!(!respawn.died(Duration::ZERO, now));
        assert_eq!(respawn.wait_until(now), None);
        let mut delays = Vec::new();
        for death in 0..9 {
            assert_eq!(respawn.died(Duration::ZERO, now), death == 0, "told once");
            delays.push(respawn.wait_until(now).unwrap() - now);
        }
        assert_eq!(delays[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(delays[8], LONGEST_DELAY);
    }

    #[test]
    fn a_worker_that_lived_or_became_ready_ends_the_series() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        (0..5).for_each(|_| {
            respawn.died(Duration::ZERO, now);
        });
        assert!(!respawn.died(GROWN_UP, now));
        assert_eq!(respawn.wait_until(now), None);
    }

    #[test]
    fn a_fork_that_fails_waits_from_the_first_time() {
        let now = Instant::now();
        let mut respawn = Respawn::default();
        assert!(respawn.failed(now));
        assert!(respawn.wait_until(now).is_some());
    }
}
