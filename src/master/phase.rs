//! The master's phases: what each event means in each of them. Pure and total: a new [`Event`] does not compile until
//! every phase has answered it.

use std::time::{Duration, Instant};

/// How long workers have for a quick stop, and what is left of a graceful one once somebody loses patience.
const QUICK: Duration = Duration::from_secs(2);

/// How long workers that did not leave in time have to say what they were at.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What happened, as far as the phases care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// TERM.
    Drain,
    /// INT, QUIT.
    Stop,
    /// HUP.
    Reload,
    /// USR1.
    Reopen,
    /// USR2.
    Upgrade,
    /// TTIN.
    More,
    /// TTOU.
    Fewer,
    /// WINCH.
    Rest,
    /// The phase's own deadline has passed.
    Deadline,
    /// No child is left.
    Empty,
    /// The server cannot go on: a worker failed to boot at start.
    Halt,
}

/// Where the master is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serving.
    Running,
    /// Serving still, until the moment given, while everybody is told that it ends (`--drain-delay`).
    Announcing(Instant),
    /// Workers finish what they have, until the moment given.
    Draining(Instant),
    /// Workers leave at once; who has not by then is killed.
    Stopping(Instant),
}

/// What the master does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Nothing,
    /// Nothing, and the log says that it was not the time.
    Decline,
    /// Workers say from now on that the end is near.
    Announce,
    /// Stop listening; all workers finish and leave.
    Drain,
    /// Stop listening; all workers leave.
    Quit,
    /// Who is left says what it is at, and ends.
    Cut,
    /// Kill who is left.
    Kill,
    /// Start a new generation.
    Reload,
    /// Reopen log files, here and in the workers.
    Reopen,
    /// Start the new binary.
    Upgrade,
    /// One worker more.
    More,
    /// One worker less.
    Fewer,
    /// No workers, until told otherwise.
    Rest,
    /// The end.
    Exit,
}

/// How much time a graceful stop has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// `--drain-delay`.
    pub(crate) delay: Duration,
    /// `--graceful-timeout`.
    pub(crate) graceful: Duration,
}

impl Phase {
    /// What `event` leads to.
    pub(crate) fn on(self, event: Event, now: Instant, patience: Patience) -> (Self, Action) {
        let Patience { delay, graceful } = patience;
        match self {
            Self::Running => match event {
                Event::Drain if delay.is_zero() => {
                    (Self::Draining(now + graceful), Action::Drain)
                }
                Event::Drain => (Self::Announcing(now + delay), Action::Announce),
                Event::Stop | Event::Halt => {
                    (Self::Stopping(now + graceful.min(QUICK)), Action::Quit)
                }
                Event::Reload => (self, Action::Reload),
                Event::Reopen => (self, Action::Reopen),
                Event::Upgrade => (self, Action::Upgrade),
                Event::More => (self, Action::More),
                Event::Fewer => (self, Action::Fewer),
                Event::Rest => (self, Action::Rest),
                // Between two workers there may be none; there is no deadline.
                Event::Empty | Event::Deadline => (self, Action::Nothing),
            },
            Self::Announcing(_) => match event {
                // Its end, or somebody who does not want to wait for that.
                Event::Deadline | Event::Drain => {
                    (Self::Draining(now + graceful), Action::Drain)
                }
                Event::Stop | Event::Halt => {
                    (Self::Stopping(now + graceful.min(QUICK)), Action::Quit)
                }
                Event::Reopen => (self, Action::Reopen),
                // Who died is replaced.
                Event::Empty => (self, Action::Nothing),
                Event::Reload | Event::Upgrade | Event::More | Event::Fewer | Event::Rest => {
                    (self, Action::Decline)
                }
            },
            Self::Draining(until) => match event {
                Event::Stop | Event::Halt => {
                    (Self::Stopping(until.min(now + QUICK)), Action::Quit)
                }
                Event::Reopen => (self, Action::Reopen),
                Event::Deadline => (Self::Stopping(now + LAST_WORDS), Action::Cut),
                Event::Empty => (self, Action::Exit),
                Event::Drain => (self, Action::Nothing),
                Event::Reload | Event::Upgrade | Event::More | Event::Fewer | Event::Rest => {
                    (self, Action::Decline)
                }
            },
            Self::Stopping(_) => match event {
                Event::Reopen => (self, Action::Reopen),
                Event::Deadline => (self, Action::Kill),
                Event::Empty => (self, Action::Exit),
                Event::Drain | Event::Stop | Event::Halt => (self, Action::Nothing),
                Event::Reload | Event::Upgrade | Event::More | Event::Fewer | Event::Rest => {
                    (self, Action::Decline)
                }
            },
        }
    }

    /// When the phase ends by itself.
    pub(crate) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Announcing(until) | Self::Draining(until) | Self::Stopping(until) => {
                Some(until)
            }
        }
    }

    /// Whether the server is to go on.
    pub(crate) const fn is_running(self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether workers are being started and replaced.
    pub(crate) const fn is_serving(self) -> bool {
        match self {
            Self::Running | Self::Announcing(_) => true,
            Self::Draining(_) | Self::Stopping(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACEFUL: Duration = Duration::from_secs(30);
    const DELAY: Duration = Duration::from_secs(5);
    const AT_ONCE: Patience = Patience {
        delay: Duration::ZERO,
        graceful: GRACEFUL,
    };
    const DELAYED: Patience = Patience {
        delay: DELAY,
        graceful: GRACEFUL,
    };
    const ALL: [Event; 11] = [
        Event::Drain,
        Event::Stop,
        Event::Reload,
        Event::Reopen,
        Event::Upgrade,
        Event::More,
        Event::Fewer,
        Event::Rest,
        Event::Deadline,
        Event::Empty,
        Event::Halt,
    ];

    #[test]
    fn term_drains_for_the_graceful_timeout_then_cuts_and_then_kills() {
        let now = Instant::now();
        let (phase, action) = Phase::Running.on(Event::Drain, now, AT_ONCE);
        assert_eq!(
            (phase, action),
            (Phase::Draining(now + GRACEFUL), Action::Drain)
        );
        let later = now + GRACEFUL;
        let (phase, action) = phase.on(Event::Deadline, later, AT_ONCE);
        assert_eq!(
            (phase, action),
            (Phase::Stopping(later + LAST_WORDS), Action::Cut)
        );
        let (phase, action) = phase.on(Event::Deadline, later + LAST_WORDS, AT_ONCE);
        assert_eq!(action, Action::Kill);
        assert_eq!(phase.on(Event::Empty, later, AT_ONCE).1, Action::Exit);
    }

    #[test]
    fn an_interrupt_shortens_a_drain_to_two_seconds_and_never_prolongs_it() {
        let now = Instant::now();
        let (phase, action) = Phase::Draining(now + GRACEFUL).on(Event::Stop, now, AT_ONCE);
        assert_eq!(
            (phase, action),
            (Phase::Stopping(now + QUICK), Action::Quit)
        );
        let soon = now + Duration::from_millis(5);
        assert_eq!(
            Phase::Draining(soon).on(Event::Stop, now, AT_ONCE).0,
            Phase::Stopping(soon)
        );
    }

    #[test]
    fn once_stopping_nothing_starts_anything_again() {
        let now = Instant::now();
        for phase in [Phase::Draining(now), Phase::Stopping(now)] {
            for event in ALL {
                let (next, action) = phase.on(event, now, DELAYED);
                assert!(!next.is_running() && !next.is_serving());
                assert!(!matches!(
                    action,
                    Action::Reload
                        | Action::Upgrade
                        | Action::More
                        | Action::Fewer
                        | Action::Rest
                ));
            }
        }
    }

    #[test]
    fn term_with_a_delay_announces_first_and_drains_when_that_is_over() {
        let now = Instant::now();
        let (phase, action) = Phase::Running.on(Event::Drain, now, DELAYED);
        assert_eq!(
            (phase, action),
            (Phase::Announcing(now + DELAY), Action::Announce)
        );
        assert_eq!(phase.deadline(), Some(now + DELAY));
        let later = now + DELAY;
        assert_eq!(
            phase.on(Event::Deadline, later, DELAYED),
            (Phase::Draining(later + GRACEFUL), Action::Drain)
        );
    }

    #[test]
    fn each_event_while_the_end_is_announced() {
        let now = Instant::now();
        let phase = Phase::Announcing(now + DELAY);
        for event in ALL {
            let expected = match event {
                Event::Drain | Event::Deadline => {
                    (Phase::Draining(now + GRACEFUL), Action::Drain)
                }
                Event::Stop | Event::Halt => (Phase::Stopping(now + QUICK), Action::Quit),
                Event::Reopen => (phase, Action::Reopen),
                Event::Empty => (phase, Action::Nothing),
                Event::Reload | Event::Upgrade | Event::More | Event::Fewer | Event::Rest => {
                    (phase, Action::Decline)
                }
            };
            assert_eq!(phase.on(event, now, DELAYED), expected, "{event:?}");
        }
        assert!(phase.is_serving() && !phase.is_running());
    }

    #[test]
    fn any_order_of_events_ends_once_the_children_are_gone_and_a_stop_was_asked_for() {
        let now = Instant::now();
        for first in ALL {
            for second in ALL {
                for third in ALL {
                    for patience in [AT_ONCE, DELAYED] {
                        let mut phase = Phase::Running;
                        for event in [first, second, third, Event::Stop] {
                            phase = phase.on(event, now, patience).0;
                        }
                        assert_eq!(phase.on(Event::Empty, now, patience).1, Action::Exit);
                    }
                }
            }
        }
    }
}
