//! `--workers MIN..MAX`: how many workers there are to be, by how busy those are that there are. Quickly up, slowly down.
//!
//! A worker is as busy as the share of the processor that it has had, as full of requests that it cannot take more beside
//! (its row of the scoreboard says), or as full of connections, whichever is the most. [`Judge`] is pure, given what was seen and when.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::Master;
use super::children::Life;
use crate::config::WorkerRange;
use crate::listener::Bound;

/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// All of a worker's time.
const WHOLE: u64 = 1000;
/// Busier than this, in thousandths, on the mean of all workers: there are too few.
const BUSY: u64 = 800;
/// For so long, at every look.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// Connections that nobody accepts for so long, at every look: there are too few workers, however busy.
const WAITING_FOR: Duration = Duration::from_secs(1);
/// Less busy than this, if there were one worker less: there is one too many.
const CALM: u64 = 500;
/// For so long, at every look, on a mean over time.
const CALM_FOR: Duration = Duration::from_secs(10);

/// Between how many workers there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    least: u16,
    most: u16,
}

impl Range {
    /// Of `--workers`, as far as there can be slots for them.
    pub(crate) fn new(range: WorkerRange) -> Self {
        let least = u16::try_from(range.least).unwrap_or(u16::MAX);
        let most = u16::try_from(range.most).unwrap_or(u16::MAX);
        Self {
            least,
            most: most.max(least),
        }
    }

    /// Whether the number of workers follows the load.
    pub(crate) const fn is_open(self) -> bool {
        self.least < self.most
    }

    /// The number in it that is nearest to `workers`.
    pub(crate) fn nearest(self, workers: u16) -> u16 {
        workers.clamp(self.least, self.most)
    }

    /// TTIN, TTOU: both ends go up or down, though not below one worker.
    pub(crate) fn shifted(self, by: i16) -> Self {
        let shift = |end: u16| end.saturating_add_signed(by).max(1);
        Self {
            least: shift(self.least),
            most: shift(self.most),
        }
    }
}

/// What one look has shown.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// How many workers there are, all of them ready.
    workers: u16,
    /// How busy they are together, in thousandths of one worker.
    busy: u64,
    /// Connections wait to be accepted.
    waiting: bool,
}

/// From what is seen to how many workers there are to be.
#[derive(Debug, Default)]
struct Judge {
    busy_since: Option<Instant>,
    waiting_since: Option<Instant>,
    calm_since: Option<Instant>,
    /// A mean of `busy` over the last looks, which count the less the older they are.
    mean: Option<u64>,
}

impl Judge {
    /// How many workers there are to be; the time of the looks begins anew with every change.
    fn judge(&mut self, seen: Seen, range: Range, now: Instant) -> u16 {
        let workers = u64::from(seen.workers);
        let mean = self
            .mean
            .map_or(seen.busy, |mean| (mean * 4 + seen.busy) / 5);
        self.mean = Some(mean);
        let busy = seen.busy > BUSY * workers;
        // One worker less would have the same to do.
        let calm = mean < CALM * workers.saturating_sub(1);
        let lasts = |since: &mut Option<Instant>, holds: bool, time: Duration| {
            if !holds {
                *since = None;
            }
            holds && now.saturating_duration_since(*since.get_or_insert(now)) >= time
        };
        let too_few = lasts(&mut self.busy_since, busy, BUSY_FOR)
            | lasts(&mut self.waiting_since, seen.waiting, WAITING_FOR);
        let too_many = lasts(&mut self.calm_since, calm, CALM_FOR);
        let wanted = if too_few {
            seen.workers.saturating_add((seen.workers / 2).max(1))
        } else if too_many {
            seen.workers.saturating_sub(1)
        } else {
            seen.workers
        };
        let wanted = range.nearest(wanted);
        if wanted != seen.workers {
            *self = Self::default();
        }
        wanted
    }
}

/// What is known of the workers' load.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    judge: Judge,
    next_look: Option<Instant>,
    /// When the processor time of the workers was looked at, and what it was.
    looked: Option<(Instant, Vec<(Pid, Duration)>)>,
}

impl Scaler {
    /// The next look.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next_look
    }
}

impl Master {
    /// Looks at the workers' load, where the number of workers follows it, and takes what follows for wanted.
    pub(super) fn look_at_load(&mut self, now: Instant) {
        if !self.current.range.is_open() || self.current.workers == 0 {
            self.scaler = Scaler::default();
            return;
        }
        if self.scaler.next_look.is_some_and(|next| now < next) {
            return;
        }
        self.scaler.next_look = Some(now + LOOK);
        let Some(seen) = self.seen_load(now) else {
            // While workers start, leave or follow each other nobody can tell how busy they will be.
            self.scaler.judge = Judge::default();
            return;
        };
        let range = self.current.range;
        let wanted = self.scaler.judge.judge(seen, range, now);
        let before = self.current.workers;
        if wanted == before {
            return;
        }
        let busy = seen.busy / u64::from(seen.workers.max(1)) / 10;
        let how = if wanted > before { "more" } else { "fewer" };
        tracing::info!(
            "{how} workers: {before} were {busy} % busy{}; {wanted} from now on",
            if seen.waiting {
                ", and connections waited"
            } else {
                ""
            }
        );
        self.want(|_| wanted);
    }

    /// Every worker that is wanted is ready, and was at the last look; else `None`.
    fn seen_load(&mut self, now: Instant) -> Option<Seen> {
        let current = self.current.generation;
        let ready: Vec<_> = self
            .children
            .iter()
            .filter(|child| child.life == Life::Ready && child.generation == current)
            .collect();
        let used: Vec<_> = ready
            .iter()
            .filter_map(|child| Some((child.pid, crate::os::child::processor_time(child.pid)?)))
            .collect();
        let (then, before) = self.scaler.looked.replace((now, used.clone()))?;
        let steady = self.coming.is_none() && ready.len() == usize::from(self.current.workers);
        let passed = now.saturating_duration_since(then).as_micros();
        if !steady || used.len() != ready.len() || passed == 0 {
            return None;
        }
        let mut busy = 0;
        for (child, (pid, now)) in ready.iter().zip(&used) {
            let (_, then) = before.iter().find(|(other, _)| other == pid)?;
            let used = now.saturating_sub(*then).as_micros() * u128::from(WHOLE) / passed;
            let used = u64::try_from(used).unwrap_or(WHOLE).min(WHOLE);
            // Who holds many connections needs their places, though they cost nothing.
            let places =
                u64::try_from(self.current.config.worker_connections).unwrap_or(u64::MAX);
            let held = child.connections().saturating_mul(WHOLE) / places.max(1);
            busy += used.max(child.fullness(WHOLE)).max(held.min(WHOLE));
        }
        Some(Seen {
            workers: self.current.workers,
            busy,
            waiting: self.current.bound.iter().any(Bound::has_queue),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: Range = Range { least: 2, most: 8 };
    const ALMOST_BUSY: Duration = BUSY_FOR.saturating_sub(LOOK);
    const ALMOST_CALM: Duration = CALM_FOR.saturating_sub(LOOK);

    /// Looks for `time`, each of which sees `busy` thousandths of each worker; what the number of workers became.
    fn look(judge: &mut Judge, start: Instant, time: Duration, workers: u16, busy: u64) -> u16 {
        let mut now = start;
        while now <= start + time {
            let seen = Seen {
                workers,
                busy: busy * u64::from(workers),
                waiting: false,
            };
            let wanted = judge.judge(seen, RANGE, now);
            if wanted != workers {
                return wanted;
            }
            now += LOOK;
        }
        workers
    }

    #[test]
    fn half_a_second_of_work_brings_half_as_many_more_up_to_the_most() {
        let now = Instant::now();
        for (workers, more) in [(2, 3), (3, 4), (4, 6), (6, 8), (8, 8)] {
            let mut judge = Judge::default();
            assert_eq!(look(&mut judge, now, ALMOST_BUSY, workers, 900), workers);
            assert_eq!(look(&mut judge, now + BUSY_FOR, LOOK, workers, 900), more);
        }
    }

    #[test]
    fn a_pause_in_the_work_begins_the_time_anew() {
        let now = Instant::now();
        let mut judge = Judge::default();
        for round in 0..100 {
            let start = now + Duration::from_secs(round);
            assert_eq!(look(&mut judge, start, ALMOST_BUSY, 4, 1000), 4);
            assert_eq!(look(&mut judge, start + BUSY_FOR, LOOK, 4, 700), 4);
        }
    }

    #[test]
    fn ten_calm_seconds_take_one_away_and_no_more_than_the_least() {
        let now = Instant::now();
        let mut judge = Judge::default();
        assert_eq!(look(&mut judge, now, ALMOST_CALM, 4, 0), 4);
        assert_eq!(look(&mut judge, now + CALM_FOR, LOOK, 4, 0), 3);
        assert_eq!(
            look(&mut judge, now + CALM_FOR, ALMOST_CALM, 3, 0),
            3,
            "anew"
        );
        let mut judge = Judge::default();
        assert_eq!(look(&mut judge, now, CALM_FOR * 9, 2, 0), 2);
    }

    #[test]
    fn who_would_be_busy_again_with_one_less_stays() {
        let now = Instant::now();
        // Four at 38 % are three at 51 %.
        assert_eq!(look(&mut Judge::default(), now, CALM_FOR * 9, 4, 380), 4);
        assert_eq!(look(&mut Judge::default(), now, CALM_FOR * 9, 4, 370), 3);
    }

    #[test]
    fn connections_that_nobody_takes_bring_more() {
        let start = Instant::now();
        let mut judge = Judge::default();
        let seen = |waiting| Seen {
            workers: 4,
            busy: 0,
            waiting,
        };
        for look in 0..5 {
            assert_eq!(judge.judge(seen(true), RANGE, start + LOOK * look), 4);
        }
        assert_eq!(judge.judge(seen(true), RANGE, start + LOOK * 5), 6);
        // One that waits now and then is a sign of nothing: idle workers become fewer all the same.
        let mut judge = Judge::default();
        let changed = (0..1000)
            .map(|look| judge.judge(seen(look % 3 == 0), RANGE, start + LOOK * look))
            .find(|wanted| *wanted != 4);
        assert_eq!(changed, Some(3));
    }

    #[test]
    fn ttin_and_ttou_shift_both_ends() {
        assert_eq!(RANGE.shifted(1), Range { least: 3, most: 9 });
        assert_eq!(RANGE.shifted(-1), Range { least: 1, most: 7 });
        let lowest = (0..20).fold(RANGE, |range, _| range.shifted(-1));
        assert_eq!(lowest, Range { least: 1, most: 1 });
        assert!(!lowest.is_open());
    }

    proptest! {
        /// Whatever is seen: never outside the range, one at a time down, and never down within ten seconds of a change.
        #[test]
        fn the_number_keeps_to_its_range_and_goes_down_slowly(
            looks in prop::collection::vec((0_u64..=1000, prop::bool::weighted(0.1), 1_u64..2000), 1..400)
        ) {
            let start = Instant::now();
            let (mut now, mut changed) = (start, start);
            let (mut judge, mut workers) = (Judge::default(), 4_u16);
            for (busy, waiting, pause) in looks {
                now += Duration::from_millis(pause);
                let seen = Seen { workers, busy: busy * u64::from(workers), waiting };
                let wanted = judge.judge(seen, RANGE, now);
                prop_assert!((RANGE.least..=RANGE.most).contains(&wanted));
                if wanted < workers {
                    prop_assert_eq!(wanted, workers - 1);
                    prop_assert!(now - changed >= CALM_FOR);
                }
                if wanted > workers {
                    prop_assert!(busy > BUSY || waiting);
                }
                if wanted != workers {
                    (workers, changed) = (wanted, now);
                }
            }
        }

        /// A steady load finds its number: enough for it, if that may be, and then no change for ever.
        #[test]
        fn a_steady_load_comes_to_rest(load in 0_u64..10_000, first in 2_u16..=8) {
            let mut now = Instant::now();
            let (mut judge, mut workers, mut last) = (Judge::default(), first, first);
            for look in 0..1000_u32 {
                now += LOOK;
                let busy = load.min(u64::from(workers) * WHOLE);
                last = workers;
                workers = judge.judge(Seen { workers, busy, waiting: false }, RANGE, now);
                if look > 500 {
                    prop_assert_eq!(workers, last);
                }
            }
            prop_assert!(workers == RANGE.most || load <= BUSY * u64::from(last));
        }
    }
}
