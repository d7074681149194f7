//! Which signals an app has taken for itself while it was loaded.
//!
//! The worker's own handlers are there before the app. What the app replaces is left to it, as Gunicorn does, but said.

#![expect(
    unsafe_code,
    reason = "sigaction(2) with nothing to set has no safe form"
)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

/// The signals that mean something to a worker.
const SIGNALS: [(c_int, &str); 8] = [
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGWINCH, "SIGWINCH"),
];

/// The handlers at one moment.
pub(super) struct Taken([usize; SIGNALS.len()]);

impl Taken {
    /// Those of now.
    pub(super) fn now() -> Self {
        Self(SIGNALS.map(|(signal, _)| handler(signal)))
    }

    /// The signals whose handler is another one now.
    pub(super) fn since(&self) -> impl Iterator<Item = &'static str> {
        SIGNALS
            .iter()
            .zip(self.0)
            .filter(|((signal, _), before)| handler(*signal) != *before)
            .map(|((_, name), _)| *name)
    }
}

/// The address of a signal's handler.
fn handler(signal: c_int) -> usize {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null `act` changes nothing, and `action` has room for the answer.
    let read = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if read != 0 {
        return 0;
    }
    // SAFETY: zeroed, then written by the call above: every bit pattern of it is a value.
    unsafe { action.assume_init() }.sa_sigaction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_took_is_not_named() {
        assert_eq!(Taken::now().since().count(), 0);
    }

    #[test]
    fn a_changed_handler_is_named() {
        let mut before = Taken::now();
        before.0[1] = before.0[1].wrapping_add(1);
        assert_eq!(before.since().collect::<Vec<_>>(), ["SIGINT"]);
    }
}
