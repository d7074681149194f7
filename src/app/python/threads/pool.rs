//! The queue between the runtime and the app's threads: who serves next, when there are to be more threads, and whether
//! anything moves.
//!
//! The thread that served last serves next, so that those which are not needed are idle for long, and end. One thread at a time
//! is on its way to the queue: it wakes the next one when it has taken something. More would only wait for the GIL, while the
//! one that has it could serve them all.
//!
//! Whoever holds the lock waits for nothing: it may be taken with the GIL held and without.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::scoreboard::Row;

/// How long something waits before a thread is started for it: the others may well be about to take it.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long a thread that is not one of the first is idle before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// The queue of `T`, and the threads that take from it.
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    /// There might have to be more threads.
    growth: Condvar,
    least: usize,
    most: usize,
    began: Instant,
    /// When a thread last took something, or went on with it.
    progress: AtomicU64,
    /// Where the master reads how many threads are at work.
    row: Option<Row>,
}

struct State<T> {
    waiting: VecDeque<(Instant, T)>,
    seats: Vec<Arc<Seat>>,
    /// Threads that wait, the one that began last at the end.
    idle: Vec<Arc<Seat>>,
    /// A thread is on its way to the queue.
    coming: bool,
    /// Threads that are being started.
    starting: usize,
    closed: bool,
}

/// One thread's place.
pub(super) struct Seat {
    thread: Thread,
    /// What it does: [`FREE`], [`AT_CLIENT`], or since when it is in the app's code.
    doing: AtomicU64,
}

impl Seat {
    /// The thread waits for a client.
    pub(super) fn waits_for_client(&self) {
        self.doing.store(AT_CLIENT, Ordering::Relaxed);
    }
}

/// It serves nothing.
const FREE: u64 = 0;
/// It waits for a client that is slow to read.
const AT_CLIENT: u64 = u64::MAX;

impl<T> Pool<T> {
    /// For `least` threads at first and `most` in the end.
    pub(super) fn new(least: usize, most: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                seats: Vec::new(),
                idle: Vec::new(),
                coming: false,
                starting: 0,
                closed: false,
            }),
            growth: Condvar::new(),
            least,
            most: most.max(least),
            began: Instant::now(),
            progress: AtomicU64::new(0),
            row: None,
        }
    }

    /// Tells in `row` how many threads are at work.
    pub(super) fn told_in(self, row: Row) -> Self {
        row.has_room_for(self.most);
        Self {
            row: Some(row),
            ..self
        }
    }

    /// To be called where a thread begins or ends its work.
    fn tell(&self, state: &State<T>) {
        if let Some(row) = self.row {
            row.inside(state.seats.len() - state.idle.len());
        }
    }

    /// Whether there may be more threads than at first.
    pub(super) fn grows(&self) -> bool {
        self.most > self.least
    }

    pub(super) fn least(&self) -> usize {
        self.least
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `task` in. What comes when all is over is given back.
    pub(super) fn push(&self, task: T) -> Option<T> {
        let mut state = self.state();
        if state.closed {
            return Some(task);
        }
        state.waiting.push_back((Instant::now(), task));
        self.go_on(state);
        None
    }

    /// Has some thread come by that is idle, if any, even if there is nothing for it in the queue.
    pub(super) fn nudge(&self) {
        let mut state = self.state();
        let next = state.next();
        drop(state);
        next.wake();
    }

    /// Sees to it that somebody comes for what waits.
    fn go_on(&self, mut state: MutexGuard<'_, State<T>>) {
        let next = if state.waiting.is_empty() {
            Next::Nobody
        } else {
            state.next()
        };
        let grow = state.wants_more(self.most);
        drop(state);
        if grow {
            self.growth.notify_one();
        }
        next.wake();
    }

    /// A thread is about to be started.
    pub(super) fn expect_one(&self) {
        self.state().starting += 1;
    }

    /// It could not be started.
    pub(super) fn expect_no_more(&self) {
        self.state().starting -= 1;
    }

    /// The calling thread, which was expected, takes its place.
    pub(super) fn sit(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            thread: std::thread::current(),
            doing: AtomicU64::new(FREE),
        });
        let mut state = self.state();
        state.starting -= 1;
        state.seats.push(Arc::clone(&seat));
        seat
    }

    /// The thread ends.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        let mut state = self.state();
        state.seats.retain(|other| !Arc::ptr_eq(other, seat));
        state.idle.retain(|other| !Arc::ptr_eq(other, seat));
        self.go_on(state);
    }

    /// What the thread of `seat` does next; `None` if it is to end. `wait` waits for the thread to be unparked, or for the
    /// time it is given to pass; it may return early, and with nothing to do, too: `on_waking` is called then.
    pub(super) fn next(
        &self,
        seat: &Arc<Seat>,
        mut wait: impl FnMut(Option<Duration>),
        mut on_waking: impl FnMut(),
    ) -> Option<T> {
        seat.doing.store(FREE, Ordering::Relaxed);
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some((_, task)) = state.waiting.pop_front() {
                self.tell(&state);
                self.go_on(state);
                self.works(seat);
                return Some(task);
            }
            state.idle.push(Arc::clone(seat));
            self.tell(&state);
            let extra = state.seats.len() > self.least;
            drop(state);
            let began = Instant::now();
            wait(extra.then_some(IDLE));
            on_waking();
            state = self.state();
            let idle = state.idle.len();
            state.idle.retain(|other| !Arc::ptr_eq(other, seat));
            if state.idle.len() == idle {
                // Somebody has woken it.
                state.coming = false;
            } else if began.elapsed() >= IDLE && state.seats.len() > self.least {
                // Here and now, so that not all of them see that there are too many.
                state.seats.retain(|other| !Arc::ptr_eq(other, seat));
                return None;
            }
        }
    }

    /// The thread of `seat` goes on in the app's code.
    pub(super) fn works(&self, seat: &Seat) {
        let now = self.now();
        seat.doing.store(now, Ordering::Relaxed);
        self.progress.store(now, Ordering::Relaxed);
    }

    /// Waits until one thread more is to be started, and expects it; false at the end. Not with the GIL held.
    pub(super) fn grow(&self) -> bool {
        let mut state = self.state();
        while !state.closed {
            if !state.wants_more(self.most) {
                state = self
                    .growth
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = state.waiting.front().map(|(since, _)| since.elapsed());
            let left = PATIENCE.saturating_sub(waited.unwrap_or_default());
            if left.is_zero() {
                state.starting += 1;
                return true;
            }
            state = self
                .growth
                .wait_timeout(state, left)
                .map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
        false
    }

    /// Whether something has moved within this time, or nothing had to: some thread is idle, or waits for a client,
    /// or can still be started, or has taken its request a shorter time ago.
    pub(super) fn moves_within(&self, time: Duration) -> bool {
        let now = self.now();
        let limit = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let stands = |since: u64| now.saturating_sub(since) > limit;
        let state = self.state();
        let mut at_client = false;
        let mut stuck = 0;
        for seat in &state.seats {
            match seat.doing.load(Ordering::Relaxed) {
                FREE => {}
                AT_CLIENT => at_client = true,
                since if stands(since) => stuck += 1,
                _ => return true,
            }
        }
        if stuck >= self.most {
            return false;
        }
        // Threads that are woken and do not come, or cannot be started: somebody sits on the GIL.
        let waits = state
            .waiting
            .front()
            .is_some_and(|(since, _)| since.elapsed() > time);
        !waits || at_client || !stands(self.progress.load(Ordering::Relaxed))
    }

    /// Whether nothing waits and no thread works.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty()
            && state
                .seats
                .iter()
                .all(|seat| seat.doing.load(Ordering::Relaxed) == FREE)
    }

    /// No more from now on; the threads end when they have done what they do. What waited is returned.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        self.growth.notify_one();
        for seat in idle {
            seat.thread.unpark();
        }
        waiting.into_iter().map(|(_, task)| task).collect()
    }

    /// Milliseconds since the pool began, and never [`FREE`].
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 2) + 1
    }
}

/// Who is to come to the queue.
enum Next {
    Thread(Arc<Seat>),
    /// Nobody is idle, or somebody comes anyway.
    Nobody,
}

impl Next {
    fn wake(self) {
        match self {
            Self::Thread(seat) => seat.thread.unpark(),
            Self::Nobody => {}
        }
    }
}

impl<T> State<T> {
    fn next(&mut self) -> Next {
        if self.coming {
            return Next::Nobody;
        }
        match self.idle.pop() {
            Some(seat) => {
                self.coming = true;
                Next::Thread(seat)
            }
            None => Next::Nobody,
        }
    }

    /// Whether there are too few threads for what waits.
    fn wants_more(&self, most: usize) -> bool {
        self.idle.is_empty()
            && self.seats.len() + self.starting < most
            && self.waiting.len() > self.starting + usize::from(self.coming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Pool<u32>;

    /// A pool whose first threads are there: all of them the calling one.
    fn pool(least: usize, most: usize) -> (Tested, Vec<Arc<Seat>>) {
        let pool = Tested::new(least, most);
        let seats = (0..least)
            .map(|_| {
                pool.expect_one();
                pool.sit()
            })
            .collect();
        (pool, seats)
    }

    fn take(pool: &Tested, seat: &Arc<Seat>) -> Option<u32> {
        pool.next(seat, |_| unreachable!("there is something"), || ())
    }

    #[test]
    fn what_waits_is_taken_in_order_and_without_waiting() {
        let (pool, seats) = pool(1, 1);
        assert_eq!((pool.push(1), pool.push(2)), (None, None));
        assert!(!pool.is_quiet());
        assert_eq!(take(&pool, &seats[0]), Some(1));
        assert_eq!(take(&pool, &seats[0]), Some(2));
        assert!(!pool.is_quiet(), "it works at the second");
    }

    #[test]
    fn a_thread_that_is_woken_for_nothing_goes_on_waiting() {
        let (pool, seats) = pool(1, 1);
        let (mut waits, mut wakings) = (0, 0);
        let wait = |time| {
            assert_eq!(time, None, "one of the first waits as long as it takes");
            waits += 1;
            if waits == 3 {
                pool.push(7);
            } else {
                pool.nudge();
            }
        };
        assert_eq!(pool.next(&seats[0], wait, || wakings += 1), Some(7));
        assert_eq!((waits, wakings), (3, 3));
    }

    #[test]
    fn the_end_sends_all_away_and_gives_back_what_waits() {
        let (pool, seats) = pool(1, 1);
        pool.push(1);
        assert_eq!(pool.close(), [1]);
        assert_eq!(take(&pool, &seats[0]), None);
        assert_eq!(pool.push(2), Some(2));
        assert!(!pool.grow());
    }

    #[test]
    fn threads_are_added_up_to_the_most_while_more_waits_than_they_take() {
        let (pool, seats) = pool(1, 3);
        assert!(pool.grows());
        pool.push(0);
        take(&pool, &seats[0]);
        // It is busy now.
        for task in 1..=5 {
            pool.push(task);
        }
        assert!(pool.grow());
        assert!(pool.grow());
        assert!(!pool.state().wants_more(pool.most), "three is the most");
        pool.expect_no_more();
        assert!(
            pool.state().wants_more(pool.most),
            "one could not be started"
        );
    }

    #[test]
    fn an_idle_thread_is_woken_before_another_one_is_started() {
        let (pool, seats) = pool(2, 9);
        let mut pushed = false;
        let wait = |_| {
            if !std::mem::replace(&mut pushed, true) {
                pool.push(1);
                assert!(pool.state().coming);
                assert!(!pool.state().wants_more(pool.most));
                pool.push(2);
                assert!(pool.state().wants_more(pool.most), "for the second one");
            }
        };
        assert_eq!(pool.next(&seats[0], wait, || ()), Some(1));
    }

    #[test]
    fn nothing_moves_when_all_threads_stand() {
        let (pool, seats) = pool(2, 2);
        let moment = Duration::from_millis(5);
        let pass = || std::thread::park_timeout(Duration::from_millis(20));
        assert!(pool.moves_within(moment), "idle");
        pool.push(1);
        pool.push(2);
        take(&pool, &seats[0]);
        pass();
        assert!(
            !pool.moves_within(moment),
            "one does not come for the second"
        );
        take(&pool, &seats[1]);
        assert!(pool.moves_within(moment), "it came");
        pass();
        assert!(!pool.moves_within(moment), "both stand");
        seats[0].waits_for_client();
        assert!(pool.moves_within(moment), "the client's fault");
        pool.works(&seats[0]);
        assert!(pool.moves_within(moment), "it goes on");
    }

    #[test]
    fn threads_that_stand_are_no_fault_while_more_can_be_started() {
        let (pool, seats) = pool(1, 2);
        pool.push(1);
        take(&pool, &seats[0]);
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(pool.moves_within(Duration::from_millis(5)));
        pool.push(2);
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(!pool.moves_within(Duration::from_millis(5)), "none was");
    }
}
