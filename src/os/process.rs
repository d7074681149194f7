//! The process's environment, title and children.
#![expect(unsafe_code, reason = "setenv and the argument area of the process")]

use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By exit(3), with this code.
    Exited(i32),
    /// By this signal.
    Killed(nix::sys::signal::Signal),
}

/// Sets an environment variable of this process and its future children.
///
/// Only while the process has one thread: in the master, and in a worker before its runtime.
pub(crate) fn set_env(name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    // SAFETY: the process is single-threaded (the contract), so nobody reads the environment meanwhile.
    unsafe {
        std::env::set_var(name, value);
    }
}

/// `--env`: all of them; the conditions of [`set_env`].
pub(crate) fn set_all_env(variables: &[(String, String)]) {
    for (name, value) in variables {
        set_env(name, value);
    }
}

/// Removes an environment variable; the conditions of [`set_env`].
pub(crate) fn unset_env(name: impl AsRef<OsStr>) {
    // SAFETY: the process is single-threaded (the contract), so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
}

/// Reaps one child that has ended, if any: ours, or, as PID 1 of a container, one whose parent left it to us.
///
/// # Errors
/// Those of waitpid(2), but for "no child", which is `None`.
pub(crate) fn reap() -> io::Result<Option<(Pid, Ended)>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Ok(Some((pid, Ended::Exited(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Ok(Some((pid, Ended::Killed(signal))));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            // A child that was stopped or continued has not ended; an interrupted wait starts again.
            Ok(
                WaitStatus::Stopped(..)
                | WaitStatus::Continued(_)
                | WaitStatus::PtraceEvent(..)
                | WaitStatus::PtraceSyscall(_),
            )
            | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes ps(1) and top(1) show `title`: the argument area, cut to its length, and the 15 bytes of the short name.
///
/// Best effort: where /proc does not tell the area, only the short name changes.
pub(crate) fn set_title(title: &str) {
    let short: Vec<u8> = title.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(short) = std::ffi::CString::new(short) {
        let _ = nix::sys::prctl::set_name(&short);
    }
    let Some((start, end)) = argument_area() else {
        return;
    };
    let room = end.saturating_sub(start);
    if room < 2 {
        return;
    }
    let text = title.as_bytes();
    let length = text.len().min(room - 1);
    let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: [start, end) is the area that the kernel copied argv into, writable and mapped for the life of the
    // process; whoever parsed argv has taken copies (std and CPython do).
    unsafe { std::ptr::write_bytes(area, 0, room) };
    // SAFETY: `length` is below `room`; the source is a string of ours and does not overlap.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), area, length) };
}

/// `arg_start` and `arg_end` of `proc_pid_stat(5)`, fields 48 and 49.
fn argument_area() -> Option<(usize, usize)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name in brackets, may hold blanks: count from behind its end.
    let rest = text.get(text.rfind(')')?.checked_add(2)?..)?;
    let mut fields = rest.split_ascii_whitespace().skip(45);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start < end).then_some((start, end))
}
