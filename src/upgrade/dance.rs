//! The steps of an upgrade as seen from outside: pure and total. Of the two masters at most one is ever told to end.

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dance {
    /// The old master has been sent USR2.
    Asked,
    /// There is a new master, not yet ready.
    Starting,
    /// The new master has ended, for this reason; the old one is about to say how, with all of it cleared away.
    Lost(Why),
    /// The new master serves, the old one has been told to finish.
    Retiring,
    /// The old one is gone; the new one is about to say that it has its names.
    Promoting,
    /// The new master has been told to end, for this reason; by KILL, at last.
    Undoing {
        /// Why.
        why: Why,
        /// Whether it was asked or made to.
        killed: bool,
    },
    /// The end.
    Over(Verdict),
}

/// Why there is no new master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The old one would not start one.
    Refused,
    /// It ended by itself.
    Failed,
    /// It was not ready in time.
    Late,
    /// Whoever asked for it has taken that back.
    Interrupted,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The new master serves, the old one has ended.
    Upgraded,
    /// The old one serves as before.
    Unchanged(Why),
    /// It is neither the one nor the other: see what.
    Unsettled(State),
}

/// What there is when it is neither the one nor the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The old master has not said anything.
    Silent,
    /// The old master was ended by somebody else before the new one was ready.
    OldGone,
    /// The new master ended while the old one was finishing.
    NewGone,
    /// The new one serves; nobody has waited for the old one's end.
    StillFinishing,
    /// The new master cannot be ended.
    Stuck,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The old master has started the new one.
    Started,
    /// The old master says that the new one is ready.
    Ready,
    /// The old master does not do it.
    Refused,
    /// The old master says that the new one has ended, or could not be started.
    Failed,
    /// The new master says that it has taken over.
    Promoted,
    /// The old process has ended.
    OldEnded,
    /// The new process has ended.
    NewEnded,
    /// The time for this step is over.
    Timeout,
    /// INT, TERM or HUP: it is not wanted any more.
    Interrupted,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Wait for the next event.
    Wait,
    /// TERM to the old master.
    RetireOld,
    /// TERM to the new master.
    EndNew,
    /// KILL to the new master.
    KillNew,
}

impl Dance {
    /// What `event` leads to.
    pub(super) const fn on(self, event: Event) -> (Self, Action) {
        match self {
            Self::Asked => match event {
                Event::Started => (Self::Starting, Action::Wait),
                Event::Refused => unchanged(Why::Refused),
                Event::Failed => unchanged(Why::Failed),
                Event::NewEnded => (Self::Lost(Why::Failed), Action::Wait),
                Event::OldEnded | Event::Promoted => unsettled(State::OldGone),
                Event::Timeout | Event::Interrupted => unsettled(State::Silent),
                // Of a new master that nobody has told of.
                Event::Ready => (self, Action::Wait),
            },
            Self::Starting => match event {
                Event::Ready => (Self::Retiring, Action::RetireOld),
                Event::Refused => unchanged(Why::Refused),
                Event::Failed => unchanged(Why::Failed),
                Event::NewEnded => (Self::Lost(Why::Failed), Action::Wait),
                Event::OldEnded | Event::Promoted => unsettled(State::OldGone),
                Event::Timeout => undo(Why::Late),
                Event::Interrupted => undo(Why::Interrupted),
                Event::Started => (self, Action::Wait),
            },
            Self::Lost(why) => match event {
                Event::Failed | Event::Refused | Event::Timeout | Event::Interrupted => {
                    unchanged(why)
                }
                Event::OldEnded => unsettled(State::OldGone),
                Event::Started | Event::Ready | Event::Promoted | Event::NewEnded => {
                    (self, Action::Wait)
                }
            },
            Self::Retiring => match event {
                Event::OldEnded => (Self::Promoting, Action::Wait),
                Event::Promoted => over(Verdict::Upgraded),
                Event::NewEnded | Event::Failed => unsettled(State::NewGone),
                Event::Interrupted => unsettled(State::StillFinishing),
                // It has as long as its own --graceful-timeout gives it.
                Event::Timeout | Event::Started | Event::Ready | Event::Refused => {
                    (self, Action::Wait)
                }
            },
            Self::Promoting => match event {
                Event::Promoted | Event::Timeout | Event::Interrupted => {
                    over(Verdict::Upgraded)
                }
                Event::NewEnded | Event::Failed => unsettled(State::NewGone),
                Event::OldEnded | Event::Started | Event::Ready | Event::Refused => {
                    (self, Action::Wait)
                }
            },
            Self::Undoing { why, killed } => match event {
                Event::NewEnded => (Self::Lost(why), Action::Wait),
                Event::Failed => unchanged(why),
                Event::OldEnded | Event::Promoted => unsettled(State::OldGone),
                Event::Timeout if killed => unsettled(State::Stuck),
                Event::Timeout => (Self::Undoing { why, killed: true }, Action::KillNew),
                // Too late: it has been told to end.
                Event::Ready | Event::Started | Event::Refused | Event::Interrupted => {
                    (self, Action::Wait)
                }
            },
            Self::Over(_) => (self, Action::Wait),
        }
    }
}

const fn over(verdict: Verdict) -> (Dance, Action) {
    (Dance::Over(verdict), Action::Wait)
}

const fn unchanged(why: Why) -> (Dance, Action) {
    over(Verdict::Unchanged(why))
}

const fn unsettled(state: State) -> (Dance, Action) {
    over(Verdict::Unsettled(state))
}

const fn undo(why: Why) -> (Dance, Action) {
    (Dance::Undoing { why, killed: false }, Action::EndNew)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Event; 9] = [
        Event::Started,
        Event::Ready,
        Event::Refused,
        Event::Failed,
        Event::Promoted,
        Event::OldEnded,
        Event::NewEnded,
        Event::Timeout,
        Event::Interrupted,
    ];

    /// Goes through `events` and checks what must hold whatever they are.
    fn dance(events: impl IntoIterator<Item = Event>) -> Dance {
        let mut dance = Dance::Asked;
        let (mut ready, mut old_gone, mut new_gone) = (false, false, false);
        let (mut retired, mut ended) = (0, 0);
        for event in events {
            let before = dance;
            let (after, action) = dance.on(event);
            old_gone |= matches!(event, Event::OldEnded | Event::Promoted);
            new_gone |= matches!(event, Event::NewEnded | Event::Failed);
            ready |= event == Event::Ready;
            if let Dance::Over(_) = before {
                assert_eq!(
                    (after, action),
                    (before, Action::Wait),
                    "the end is the end"
                );
            }
            match action {
                Action::Wait => {}
                Action::RetireOld => {
                    retired += 1;
                    assert!(
                        ready && !new_gone,
                        "nobody would serve: {before:?}, {event:?}"
                    );
                }
                Action::EndNew | Action::KillNew => {
                    ended += 1;
                    assert!(!old_gone, "nobody would serve: {before:?}, {event:?}");
                }
            }
            assert!(retired == 0 || ended == 0, "both were told to end");
            assert!(retired <= 1 && ended <= 2, "told once");
            match after {
                Dance::Over(Verdict::Upgraded) => assert!(retired == 1),
                Dance::Over(Verdict::Unchanged(_)) => assert!(retired == 0),
                Dance::Asked
                | Dance::Starting
                | Dance::Lost(_)
                | Dance::Retiring
                | Dance::Promoting
                | Dance::Undoing { .. }
                | Dance::Over(Verdict::Unsettled(_)) => {}
            }
            dance = after;
        }
        dance
    }

    #[test]
    fn the_way_it_should_go() {
        let events = [
            Event::Started,
            Event::Ready,
            Event::OldEnded,
            Event::Promoted,
        ];
        assert_eq!(dance(events), Dance::Over(Verdict::Upgraded));
    }

    #[test]
    fn a_new_master_that_is_late_is_ended_and_then_killed() {
        let events = [Event::Started, Event::Timeout, Event::Timeout];
        let why = Why::Late;
        assert_eq!(dance(events), Dance::Undoing { why, killed: true });
        let events = events.into_iter().chain([Event::NewEnded, Event::Failed]);
        assert_eq!(dance(events), Dance::Over(Verdict::Unchanged(Why::Late)));
    }

    #[test]
    fn every_order_of_five_events_keeps_one_master() {
        for first in ALL {
            for second in ALL {
                for third in ALL {
                    for fourth in ALL {
                        for fifth in ALL {
                            dance([first, second, third, fourth, fifth]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_step_ends_with_its_time_once_the_old_master_is_gone() {
        for first in ALL {
            for second in ALL {
                for third in ALL {
                    let events = [first, second, third, Event::OldEnded, Event::Timeout];
                    assert!(matches!(dance(events), Dance::Over(_)), "{events:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_order_of_events_retires_both(
            events in prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..40)
        ) {
            dance(events);
        }
    }
}
