//! USR2: the new binary, started beside us with our listening sockets. `RGUN_FD` carries their numbers, `RGUN_PID` our
//! process id; the new master matches sockets with addresses itself. Gunicorn: `Arbiter.reexec`.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::Master;
use super::reload::Edition;
use crate::error::Exit;
use crate::hooks::Outcome;
use crate::os::fork::{Hooks, Side, exit_now, fork};
use crate::os::process::{set_env, set_title, unset_env};
use crate::os::signal::Signals;

/// The variable that lists the descriptors, separated by commas.
pub(crate) const FDS: &str = "RGUN_FD";
/// The variable that names the old master.
pub(crate) const PARENT: &str = "RGUN_PID";
/// What execvp(3) failing is told by: the shell's code for a command that cannot be run.
const CANNOT_EXEC: u8 = 126;

/// How this program was started, to be started again.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The directory it was started in.
    pub(crate) directory: PathBuf,
}

impl Master {
    /// USR2.
    pub(super) fn upgrade(&mut self) {
        if let Some(pid) = self.successor {
            tracing::warn!("USR2 signal ignored. Child exists (pid:{pid}).");
            return;
        }
        if let Some(pid) = self.setup.parent {
            tracing::warn!("USR2 signal ignored. Parent exists (pid:{pid}).");
            return;
        }
        let started = start(
            &self.setup.command,
            &self.current,
            &self.setup.signals,
            self.setup.hooks,
            || {
                self.setup
                    .server_hooks
                    .pre_exec(&self.server(&self.current))
            },
        );
        match started {
            Ok(pid) => {
                tracing::info!("Started a new master (pid:{pid}).");
                self.successor = Some(pid);
            }
            Err(error) => tracing::error!("cannot start a new master: {error}"),
        }
    }

    /// A new master's: the old one is gone, its names are ours.
    pub(super) fn look_at_the_parent(&mut self) {
        let Some(parent) = self.setup.parent else {
            return;
        };
        if nix::unistd::getppid() == parent {
            return;
        }
        self.setup.parent = None;
        tracing::info!("Master has been promoted.");
        if let Some(pidfile) = &mut self.setup.pidfile
            && let Some(path) = &self.current.config.pidfile
            && let Err(error) = pidfile.rename(path)
        {
            let from = pidfile.path().display();
            tracing::error!("cannot rename {from} to {}: {error}", path.display());
        }
        set_title(&self.title("master"));
    }
}

/// Starts `command` with the sockets of `edition`; the new master's process id.
///
/// # Errors
/// Those of fork(2). That the command cannot be executed is logged by the child, which then ends with 126.
fn start(
    command: &Command,
    edition: &Edition,
    signals: &Signals,
    hooks: Hooks,
    pre_exec: impl FnOnce() -> Outcome,
) -> io::Result<Pid> {
    match fork(hooks)? {
        Side::Parent(pid) => Ok(pid),
        Side::Child => {
            if let Err(failed) = pre_exec() {
                tracing::error!("{failed}");
                exit_now(failed.exit.unwrap_or(Exit::Config).code());
            }
            let error = become_new(command, edition, signals);
            tracing::error!(
                "cannot start the new binary {:?}: {error}",
                command.arguments
            );
            exit_now(CANNOT_EXEC)
        }
    }
}

/// Only returns when it failed.
fn become_new(command: &Command, edition: &Edition, signals: &Signals) -> io::Error {
    let prepare = || -> io::Result<Vec<CString>> {
        let mut numbers = Vec::new();
        for fd in edition.bound.iter().flat_map(crate::listener::Bound::fds) {
            crate::os::fds::keep_on_exec(fd, true)?;
            numbers.push(fd.as_raw_fd().to_string());
        }
        set_env(FDS, numbers.join(","));
        set_env(PARENT, nix::unistd::getppid().to_string());
        // A socket manager's variables name descriptors that are ours now.
        unset_env("LISTEN_PID");
        unset_env("LISTEN_FDS");
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
