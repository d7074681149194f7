//! Values that other threads may hold but only their own may use.
#![expect(
    unsafe_code,
    reason = "that a value is used on one thread only is checked when the program runs, which no safe form can say"
)]

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// This thread's number, never given to another; zero before it is asked for.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

fn here() -> u64 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

/// A value that may travel, and is there only for the thread that made it. Dropped on another thread it is never freed.
pub(crate) struct Resident<T> {
    value: ManuallyDrop<T>,
    home: u64,
}

// SAFETY: the value is borrowed (`get`) and dropped (`Drop`) only where the thread's number is the one of the thread
// that made it, and no two threads have the same number; on all others it is bytes that nobody looks at.
unsafe impl<T> Send for Resident<T> {}

impl<T> Resident<T> {
    /// Lives on this thread.
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            home: here(),
        }
    }

    /// The value; `None` on any other thread.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        (self.home == here()).then_some(&self.value)
    }
}

impl<T> Drop for Resident<T> {
    fn drop(&mut self) {
        if self.home == here() {
            // SAFETY: this is the value's own thread, and nothing uses it after its owner's drop.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Resident<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resident").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "another thread is the point")]
    fn it_is_there_at_home_only() {
        let value = Rc::new(());
        let resident = Resident::new(Rc::clone(&value));
        assert!(resident.get().is_some());
        let abroad = std::thread::spawn(move || (resident.get().is_none(), resident));
        let (hidden, resident) = abroad.join().unwrap();
        assert!(hidden && resident.get().is_some());
        std::thread::spawn(move || drop(resident)).join().unwrap();
        assert_eq!(Rc::strong_count(&value), 2, "it is kept, not freed abroad");
        drop(Resident::new(Rc::clone(&value)));
        assert_eq!(Rc::strong_count(&value), 2, "it is freed at home");
    }
}
