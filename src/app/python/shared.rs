//! What may go from one thread to another, of a room whose references belong to the GIL.

#![expect(
    unsafe_code,
    reason = "the compiler cannot see that the GIL orders what threads do"
)]

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;

use super::object::Ref;

/// A reference on its way to a thread that holds the GIL. Where it never arrives the object is never freed, which is
/// better than freeing it without the GIL.
pub(super) struct Away(ManuallyDrop<Ref>);

// SAFETY: an address until `home` makes a reference of it, on a thread that holds the GIL: the token says so.
unsafe impl Send for Away {}

impl Away {
    pub(super) fn new(object: Ref) -> Self {
        Self(ManuallyDrop::new(object))
    }

    /// The reference, on a thread that holds the GIL.
    pub(super) fn home(self, _: Python<'static>) -> Ref {
        ManuallyDrop::into_inner(self.0)
    }
}

/// A value inside a Python object, which any thread may use or drop that holds the GIL.
///
/// As with everything of ours, no borrow of it lasts while Python code can run: so the GIL does not change hands within one.
pub(super) struct UnderGil<T>(T);

// SAFETY: reached by `get` alone, with a token, and dropped with the Python object that it is in: each time under the GIL,
// which lets one thread through at a time and orders what they do. (The limited API has no build without a GIL.)
unsafe impl<T> Send for UnderGil<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for UnderGil<T> {}

impl<T> UnderGil<T> {
    /// For a field of a Python object, and nothing else.
    pub(super) const fn new(value: T) -> Self {
        Self(value)
    }

    pub(super) fn get(&self, _: Python<'_>) -> &T {
        &self.0
    }
}

/// References that a thread without the GIL has done with.
static LEFT: Mutex<Vec<Away>> = Mutex::new(Vec::new());
/// How many bytes they keep.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// Gets somebody to call [`clear`] soon.
static CALL: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// What is kept until somebody clears anyway.
const PATIENCE: usize = 1024 * 1024;

fn left() -> MutexGuard<'static, Vec<Away>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on references can be left; `call` gets somebody to [`clear`] them.
pub(super) fn keep(call: impl Fn() + Send + Sync + 'static) {
    // Once a process.
    drop(CALL.set(Box::new(call)));
}

/// Leaves a reference that keeps `bytes` for a thread that holds the GIL. Where nobody clears it is lost.
pub(super) fn leave(object: Away, bytes: usize) {
    let Some(call) = CALL.get() else { return };
    left().push(object);
    let before = HELD.fetch_add(bytes, Ordering::Relaxed);
    if before + bytes >= PATIENCE {
        call();
    }
}

/// Gives back what was left.
pub(super) fn clear(py: Python<'static>) {
    if HELD.load(Ordering::Relaxed) == 0 {
        return;
    }
    let objects = {
        let mut left = left();
        HELD.store(0, Ordering::Relaxed);
        std::mem::take(&mut *left)
    };
    for object in objects {
        drop(object.home(py));
    }
}
