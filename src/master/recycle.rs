//! Workers that have served as long, or hold as much, as they may: `--max-worker-age`, `--max-worker-memory`. Who has
//! answered `--max-requests` says so itself. What follows is the plan's: the successor first, one at a time.

use std::time::{Duration, Instant};

use super::Master;
use super::children::{Child, Life};
use crate::config::Config;

/// How often workers' memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why a worker is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Its age.
    Age,
    /// The bytes that it holds.
    Memory(u64),
}

/// When memory was looked at, and is to be again.
#[derive(Debug, Default)]
pub(crate) struct Recycler {
    next_look: Option<Instant>,
}

impl Recycler {
    /// The next moment at which a worker may be due.
    pub(super) fn deadline<'a>(
        &self,
        config: &Config,
        children: impl Iterator<Item = &'a Child>,
    ) -> Option<Instant> {
        let ages = children
            .filter(|child| serves_on(child) && !config.max_worker_age.is_zero())
            .filter_map(|child| child.born.checked_add(config.max_worker_age))
            .min();
        ages.into_iter().chain(self.next_look).min()
    }
}

impl Master {
    /// Notes who is due.
    pub(super) fn look_for_spent(&mut self, now: Instant) {
        let config = &self.current.config;
        let (age, memory) = (config.max_worker_age, config.max_worker_memory);
        let look = memory > 0 && self.recycler.next_look.is_none_or(|next| next <= now);
        if memory == 0 {
            self.recycler.next_look = None;
        } else if look {
            self.recycler.next_look = Some(now + LOOK);
        }
        for child in self.children.iter_mut().filter(|child| serves_on(child)) {
            let resident = look
                .then(|| crate::os::child::resident(child.pid))
                .flatten();
            let lived = now.saturating_duration_since(child.born);
            match due(age, memory, lived, resident) {
                None => continue,
                Some(Due::Age) => tracing::info!(
                    "Worker (pid:{}) is {} s old: another one takes its place.",
                    child.pid,
                    lived.as_secs()
                ),
                Some(Due::Memory(bytes)) => tracing::info!(
                    "Worker (pid:{}) holds {} MiB: another one takes its place.",
                    child.pid,
                    bytes >> 20
                ),
            }
            child.spent = true;
        }
    }
}

/// Nobody has asked for its successor yet.
fn serves_on(child: &Child) -> bool {
    child.life == Life::Ready && !child.spent
}

/// Zero limits nothing; what is not known is under the limit.
fn due(age: Duration, memory: u64, lived: Duration, resident: Option<u64>) -> Option<Due> {
    if !age.is_zero() && lived >= age {
        return Some(Due::Age);
    }
    resident
        .filter(|bytes| memory > 0 && *bytes > memory)
        .map(Due::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn age_and_memory_are_limits_only_where_they_are_set() {
        assert_eq!(due(Duration::ZERO, 0, MINUTE, Some(u64::MAX)), None);
        assert_eq!(due(MINUTE, 0, MINUTE, None), Some(Due::Age));
        assert_eq!(due(MINUTE, 0, LOOK * 59, None), None);
        assert_eq!(due(MINUTE, 10, LOOK, Some(11)), Some(Due::Memory(11)));
        assert_eq!(due(MINUTE, 10, LOOK, Some(10)), None);
        assert_eq!(due(MINUTE, 10, LOOK, None), None);
    }
}
