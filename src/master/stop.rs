//! The way down of a server: the end announced, the drain, and who does not come to an end.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Master;
use super::children::{Child, Life};
use super::phase::Phase;
use crate::channel::Order;
use crate::listener::Bound;
use crate::os::child::is_stopped;

/// How long a worker that did not leave in time has to say what it was at.
pub(super) const CUT_GRACE: Duration = Duration::from_secs(1);

impl Master {
    /// Everybody is told that the end is near.
    pub(super) fn announce_end(&mut self) {
        let delay = self.current.config.drain_delay.as_secs_f64();
        tracing::info!("Draining in {delay} s (--drain-delay)");
        if self.coming.is_some() {
            self.abandon_reload("the server is about to stop");
        }
        self.children
            .iter()
            .for_each(|child| child.order(Order::Announce));
    }

    /// All workers finish and leave.
    pub(super) fn drain_all(&mut self) {
        self.coming = None;
        // The last words on whose the queues are.
        self.hand_over(&[]);
        let waits = self.current.bound.iter().any(Bound::has_queue);
        let order = if self.has_other_master() {
            Order::Retire
        } else {
            Order::Drain
        };
        self.leave_sockets();
        self.tell_stopping();
        let until = self.phase.deadline().unwrap_or_else(Instant::now);
        for child in self.children.iter_mut() {
            match child.life {
                // Nobody waits for it.
                Life::Booting if !waits => child.dismiss(until),
                Life::Booting | Life::Ready | Life::Leaving(_) => child.leave(order, until),
            }
        }
    }
}

/// The time of a worker that was told to leave is over: it says what it was at, and ends. In a quick stop there is no
/// time for that.
pub(super) fn cut(child: &mut Child, phase: Phase, now: Instant) {
    let patient = match (phase, child.aborted) {
        (Phase::Stopping(_), None) => false,
        (Phase::Running | Phase::Announcing(_) | Phase::Draining(_), None) => true,
        (_, Some(since)) if now < since + CUT_GRACE => return,
        (_, Some(_)) => false,
    };
    if child.is_killed() {
        return;
    }
    if patient {
        tracing::warn!("{child} did not leave in time: aborted");
        abort(child, now);
    } else {
        tracing::warn!("{child} did not leave in time: killed");
        child.kill();
    }
}

/// Has it report what it is doing, and end.
pub(super) fn abort(child: &mut Child, now: Instant) {
    child.aborted = Some(now);
    if is_stopped(child.pid) {
        // It could not answer ABRT.
        child.kill();
    } else {
        child.signal(Signal::SIGABRT);
    }
}
