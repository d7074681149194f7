//! Whether a process is a master that can be upgraded from here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid};

use crate::cli::upgrade::Target;
use crate::os::pidfd::Process;

/// Why it cannot.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// No process id stands there.
    #[error("cannot read a process id from the pidfile '{path}'", path = path.display())]
    Pidfile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such process.
    #[error("there is no process {0}")]
    Gone(Pid),
    /// It cannot be looked at.
    #[error("cannot watch process {0}")]
    Unwatched(Pid, #[source] io::Error),
    /// USR2 would end it, or do nothing.
    #[error("process {0} is no master of rgun-async: USR2 would not be an upgrade to it")]
    NoMaster(Pid),
    /// Neither its number nor its messages mean anything here.
    #[error(
        "process {pid} is in another {kind} name space: run this there (docker exec, nsenter)"
    )]
    Elsewhere {
        /// The process.
        pid: Pid,
        /// `network`, `pid`.
        kind: &'static str,
    },
}

/// A master, held by a descriptor.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) process: Process,
    /// Whom its messages, and those of its children, come from.
    pub(super) uid: Uid,
}

impl Old {
    /// The master that `target` names.
    ///
    /// # Errors
    /// A [`TargetError`]; nothing has been done to the process.
    pub(super) fn find(target: &Target) -> Result<Self, TargetError> {
        let pid = match target {
            Target::Pid(pid) => Pid::from_raw(*pid),
            Target::Pidfile(path) => read(path).map_err(|source| TargetError::Pidfile {
                path: path.clone(),
                source,
            })?,
        };
        let process = Process::open(pid).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => TargetError::Gone(pid),
            Some(_) | None => TargetError::Unwatched(pid, error),
        })?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|error| TargetError::Unwatched(pid, error))?;
        if !takes_upgrades(&status) {
            return Err(TargetError::NoMaster(pid));
        }
        let uid = uid(&status).ok_or(TargetError::NoMaster(pid))?;
        for (name, kind) in [("net", "network"), ("pid", "pid")] {
            let space = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}"));
            let theirs = space(&pid.to_string());
            // Who may not look may not send a signal either, which is told by then.
            if let (Ok(theirs), Ok(ours)) = (theirs, space("self"))
                && theirs != ours
            {
                return Err(TargetError::Elsewhere { pid, kind });
            }
        }
        if process.has_ended() {
            return Err(TargetError::Gone(pid));
        }
        Ok(Self { process, uid })
    }
}

/// The new master with this number, if `old` has started it.
pub(super) fn child(pid: Pid, old: Pid) -> Option<Process> {
    let process = Process::open(pid).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent: i32 = field(&status, "PPid")?.parse().ok()?;
    (Pid::from_raw(parent) == old).then_some(process)
}

fn read(path: &Path) -> io::Result<Pid> {
    let text = fs::read_to_string(path)?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.map(Pid::from_raw)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A master has USR2 blocked, and reads it from a descriptor; workers and other programs have not.
fn takes_upgrades(status: &str) -> bool {
    let blocked = field(status, "SigBlk").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let bit = number(Signal::SIGUSR2).saturating_sub(1);
    blocked.is_some_and(|mask| mask >> bit & 1 == 1)
}

#[expect(clippy::as_conversions, reason = "an enum of small numbers")]
const fn number(signal: Signal) -> u32 {
    (signal as i32).unsigned_abs()
}

/// The real one: what the kernel puts into messages.
fn uid(status: &str) -> Option<Uid> {
    let real = field(status, "Uid")?.split_whitespace().next()?;
    real.parse().ok().map(Uid::from_raw)
}

/// A field of `/proc/PID/status` (proc(5)).
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\trgun-async: mas\nPPid:\t7\nUid:\t33\t0\t0\t0\n\
                          SigBlk:\t000000000da34a07\nSigIgn:\t0000000000000000\n";

    #[test]
    fn a_master_is_told_by_its_blocked_signals() {
        assert!(takes_upgrades(STATUS) == (0x0da3_4a07_u64 >> 11 & 1 == 1));
        assert!(takes_upgrades("SigBlk:\t0000000000000800\n"));
        assert!(!takes_upgrades("SigBlk:\t0000000000000400\n"));
        assert!(!takes_upgrades("SigIgn:\t0000000000000800\n"));
        assert_eq!(uid(STATUS), Some(Uid::from_raw(33)));
    }

    #[test]
    fn who_is_no_master_is_refused_before_anything_is_sent() {
        let own = Target::Pid(std::process::id().try_into().unwrap());
        assert!(matches!(Old::find(&own), Err(TargetError::NoMaster(_))));
        let nobody = Target::Pid(i32::MAX);
        assert!(matches!(Old::find(&nobody), Err(TargetError::Gone(_))));
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "x\n"), ("b", "-1\n"), ("c", "")] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let found = Old::find(&Target::Pidfile(path));
            assert!(matches!(found, Err(TargetError::Pidfile { .. })), "{text}");
        }
    }
}
