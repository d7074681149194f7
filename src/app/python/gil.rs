//! The GIL is held while the worker's tasks run and given away while it waits, so that threads of the app run
//! whenever the worker has nothing to do: twice a wait, not twice a request.

#![expect(
    unsafe_code,
    reason = "the GIL is given away across a wait that is not a closure; pyo3 has no call for that"
)]

use std::cell::Cell;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::traceback;

thread_local! {
    /// The thread's state while the GIL is given away.
    static SAVED: Cell<*mut ffi::PyThreadState> = const { Cell::new(ptr::null_mut()) };
}

/// Just before the worker waits.
pub(super) fn release() {
    if SAVED.get().is_null() {
        // SAFETY: the worker's thread holds the GIL whenever its tasks run, and nothing of Python's is touched
        // until `acquire`: the runtime's driver only marks tasks as runnable meanwhile.
        SAVED.set(unsafe { ffi::PyEval_SaveThread() });
    }
}

/// Just after the worker has waited; then lets Python-level signal handlers run.
pub(super) fn acquire() {
    let state = SAVED.replace(ptr::null_mut());
    if state.is_null() {
        return;
    }
    // SAFETY: the state that `release` got, on the same thread, once.
    unsafe { ffi::PyEval_RestoreThread(state) };
    // SAFETY: the thread is attached again.
    let py = unsafe { Python::assume_attached() };
    if let Err(error) = py.check_signals() {
        tracing::error!(
            "A signal handler of the application raised\n{}",
            traceback::text(py, &error)
        );
    }
}

/// Does `work` with the GIL, whether it is given away at the moment or not.
pub(super) fn held<T>(work: impl FnOnce(Python<'_>) -> T) -> T {
    let given_away = !SAVED.get().is_null();
    if given_away {
        acquire();
    }
    // Attaches a thread that is no interpreter's; on the worker's own it only counts.
    let done = Python::attach(work);
    if given_away {
        release();
    }
    done
}

/// What a fork of a process that holds an interpreter needs around it; see `PyOS_BeforeFork`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkHooks {
    /// In the parent, before.
    pub(crate) before: fn(),
    /// In the parent, after.
    pub(crate) parent: fn(),
    /// In the child, first of all.
    pub(crate) child: fn(),
    /// Gives the GIL away while the master waits.
    pub(crate) pause: fn(),
    /// Takes it back.
    pub(crate) resume: fn(),
}

/// The hooks of `CPython`. They belong on the thread that holds the GIL, which the child holds as well afterwards.
pub(super) const FORK_HOOKS: ForkHooks = ForkHooks {
    before,
    parent,
    child,
    pause: release,
    resume: acquire,
};

fn before() {
    // SAFETY: the master calls it on the thread that holds the GIL.
    unsafe { ffi::PyOS_BeforeFork() };
}

fn parent() {
    // SAFETY: as above, after `before`.
    unsafe { ffi::PyOS_AfterFork_Parent() };
}

fn child() {
    // SAFETY: as above, in the child.
    unsafe { ffi::PyOS_AfterFork_Child() };
}
