//! Fork, and the end of a child.
#![expect(unsafe_code, reason = "fork and _exit have no safe form")]

use std::io;

use nix::unistd::{ForkResult, Pid};

/// Which side of the fork this is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The new process; it must end by [`exit_now`], never return into the parent's code.
    Child,
    /// The old process, and the new one's id.
    Parent(Pid),
}

/// Calls that an embedded runtime wants around a fork (`CPython`: `PyOS_BeforeFork` and its fellows).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks {
    /// In the parent, before.
    pub(crate) before: fn(),
    /// In the parent, after.
    pub(crate) parent: fn(),
    /// In the child, first thing.
    pub(crate) child: fn(),
    /// Before the master waits: threads of the runtime may run meanwhile.
    pub(crate) pause: fn(),
    /// After it has waited.
    pub(crate) resume: fn(),
    /// The runtime may have threads, and its hooks see to the locks that they hold.
    pub(crate) threads: bool,
}

impl Hooks {
    /// For a process with no embedded runtime.
    pub(crate) const NONE: Self = Self {
        before: || (),
        parent: || (),
        child: || (),
        pause: || (),
        resume: || (),
        threads: false,
    };
}

/// fork(2). The process must have one thread, or the child would inherit locks that nobody releases. Threads that an
/// embedded runtime has started never run code of ours, so the locks they may hold are the runtime's and the C library's,
/// which both have their hooks.
///
/// # Errors
/// EAGAIN at the limit of processes, ENOMEM.
pub(crate) fn fork(hooks: Hooks) -> io::Result<Side> {
    debug_assert!(
        hooks.threads || threads() <= 1,
        "fork with {} threads",
        threads()
    );
    (hooks.before)();
    // SAFETY: no other thread runs code of ours (asserted above, kept by the master, which starts no thread), so no lock
    // of ours is held by one, and the child may call any function.
    let result = unsafe { nix::unistd::fork() };
    match result {
        Ok(ForkResult::Child) => {
            (hooks.child)();
            Ok(Side::Child)
        }
        Ok(ForkResult::Parent { child }) => {
            (hooks.parent)();
            Ok(Side::Parent(child))
        }
        Err(error) => {
            (hooks.parent)();
            Err(error.into())
        }
    }
}

/// Ends this process without running exit handlers or destructors that belong to the parent.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit only ends the process; what must be flushed has been.
    unsafe { libc::_exit(i32::from(code)) }
}

/// How many threads this process has; 1 where /proc does not tell.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
