use proptest::prelude::{Just, any, prop};
use proptest::strategy::Strategy as _;
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

const FIRST: Generation = Generation(0);
const SECOND: Generation = Generation(1);

fn child(id: u32, slot: u16, generation: Generation, stage: Stage) -> Seen<u32> {
    Seen {
        id,
        slot: Slot(slot),
        generation,
        stage,
        spent: false,
    }
}

fn steady(workers: u16) -> Goal {
    Goal {
        current: Wanted {
            generation: FIRST,
            workers,
        },
        coming: None,
    }
}

fn reload(workers: u16, strategy: Strategy) -> Goal {
    let coming = Wanted {
        generation: SECOND,
        workers,
    };
    Goal {
        coming: Some((coming, strategy)),
        ..steady(workers)
    }
}

fn start(slot: u16, generation: Generation) -> Step<u32> {
    Step::Start(Slot(slot), generation)
}

#[test]
fn at_the_start_all_slots_are_filled_at_once() {
    let all: Vec<_> = (0..3).map(|slot| start(slot, FIRST)).collect();
    assert_eq!(plan::<u32>(&steady(3), &[]), all);
}

#[test]
fn one_worker_less_retires_the_last_slot() {
    let children = [0, 1, 2].map(|slot| child(slot.into(), slot, FIRST, Stage::Ready));
    assert_eq!(plan(&steady(2), &children), [Step::Retire(2)]);
}

#[test]
fn a_spent_worker_leaves_when_its_successor_is_ready_and_one_at_a_time() {
    let mut children =
        Vec::from([0, 1].map(|slot| child(slot.into(), slot, FIRST, Stage::Ready)));
    for child in &mut children {
        child.spent = true;
    }
    assert_eq!(plan(&steady(2), &children), [start(0, FIRST)]);
    children.push(child(2, 0, FIRST, Stage::Booting));
    assert_eq!(plan(&steady(2), &children), []);
    children[2].stage = Stage::Ready;
    assert_eq!(
        plan(&steady(2), &children),
        [Step::Retire(0), start(1, FIRST)]
    );
}

#[test]
fn a_slot_in_which_nobody_serves_does_not_wait_for_a_recycling() {
    let mut children = [
        child(0, 0, FIRST, Stage::Ready),
        child(1, 0, FIRST, Stage::Booting),
    ];
    children[0].spent = true;
    assert_eq!(
        plan(&steady(3), &children),
        [start(1, FIRST), start(2, FIRST)]
    );
}

#[test]
fn all_at_once_keeps_every_old_worker_until_every_new_one_is_ready() {
    let goal = reload(2, Strategy::AllAtOnce);
    let mut children =
        Vec::from([0, 1].map(|slot| child(slot.into(), slot, FIRST, Stage::Ready)));
    assert_eq!(plan(&goal, &children), [start(0, SECOND), start(1, SECOND)]);
    children.push(child(2, 0, SECOND, Stage::Ready));
    children.push(child(3, 1, SECOND, Stage::Booting));
    assert_eq!(plan(&goal, &children), []);
    children[3].stage = Stage::Ready;
    assert_eq!(plan(&goal, &children), [Step::Commit]);
    let after = Goal {
        current: goal.coming.unwrap().0,
        coming: None,
    };
    assert_eq!(plan(&after, &children), [Step::Retire(0), Step::Retire(1)]);
}

#[test]
fn rolling_replaces_so_many_slots_at_a_time() {
    let goal = reload(3, Strategy::Rolling(1));
    let mut children =
        Vec::from([0, 1, 2].map(|slot| child(slot.into(), slot, FIRST, Stage::Ready)));
    assert_eq!(plan(&goal, &children), [start(0, SECOND)]);
    children.push(child(3, 0, SECOND, Stage::Booting));
    assert_eq!(plan(&goal, &children), []);
    children[3].stage = Stage::Ready;
    assert_eq!(plan(&goal, &children), [Step::Retire(0), start(1, SECOND)]);
}

#[test]
fn a_rolling_reload_that_was_given_up_is_gone_back_slot_by_slot() {
    let children = [
        child(3, 0, SECOND, Stage::Ready),
        child(4, 1, SECOND, Stage::Ready),
        child(2, 2, FIRST, Stage::Ready),
    ];
    assert_eq!(plan(&steady(3), &children), [start(0, FIRST)]);
}

#[test]
fn an_old_worker_that_dies_during_a_reload_is_replaced_all_the_same() {
    let goal = reload(2, Strategy::AllAtOnce);
    let children = [
        child(0, 0, FIRST, Stage::Ready),
        child(2, 0, SECOND, Stage::Booting),
        child(3, 1, SECOND, Stage::Booting),
    ];
    assert_eq!(plan(&goal, &children), [start(1, FIRST)]);
}

// ----- random lives -----

/// What happens between two plans; numbers choose among the children there are.
#[derive(Clone, Copy, Debug)]
enum Event {
    Boots(usize),
    Dies(usize),
    /// It leaves of its own accord, as when it is sent TERM.
    Leaves(usize),
    Ends(usize),
    Spent(usize),
    Hup(u16, Strategy),
    GivenUp,
    More,
    Fewer,
}

fn event() -> impl proptest::strategy::Strategy<Value = Event> {
    let strategy = prop_oneof![
        Just(Strategy::AllAtOnce),
        (1..3_usize).prop_map(Strategy::Rolling)
    ];
    prop_oneof![
        6 => any::<usize>().prop_map(Event::Boots),
        1 => any::<usize>().prop_map(Event::Dies),
        1 => any::<usize>().prop_map(Event::Leaves),
        3 => any::<usize>().prop_map(Event::Ends),
        2 => any::<usize>().prop_map(Event::Spent),
        1 => (1..5_u16, strategy).prop_map(|(workers, strategy)| Event::Hup(workers, strategy)),
        1 => Just(Event::GivenUp),
        1 => Just(Event::More),
        1 => Just(Event::Fewer),
    ]
}

/// A server of which everything but the plan is a list.
struct World {
    goal: Goal,
    newest: u64,
    next: u32,
    children: Vec<Seen<u32>>,
}

impl World {
    fn new() -> Self {
        Self {
            goal: steady(3),
            newest: 0,
            next: 0,
            children: Vec::new(),
        }
    }

    fn serving(&self, slot: u16) -> usize {
        let serves = |child: &&Seen<u32>| child.slot.0 == slot && child.is_ready();
        self.children.iter().filter(serves).count()
    }

    fn pick(&mut self, stage: Stage, number: usize) -> Option<&mut Seen<u32>> {
        let of_stage: Vec<_> = (self
            .children
            .iter_mut()
            .filter(|child| child.stage == stage))
        .collect();
        let count = of_stage.len().max(1);
        of_stage.into_iter().nth(number % count)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Boots(number) => {
                if let Some(child) = self.pick(Stage::Booting, number) {
                    child.stage = Stage::Ready;
                }
            }
            Event::Dies(number) => {
                if !self.children.is_empty() {
                    let index = number % self.children.len();
                    self.children.swap_remove(index);
                }
            }
            Event::Leaves(number) => {
                if let Some(child) = self.pick(Stage::Ready, number) {
                    child.stage = Stage::Leaving;
                }
            }
            Event::Ends(number) => {
                if let Some(id) = self.pick(Stage::Leaving, number).map(|child| child.id) {
                    self.children.retain(|child| child.id != id);
                }
            }
            Event::Spent(number) => {
                if let Some(child) = self.pick(Stage::Ready, number) {
                    child.spent = true;
                }
            }
            Event::Hup(workers, strategy) => {
                self.newest += 1;
                let wanted = Wanted {
                    generation: Generation(self.newest),
                    workers,
                };
                self.goal.coming = Some((wanted, strategy));
            }
            Event::GivenUp => self.goal.coming = None,
            Event::More => self.scale(1),
            Event::Fewer => self.scale(-1),
        }
    }

    fn scale(&mut self, by: i16) {
        let to = |workers: u16| workers.saturating_add_signed(by).max(1);
        self.goal.current.workers = to(self.goal.current.workers);
        if let Some((coming, _)) = &mut self.goal.coming {
            coming.workers = to(coming.workers);
        }
    }

    /// Does what the plan says; how many steps that were.
    fn follow(&mut self) -> usize {
        let steps = plan(&self.goal, &self.children);
        for step in &steps {
            match *step {
                Step::Commit => self.commit(),
                Step::Retire(id) => self.retire(id),
                Step::Start(slot, generation) => self.start(slot, generation),
            }
        }
        steps.len()
    }

    fn commit(&mut self) {
        let (coming, _) = self.goal.coming.take().expect("a reload is under way");
        for slot in 0..coming.workers {
            assert!(
                self.serving(slot) > 0,
                "slot {slot} is served at the take-over"
            );
        }
        self.goal.current = coming;
    }

    fn retire(&mut self, id: u32) {
        let child = *(self.children.iter().find(|child| child.id == id)).expect("it is there");
        assert_ne!(child.stage, Stage::Leaving, "nobody is told twice");
        let wanted = child.slot.0 < self.goal.current.workers;
        if wanted && child.is_ready() {
            let others = self.serving(child.slot.0) - 1;
            assert!(others > 0, "slot {} stays served", child.slot.0);
        }
        for one in self.children.iter_mut().filter(|one| one.id == id) {
            one.stage = Stage::Leaving;
        }
    }

    fn start(&mut self, slot: Slot, generation: Generation) {
        let twin = self.children.iter().any(|child| {
            child.slot == slot
                && child.generation == generation
                && child.stage != Stage::Leaving
                && !child.spent
        });
        assert!(
            !twin,
            "slot {slot} has one of generation {generation} already"
        );
        self.children
            .push(child(self.next, slot.0, generation, Stage::Booting));
        self.next += 1;
        if let Some((_, Strategy::Rolling(slots))) = self.goal.coming {
            let booting = |child: &&Seen<u32>| {
                child.stage == Stage::Booting && self.serving(child.slot.0) > 0
            };
            let replacing = self.children.iter().filter(booting).count();
            let started_before = usize::from(self.goal.current.workers);
            assert!(
                replacing <= slots + started_before,
                "memory does not double"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_slots_stay_served_and_all_ends_in_one_worker_a_slot(
        events in prop::collection::vec(event(), 0..80)
    ) {
        let mut world = World::new();
        for event in events {
            world.happens(event);
            world.follow();
        }
        // From here on everybody boots, and who leaves ends.
        let mut turns = 0;
        loop {
            let steps = world.follow();
            let moving = world.children.iter().any(|child| !child.is_ready());
            if steps == 0 && !moving {
                break;
            }
            world.happens(Event::Boots(turns));
            world.happens(Event::Ends(turns));
            turns += 1;
            prop_assert!(turns < 1000, "it settles: {:?} {:?}", world.goal, world.children);
        }
        let Wanted { generation, workers } = world.goal.current;
        prop_assert!(world.goal.coming.is_none(), "the reload has ended");
        prop_assert_eq!(world.children.len(), usize::from(workers));
        for slot in 0..workers {
            prop_assert_eq!(world.serving(slot), 1);
        }
        let right = |child: &Seen<u32>| child.generation == generation && !child.spent;
        prop_assert!(world.children.iter().all(right));
    }
}
