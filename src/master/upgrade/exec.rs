//! The child of a master that becomes the new master: descriptors get the numbers that the new one is told, and the
//! command is executed.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::Pid;

use super::voice::{Ear, READY, TICKETS, Word, inheritable};
use super::{Command, FDS, PARENT};
use crate::config::Address;
use crate::error::Exit;
use crate::hooks::Outcome;
use crate::listener::Bound;
use crate::os::fds::{duplicate_above, keep_on_exec, place};
use crate::os::fork::{Hooks, Side, exit_now, fork};
use crate::os::process::{set_env, unset_env};
use crate::os::signal::Signals;

/// What execvp(3) failing is told by: the shell's code for a command that cannot be run.
const CANNOT_EXEC: u8 = 126;
/// The first descriptor that a socket manager passes (`sd_listen_fds(3)`).
const LISTEN_FDS_START: RawFd = 3;

/// The sockets that a new master is given.
#[derive(Debug)]
pub(super) struct Sockets<'a> {
    /// Each with the number that it must have, if it is known by one.
    fds: Vec<(BorrowedFd<'a>, Option<RawFd>)>,
    /// They are told as a socket manager does, because they came from one.
    of_manager: bool,
}

impl<'a> Sockets<'a> {
    /// Those of `bound`.
    pub(super) fn of(bound: impl Iterator<Item = &'a Bound>, of_manager: bool) -> Self {
        let mut fds = Vec::new();
        for bound in bound {
            for fd in bound.fds() {
                let number = match bound.address() {
                    Address::Fd(_) if of_manager => RawFd::try_from(fds.len())
                        .ok()
                        .map(|index| LISTEN_FDS_START.saturating_add(index)),
                    // It may have another one since a reload.
                    Address::Fd(number) => Some(*number),
                    Address::Tcp { .. } | Address::Unix(_) | Address::Abstract(_) => None,
                };
                fds.push((fd, number));
            }
        }
        Self { fds, of_manager }
    }

    /// Lower than any number that is given away freely.
    fn floor(&self) -> RawFd {
        let taken = self.fds.iter().filter_map(|(_, number)| *number).max();
        taken.unwrap_or(2).max(2).saturating_add(1)
    }

    /// Gives them their numbers, open for the exec; the numbers.
    fn arrange(&self) -> io::Result<Vec<RawFd>> {
        let floor = self.floor();
        // All of them out of the way before the first one is put in its place.
        let moved = self
            .fds
            .iter()
            .map(|(fd, number)| Ok((duplicate_above(fd, floor)?, *number)))
            .collect::<io::Result<Vec<_>>>()?;
        let place = |(fd, number): (OwnedFd, Option<RawFd>)| {
            let Some(number) = number else {
                keep_on_exec(&fd, true)?;
                return Ok(fd.into_raw_fd());
            };
            place(&fd, number)?;
            Ok(number)
        };
        moved.into_iter().map(place).collect()
    }
}

/// Starts `command` with `sockets` and the copy of the TLS sessions' keys; the new master's process id, and where it is heard.
///
/// # Errors
/// Those of pipe(2) and fork(2). That the command cannot be executed is said by the child, which then ends with 126.
pub(super) fn start(
    command: &Command,
    sockets: &Sockets<'_>,
    tickets: Option<&File>,
    signals: &Signals,
    hooks: Hooks,
    pre_exec: impl FnOnce() -> Outcome,
) -> io::Result<(Pid, Ear)> {
    let (ear, mut voice) = Ear::pair()?;
    match fork(hooks)? {
        Side::Parent(pid) => Ok((pid, ear)),
        Side::Child => {
            drop(ear);
            if let Err(failed) = pre_exec() {
                tracing::error!("{failed}");
                Word::Failed(String::from("the hook pre_exec failed")).say(&mut voice);
                exit_now(failed.exit.unwrap_or(Exit::Config).code());
            }
            let error = become_new(command, sockets, tickets, &voice, signals);
            let program = command.arguments.first().cloned().unwrap_or_default();
            let why = format!("cannot start {}: {error}", program.display());
            Word::Failed(why).say(&mut voice);
            exit_now(CANNOT_EXEC)
        }
    }
}

/// Only returns when it failed.
fn become_new(
    command: &Command,
    sockets: &Sockets<'_>,
    tickets: Option<&File>,
    voice: &PipeWriter,
    signals: &Signals,
) -> io::Error {
    let prepare = || -> io::Result<Vec<CString>> {
        let voice = inheritable(voice, sockets.floor())?;
        let tickets = tickets
            .map(|tickets| inheritable(tickets, sockets.floor()))
            .transpose()?;
        let numbers = sockets.arrange()?;
        set_env(READY, voice.into_raw_fd().to_string());
        set_env(PARENT, nix::unistd::getppid().to_string());
        match tickets {
            Some(tickets) => set_env(TICKETS, tickets.into_raw_fd().to_string()),
            None => unset_env(TICKETS),
        }
        unset_env(FDS);
        unset_env("LISTEN_PID");
        unset_env("LISTEN_FDS");
        if sockets.of_manager {
            set_env("LISTEN_PID", std::process::id().to_string());
            set_env("LISTEN_FDS", numbers.len().to_string());
        } else {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            set_env(FDS, numbers.join(","));
        }
        std::env::set_current_dir(&command.directory)?;
        signals.restore_mask()?;
        command
            .arguments
            .iter()
            .map(|argument| CString::new(argument.as_bytes()).map_err(io::Error::other))
            .collect()
    };
    match prepare() {
        Ok(arguments) => {
            let Some(program) = arguments.first() else {
                return io::ErrorKind::InvalidInput.into();
            };
            match nix::unistd::execvp(program, &arguments) {
                Ok(never) => match never {},
                Err(error) => error.into(),
            }
        }
        Err(error) => error,
    }
}
