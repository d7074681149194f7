//! Who is to be started and who is to leave: from the children there are to those there should be, a step at a time.
//! Pure and total; its tests drive it through random lives.
//!
//! A slot's *heir* is a child of the generation that is to serve there, and not due to be recycled. Where there is none,
//! one is started; whoever else serves in the slot leaves only once the heir is ready. So a reload, a recycling and the
//! way back from a reload that was given up are all the same: the successor first.

#[cfg(test)]
mod tests;

use crate::channel::{Generation, Slot};

/// How a new generation takes over (`--reload-strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// All new workers are started beside the old ones, which leave together once all of those are ready.
    AllAtOnce,
    /// So many slots at a time; the old worker of a slot leaves as soon as the new one is ready.
    Rolling(usize),
}

/// Workers of one generation: one in each of the slots from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) generation: Generation,
    pub(crate) workers: u16,
}

/// What there should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Who is to serve.
    pub(crate) current: Wanted,
    /// Who is to follow: a reload under way.
    pub(crate) coming: Option<(Wanted, Strategy)>,
}

impl Goal {
    /// Whether a child boots for a reload that was given up: it serves nobody, and nobody waits for it.
    fn is_moot<I>(&self, child: &Seen<I>) -> bool {
        let coming = self.coming.map(|(coming, _)| coming.generation);
        child.stage == Stage::Booting
            && child.generation != self.current.generation
            && Some(child.generation) != coming
    }
}

/// How far in life a child is, as far as this plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Loading its app.
    Booting,
    /// It serves.
    Ready,
    /// It has been told to finish, or does so of its own accord.
    Leaving,
}

/// One child. `I` is what the steps name it by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<I> {
    pub(crate) id: I,
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    pub(crate) stage: Stage,
    /// It has served for as long, or as much, as it may: its successor is to come.
    pub(crate) spent: bool,
}

impl<I> Seen<I> {
    fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<I> {
    /// The coming generation is the current one from now on.
    Commit,
    /// It finishes what it has.
    Retire(I),
    /// Fork a worker.
    Start(Slot, Generation),
}

/// All that can be done now. Starts come in the order of their urgency: slots in which nobody serves first. After a
/// [`Step::Commit`], which comes alone, there is another plan to make.
pub(crate) fn plan<I: Copy>(goal: &Goal, children: &[Seen<I>]) -> Vec<Step<I>> {
    let Goal { current, coming } = *goal;
    let slots = current
        .workers
        .max(coming.map_or(0, |(wanted, _)| wanted.workers));
    let places: Vec<_> = (0..slots)
        .map(|slot| Place::of(slot, goal, children))
        .collect();
    if let Some((coming, _)) = coming
        && places
            .iter()
            .take(usize::from(coming.workers))
            .all(|place| place.heir(coming).is_some_and(Seen::is_ready))
    {
        return vec![Step::Commit];
    }

    let (mut retire, mut urgent, mut replace) = (Vec::new(), Vec::new(), Vec::new());
    let mut under_way = 0;
    for place in &places {
        let next = coming.and_then(|(coming, _)| place.heir(coming));
        if let (Some(next), Some((_, Strategy::Rolling(_)))) = (next, coming)
            && next.is_ready()
        {
            retire.extend(place.all_but([Some(next), None]));
            continue;
        }
        match place.heir(current) {
            Some(heir) if heir.is_ready() => retire.extend(place.all_but([Some(heir), next])),
            Some(_) => under_way += usize::from(place.is_served()),
            None if !current.has(place.slot) => {}
            None if !place.is_served() => {
                urgent.push(Step::Start(place.slot, current.generation));
            }
            // Who serves is spent, or of a generation that was given up. A reload would replace it anyhow.
            None if coming.is_none() => {
                replace.push(Step::Start(place.slot, current.generation));
            }
            None => {}
        }
        match (next, coming) {
            (Some(_), _) => under_way += 1,
            (None, Some((coming, _))) if coming.has(place.slot) => {
                replace.push(Step::Start(place.slot, coming.generation));
            }
            (None, _) => {}
        }
    }
    let at_once = match coming {
        Some((_, Strategy::AllAtOnce)) => usize::MAX,
        Some((_, Strategy::Rolling(slots))) => slots.max(1),
        None => 1,
    };
    let surplus = children
        .iter()
        .filter(|child| {
            child.stage != Stage::Leaving && (child.slot.0 >= slots || goal.is_moot(child))
        })
        .map(|child| child.id);
    let retire = retire.into_iter().chain(surplus).map(Step::Retire);
    let replace = replace.into_iter().take(at_once.saturating_sub(under_way));
    retire.chain(urgent).chain(replace).collect()
}

impl Wanted {
    const fn has(self, slot: Slot) -> bool {
        slot.0 < self.workers
    }
}

/// A slot and those in it who stay.
struct Place<'a, I> {
    slot: Slot,
    staying: Vec<&'a Seen<I>>,
}

impl<'a, I: Copy> Place<'a, I> {
    fn of(slot: u16, goal: &Goal, children: &'a [Seen<I>]) -> Self {
        let stays = |child: &&Seen<I>| child.stage != Stage::Leaving && !goal.is_moot(child);
        let staying = children
            .iter()
            .filter(|child| child.slot.0 == slot && stays(child))
            .collect();
        Self {
            slot: Slot(slot),
            staying,
        }
    }

    fn is_served(&self) -> bool {
        self.staying.iter().any(|child| child.is_ready())
    }

    /// Who serves here for `wanted`, or is about to; of two the one that does.
    fn heir(&self, wanted: Wanted) -> Option<&'a Seen<I>> {
        self.staying
            .iter()
            .copied()
            .filter(|child| {
                wanted.has(self.slot) && child.generation == wanted.generation && !child.spent
            })
            .max_by_key(|child| child.is_ready())
    }

    fn all_but(&self, keep: [Option<&'a Seen<I>>; 2]) -> Vec<I> {
        let kept = |child: &Seen<I>| {
            keep.into_iter()
                .flatten()
                .any(|one| std::ptr::eq(one, child))
        };
        self.staying
            .iter()
            .filter(|child| !kept(child))
            .map(|child| child.id)
            .collect()
    }
}
