//! What a worker does at its cap of connections while more wait: pure, given what it sees and `now`.

use std::time::{Duration, Instant};

/// Other workers have so long to take what waits, before a connection of this one ends for it.
const OTHERS: Duration = Duration::from_millis(50);
/// After a look over all connections that found none to end, so long none is looked for.
const PAUSE: Duration = Duration::from_millis(90);
/// The most connections that one look ends.
const MOST: usize = 1024;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    /// Nothing but to wait.
    Wait,
    /// End so many connections that serve nobody, if there are any.
    Shed(usize),
    /// Answer those who wait with 503: nobody has made room for too long.
    Refuse,
}

/// How long things have been as they are.
#[derive(Debug)]
pub(super) struct Pressure {
    patience: Duration,
    /// Since when every look has found somebody waiting.
    waiting: Option<Instant>,
    /// Since when nobody who waits has been taken.
    stuck: Option<Instant>,
    /// The next look ends so many: twice as many as the last one, as long as that did not make room.
    batch: usize,
    nothing_before: Option<Instant>,
}

impl Pressure {
    /// None yet. Who waits for `patience` without anybody being taken is refused.
    pub(super) const fn new(patience: Duration) -> Self {
        Self {
            patience,
            waiting: None,
            stuck: None,
            batch: 1,
            nothing_before: None,
        }
    }

    /// At the cap: whether somebody `waits` in the kernel's queue.
    pub(super) fn look(&mut self, waits: bool, now: Instant) -> Relief {
        if !waits {
            *self = Self::new(self.patience);
            return Relief::Wait;
        }
        let waiting = *self.waiting.get_or_insert(now);
        let stuck = *self.stuck.get_or_insert(now);
        if now.saturating_duration_since(stuck) >= self.patience {
            self.stuck = Some(now);
            return Relief::Refuse;
        }
        let others = now.saturating_duration_since(waiting) < OTHERS;
        if others || self.nothing_before.is_some_and(|moment| now < moment) {
            return Relief::Wait;
        }
        Relief::Shed(self.batch)
    }

    /// What came of [`Relief::Shed`].
    pub(super) fn has_shed(&mut self, count: usize, now: Instant) {
        if count == 0 {
            self.nothing_before = Some(now + PAUSE);
        } else {
            self.batch = (self.batch * 2).min(MOST);
        }
    }

    /// There was room for somebody.
    pub(super) const fn taken(&mut self) {
        self.stuck = None;
        self.batch = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_queue_that_others_empty_costs_nobody_a_connection() {
        let start = Instant::now();
        let mut pressure = Pressure::new(PATIENCE);
        for round in 0..1000 {
            let now = start + ms(round * 100);
            assert_eq!(pressure.look(true, now), Relief::Wait);
            assert_eq!(pressure.look(true, now + ms(49)), Relief::Wait);
            assert_eq!(pressure.look(false, now + ms(60)), Relief::Wait);
        }
    }

    #[test]
    fn who_waits_makes_ever_more_others_go_until_there_is_room() {
        let start = Instant::now();
        let mut pressure = Pressure::new(PATIENCE);
        pressure.look(true, start);
        let mut counts = Vec::new();
        for look in 1..14 {
            let now = start + ms(100 * look);
            if let Relief::Shed(count) = pressure.look(true, now) {
                pressure.has_shed(count, now);
                counts.push(count);
            }
        }
        assert_eq!(counts[..4], [1, 2, 4, 8]);
        assert_eq!(counts.iter().max(), Some(&MOST));
        pressure.taken();
        assert_eq!(pressure.look(true, start + ms(1500)), Relief::Shed(1));
    }

    #[test]
    fn a_search_in_vain_is_not_repeated_at_once() {
        let start = Instant::now();
        let mut pressure = Pressure::new(PATIENCE);
        pressure.look(true, start);
        let now = start + OTHERS;
        assert_eq!(pressure.look(true, now), Relief::Shed(1));
        pressure.has_shed(0, now);
        pressure.taken();
        assert_eq!(pressure.look(true, now + ms(10)), Relief::Wait);
        assert_eq!(pressure.look(true, now + PAUSE), Relief::Shed(1));
    }

    #[test]
    fn only_where_nobody_is_taken_for_as_long_as_the_patience_lasts_is_anybody_refused() {
        let start = Instant::now();
        let mut pressure = Pressure::new(PATIENCE);
        // Quick requests: somebody is taken every second. They queue, for hours if need be.
        for second in 0..10_000 {
            let relief = pressure.look(true, start + ms(second * 1000));
            assert_ne!(relief, Relief::Refuse);
            pressure.taken();
        }
        let mut pressure = Pressure::new(PATIENCE);
        let refused: Vec<_> = (0..100_u64)
            .filter(|look| pressure.look(true, start + ms(look * 100)) == Relief::Refuse)
            .collect();
        assert_eq!(refused, [30, 60, 90], "those who came since wait as long");
    }
}
