//! Timers as descriptors: `timerfd_create(2)`.
//!
//! Tokio's own timers are kept outside its epoll. So the runtime looks at the clock before and after each wait, whether a
//! timer is set or not, and a loop that watches the runtime's epoll cannot know when the next one is due. A timer of this
//! kind costs nothing until it is due, and then makes the epoll readable like a socket.
#![expect(
    unsafe_code,
    reason = "a descriptor of a kind that Tokio does not know"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the worker's.
#[derive(Debug)]
pub(crate) struct Timer(AsyncFd<Descriptor>);

#[derive(Debug)]
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// A timer that is not set; to be made inside the runtime.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)` and `epoll_ctl(2)`.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = Descriptor(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the TimerFd is open, and the same number, for as long as it lives, and the AsyncFd owns it.
        let fd = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(fd?))
    }

    /// Resolves when `time` has passed since this was called; one wait at a time.
    ///
    /// *Cancel safety*: nothing is lost; the next call sets the timer anew.
    pub(crate) async fn after(&self, time: Duration) {
        // No time at all would disarm the timer.
        let expiration = Expiration::OneShot(time.max(Duration::from_nanos(1)).into());
        let set = self
            .0
            .get_ref()
            .0
            .set(expiration, TimerSetTimeFlags::empty());
        if let Err(error) = set {
            tracing::error!("cannot set a timer: {error}");
            return std::future::pending().await;
        }
        loop {
            match self.0.readable().await {
                // What an earlier call has left is gone since the timer was set.
                Ok(mut ready) => {
                    let told = ready.try_io(|fd| fd.get_ref().0.wait().map_err(Into::into));
                    if told.is_ok() {
                        return;
                    }
                }
                Err(error) => {
                    // Only at the end of the runtime.
                    tracing::debug!("a timer can no longer be watched: {error}");
                    return std::future::pending().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn it_is_never_early_and_can_be_set_again() {
        run(async {
            let timer = Timer::new().expect("a timer");
            for millis in [0, 20, 5] {
                let time = Duration::from_millis(millis);
                let begin = Instant::now();
                timer.after(time).await;
                assert!(begin.elapsed() >= time);
            }
        });
    }

    #[test]
    fn what_was_due_and_not_waited_for_does_not_shorten_the_next_wait() {
        run(async {
            let timer = Timer::new().expect("a timer");
            // Set, then due while nobody looks.
            tokio::select! {
                biased;
                () = timer.after(Duration::from_millis(1)) => panic!("it is early"),
                () = tokio::task::yield_now() => {}
            }
            let set = Instant::now();
            while set.elapsed() < Duration::from_millis(5) {}
            let begin = Instant::now();
            timer.after(Duration::from_millis(20)).await;
            assert!(begin.elapsed() >= Duration::from_millis(20));
        });
    }
}
