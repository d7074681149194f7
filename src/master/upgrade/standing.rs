//! Where a master stands in an upgrade: pure and total, like the phases.

use nix::unistd::Pid;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no other master.
    Alone,
    /// It has started a new master, whose workers are not ready yet.
    Awaiting(Pid),
    /// It has started a new master, which serves beside it.
    Followed(Pid),
    /// It is the new master of this old one, which lives.
    Following(Pid),
}

/// What happened, as far as this goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// USR2.
    Asked,
    /// A new master was forked.
    Started(Pid),
    /// The new master says that all its workers are ready.
    Ready,
    /// This child has ended.
    Ended(Pid),
    /// The process that started this one is gone.
    Orphaned,
}

/// What the master does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Nothing,
    /// Start the new binary.
    Start,
    /// Nothing: there is a new master already.
    RefuseForChild(Pid),
    /// Nothing: it is itself a new master, and the old one has not gone.
    RefuseForParent(Pid),
    /// Tell that the new master is ready.
    TellReady(Pid),
    /// Undo what the upgrade has changed: the new master ended before it was ready.
    Fail(Pid),
    /// The same for one that has served.
    GoOn(Pid),
    /// Take over the old master's names.
    Promote(Pid),
}

impl Standing {
    /// What `event` leads to.
    pub(crate) fn on(self, event: Event) -> (Self, Action) {
        match self {
            Self::Alone => match event {
                Event::Asked => (self, Action::Start),
                Event::Started(new) => (Self::Awaiting(new), Action::Nothing),
                Event::Ready | Event::Ended(_) | Event::Orphaned => (self, Action::Nothing),
            },
            Self::Awaiting(new) => match event {
                Event::Asked => (self, Action::RefuseForChild(new)),
                Event::Ready => (Self::Followed(new), Action::TellReady(new)),
                Event::Ended(pid) if pid == new => (Self::Alone, Action::Fail(new)),
                Event::Ended(_) | Event::Started(_) | Event::Orphaned => {
                    (self, Action::Nothing)
                }
            },
            Self::Followed(new) => match event {
                Event::Asked => (self, Action::RefuseForChild(new)),
                Event::Ended(pid) if pid == new => (Self::Alone, Action::GoOn(new)),
                Event::Ended(_) | Event::Ready | Event::Started(_) | Event::Orphaned => {
                    (self, Action::Nothing)
                }
            },
            Self::Following(old) => match event {
                Event::Asked => (self, Action::RefuseForParent(old)),
                Event::Orphaned => (Self::Alone, Action::Promote(old)),
                Event::Started(_) | Event::Ready | Event::Ended(_) => (self, Action::Nothing),
            },
        }
    }

    /// The new master beside this one.
    pub(crate) const fn child(self) -> Option<Pid> {
        match self {
            Self::Awaiting(new) | Self::Followed(new) => Some(new),
            Self::Alone | Self::Following(_) => None,
        }
    }

    /// The old master beside this one.
    pub(crate) const fn parent(self) -> Option<Pid> {
        match self {
            Self::Following(old) => Some(old),
            Self::Alone | Self::Awaiting(_) | Self::Followed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Pid {
        Pid::from_raw(2)
    }

    fn old() -> Pid {
        Pid::from_raw(1)
    }

    fn all() -> [Standing; 4] {
        [
            Standing::Alone,
            Standing::Awaiting(new()),
            Standing::Followed(new()),
            Standing::Following(old()),
        ]
    }

    fn events() -> [Event; 6] {
        [
            Event::Asked,
            Event::Started(new()),
            Event::Ready,
            Event::Ended(new()),
            Event::Ended(Pid::from_raw(9)),
            Event::Orphaned,
        ]
    }

    #[test]
    fn every_standing_answers_every_event() {
        use Action as A;
        use Standing as S;
        let (n, o) = (new(), old());
        let (alone, awaiting) = (S::Alone, S::Awaiting(n));
        let (followed, following) = (S::Followed(n), S::Following(o));
        let nothing = |standing: Standing| (standing, A::Nothing);
        // A row for each standing, in the order of `events`.
        let table = [
            [
                (alone, A::Start),
                nothing(awaiting),
                nothing(alone),
                nothing(alone),
                nothing(alone),
                nothing(alone),
            ],
            [
                (awaiting, A::RefuseForChild(n)),
                nothing(awaiting),
                (followed, A::TellReady(n)),
                (alone, A::Fail(n)),
                nothing(awaiting),
                nothing(awaiting),
            ],
            [
                (followed, A::RefuseForChild(n)),
                nothing(followed),
                nothing(followed),
                (alone, A::GoOn(n)),
                nothing(followed),
                nothing(followed),
            ],
            [
                (following, A::RefuseForParent(o)),
                nothing(following),
                nothing(following),
                nothing(following),
                nothing(following),
                (alone, A::Promote(o)),
            ],
        ];
        for (standing, row) in all().into_iter().zip(table) {
            for (event, answer) in events().into_iter().zip(row) {
                assert_eq!(standing.on(event), answer, "{standing:?} on {event:?}");
            }
        }
    }

    #[test]
    fn there_are_never_three_masters() {
        for standing in all() {
            let (_, action) = standing.on(Event::Asked);
            let starts = action == Action::Start;
            assert_eq!(starts, standing.child().or(standing.parent()).is_none());
        }
    }

    #[test]
    fn whatever_comes_between_the_end_of_the_other_master_leaves_one_that_can_be_upgraded() {
        for standing in all() {
            for first in events() {
                for second in events() {
                    let after = standing.on(first).0.on(second).0;
                    let end = match after {
                        Standing::Alone => continue,
                        Standing::Awaiting(new) | Standing::Followed(new) => Event::Ended(new),
                        Standing::Following(_) => Event::Orphaned,
                    };
                    assert_eq!(after.on(end).0, Standing::Alone);
                    assert_eq!(after.on(end).0.on(Event::Asked).1, Action::Start);
                }
            }
        }
    }
}
