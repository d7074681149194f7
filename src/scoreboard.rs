//! One row of counters for each worker, in memory that all processes share. A worker writes its own row, with relaxed
//! atomics, and waits for nobody; everybody may read. A reader that sees two counters of different moments decides
//! a little less evenly, never wrongly.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::time::{ClockId, clock_gettime};

/// Words of a row: two cache lines, so that neighbours do not share one.
const ROW: usize = 16;
/// As many workers as a master may have at once, both generations of a reload and a spare counted.
const ROWS: usize = 4096;

// The words of a row.
const STATE: usize = 0;
const PID: usize = 1;
const CONNECTIONS: usize = 2;
const REQUESTS: usize = 3;
const ACCEPTED: usize = 4;
const SUSPECT_UNTIL: usize = 5;
const ANSWERED: usize = 6;
const INSIDE: usize = 7;
const ROOM: usize = 8;

// The values of STATE.
const FREE: u64 = 0;
const TAKEN: u64 = 1;
const ACCEPTING: u64 = 2;

/// How long a worker that did not react when called is left out of the sharing, in milliseconds.
const SUSPECT_FOR: u64 = 1000;

/// All rows. Word 0 of the first row, which belongs to nobody, is the number of rows ever used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoreboard {
    words: &'static [AtomicU64],
}

impl Scoreboard {
    /// An empty one, shared with all processes forked later.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            words: crate::os::mmap::shared(ROW * ROWS)?,
        })
    }

    /// A free row, cleared; `None` when all are in use. Only the master takes and frees rows.
    pub(crate) fn take(self) -> Option<Row> {
        let index =
            (1..ROWS).find(|&index| self.row(index).word(STATE).load(Relaxed) == FREE)?;
        let row = self.row(index);
        row.words().iter().for_each(|word| word.store(0, Relaxed));
        row.word(STATE).store(TAKEN, Relaxed);
        self.words[0].fetch_max(u64::try_from(index + 1).unwrap_or(u64::MAX), Relaxed);
        Some(row)
    }

    fn row(self, index: usize) -> Row {
        Row { board: self, index }
    }

    /// The rows that accept connections and are not suspected to hang.
    fn accepting(self, now: u64) -> impl Iterator<Item = Row> {
        let used = usize::try_from(self.words[0].load(Relaxed))
            .unwrap_or(0)
            .min(ROWS);
        (1..used)
            .map(move |index| self.row(index))
            .filter(move |row| {
                row.word(STATE).load(Relaxed) == ACCEPTING
                    && row.word(SUSPECT_UNTIL).load(Relaxed) <= now
            })
    }
}

/// One worker's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    board: Scoreboard,
    index: usize,
}

impl Row {
    /// The master's side, when the worker is gone: its connections no longer count.
    pub(crate) fn release(self) {
        self.word(STATE).store(FREE, Relaxed);
    }

    /// From now on this worker (process `pid`) takes its share of the connections.
    pub(crate) fn start_accepting(self, pid: u32) {
        self.word(PID).store(u64::from(pid), Relaxed);
        self.word(STATE).store(ACCEPTING, Relaxed);
    }

    /// It no longer does.
    pub(crate) fn stop_accepting(self) {
        self.word(STATE).store(TAKEN, Relaxed);
    }

    /// One connection more is open here. Who accepts does not hang.
    pub(crate) fn open_connection(self) {
        self.word(CONNECTIONS).fetch_add(1, Relaxed);
        self.word(ACCEPTED).fetch_add(1, Relaxed);
        if self.word(SUSPECT_UNTIL).load(Relaxed) != 0 {
            self.word(SUSPECT_UNTIL).store(0, Relaxed);
        }
    }

    /// One less.
    pub(crate) fn close_connection(self) {
        self.word(CONNECTIONS).fetch_sub(1, Relaxed);
    }

    /// How many are open.
    pub(crate) fn connections(self) -> u64 {
        self.word(CONNECTIONS).load(Relaxed)
    }

    /// One request more was answered.
    pub(crate) fn count_request(self) {
        // One writer: a load and a store, cheaper than a locked addition.
        let requests = self.word(REQUESTS);
        requests.store(requests.load(Relaxed) + 1, Relaxed);
    }

    /// How many were.
    pub(crate) fn requests(self) -> u64 {
        self.word(REQUESTS).load(Relaxed)
    }

    /// From now on this worker tells how many requests its app is at work on, of so many that it can at once. One that
    /// never says so is as busy as its processor time shows.
    #[cfg(any(feature = "python", test))]
    pub(crate) fn has_room_for(self, requests: usize) {
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        self.word(ROOM).store(requests, Relaxed);
    }

    /// The app is at work on so many requests.
    #[cfg(any(feature = "python", test))]
    #[inline]
    pub(crate) fn inside(self, requests: usize) {
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        self.word(INSIDE).store(requests, Relaxed);
    }

    /// Which part of the requests that it can be at work on this worker is at work on, if `whole` is all of them.
    pub(crate) fn fullness(self, whole: u64) -> u64 {
        let room = self.word(ROOM).load(Relaxed);
        let inside = self.word(INSIDE).load(Relaxed).min(room);
        inside
            .saturating_mul(whole)
            .checked_div(room)
            .unwrap_or_default()
    }

    /// Whether this worker holds more than its fair share, and if so, who holds the least.
    ///
    /// The fair share is the mean of all that accept, plus one: at that, counts stay within one or two of each other,
    /// and workers with next to no connections are left in peace.
    pub(crate) fn above_fair_share(self) -> Option<Row> {
        let own = self.word(CONNECTIONS).load(Relaxed);
        if own <= 1 {
            return None;
        }
        let (mut total, mut workers) = (0, 0);
        let mut least: Option<(u64, Row)> = None;
        for row in self.board.accepting(now()) {
            let count = row.word(CONNECTIONS).load(Relaxed);
            total += count;
            workers += 1;
            if least.is_none_or(|(fewest, _)| count < fewest) {
                least = Some((count, row));
            }
        }
        let (fewest, row) = least?;
        (own * workers > total + workers && fewest < own).then_some(row)
    }

    /// Whether this worker holds more than one connection while there are others that could have taken them.
    #[cfg(any(feature = "python", test))]
    pub(crate) fn is_crowded(self) -> bool {
        self.word(CONNECTIONS).load(Relaxed) > 1
            && self
                .board
                .accepting(now())
                .any(|row| row.index != self.index)
    }

    /// The process to call when this row should accept.
    pub(crate) fn pid(self) -> Option<i32> {
        i32::try_from(self.word(PID).load(Relaxed))
            .ok()
            .filter(|pid| *pid > 0)
    }

    /// This worker has looked at its listeners because it was called.
    pub(crate) fn answer_call(self) {
        self.word(ANSWERED).fetch_add(1, Relaxed);
    }

    /// Grows with each connection accepted and each call answered: a sign that the worker is not stuck.
    pub(crate) fn activity(self) -> u64 {
        let answered = self.word(ANSWERED).load(Relaxed);
        self.word(ACCEPTED).load(Relaxed).wrapping_add(answered)
    }

    /// This worker was called and did not come: for a second nobody waits for it.
    pub(crate) fn suspect(self) {
        self.word(SUSPECT_UNTIL).store(now() + SUSPECT_FOR, Relaxed);
    }

    fn words(self) -> &'static [AtomicU64] {
        &self.board.words[self.index * ROW..(self.index + 1) * ROW]
    }

    fn word(self, word: usize) -> &'static AtomicU64 {
        &self.words()[word]
    }
}

/// Milliseconds on the monotonic clock, which all processes share.
fn now() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return 0;
    };
    let millis = now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000;
    u64::try_from(millis).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(board: Scoreboard, counts: &[u64]) -> Vec<Row> {
        counts
            .iter()
            .map(|count| {
                let row = board.take().unwrap();
                row.start_accepting(1);
                (0..*count).for_each(|_| row.open_connection());
                row
            })
            .collect()
    }

    #[test]
    fn who_is_above_the_mean_points_at_the_least_loaded() {
        let board = Scoreboard::new().unwrap();
        let rows = workers(board, &[10, 4, 7]);
        assert_eq!(
            rows[0].above_fair_share().map(|row| row.index),
            Some(rows[1].index)
        );
        assert!(rows[1].above_fair_share().is_none());
        assert!(rows[2].above_fair_share().is_none());
    }

    #[test]
    fn a_worker_is_crowded_where_another_one_could_have_a_connection_of_it() {
        let board = Scoreboard::new().unwrap();
        let rows = workers(board, &[2, 0, 1]);
        assert!(rows[0].is_crowded());
        assert!(!rows[1].is_crowded() && !rows[2].is_crowded());
        rows[1].stop_accepting();
        assert!(rows[0].is_crowded());
        rows[2].stop_accepting();
        assert!(!rows[0].is_crowded(), "there is no other");
    }

    #[test]
    fn one_more_than_the_mean_is_fair() {
        let board = Scoreboard::new().unwrap();
        let rows = workers(board, &[3, 2, 2]);
        assert!(rows[0].above_fair_share().is_none());
    }

    #[test]
    fn a_worker_that_hangs_left_or_died_holds_nobody_back() {
        let board = Scoreboard::new().unwrap();
        let rows = workers(board, &[10, 0, 0, 0]);
        rows[1].suspect();
        rows[2].stop_accepting();
        rows[3].release();
        assert!(rows[0].above_fair_share().is_none());
        rows[1].open_connection();
        assert!(rows[0].above_fair_share().is_some(), "it accepts again");
    }

    #[test]
    fn a_worker_is_as_full_as_it_says() {
        let row = workers(Scoreboard::new().unwrap(), &[0])[0];
        assert_eq!(row.fullness(1000), 0, "it says nothing");
        row.has_room_for(4);
        row.inside(3);
        assert_eq!(row.fullness(1000), 750);
        row.inside(9);
        assert_eq!(row.fullness(1000), 1000);
    }

    #[test]
    fn a_row_is_used_again_and_starts_at_zero() {
        let board = Scoreboard::new().unwrap();
        let first = workers(board, &[5])[0];
        first.release();
        let second = board.take().unwrap();
        assert_eq!(second.index, first.index);
        assert_eq!(second.activity(), 0);
    }
}
