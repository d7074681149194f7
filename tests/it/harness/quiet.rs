//! Tests that count or load need the machine for themselves; all others share it.

use std::cell::Cell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    /// This test has the machine, shared or alone: what it starts further asks no more.
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// The machine for one test alone, for as long as this lives.
///
/// # Panics
/// If this test has started a server already: it would wait for itself.
pub(crate) fn quiet() -> Quiet {
    assert!(!HELD.get(), "ask for quiet before starting a server");
    let guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    HELD.set(true);
    Quiet { _guard: guard }
}

/// The machine, alone.
pub(crate) struct Quiet {
    _guard: RwLockWriteGuard<'static, ()>,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        HELD.set(false);
    }
}

/// The machine, beside other tests; nothing where this test has it already.
pub(crate) fn share() -> Option<Share> {
    if HELD.get() {
        return None;
    }
    let guard = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    HELD.set(true);
    Some(Share { _guard: guard })
}

/// The machine, beside other tests.
pub(crate) struct Share {
    _guard: RwLockReadGuard<'static, ()>,
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.set(false);
    }
}
