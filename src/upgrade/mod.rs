//! `rgun-async upgrade`: the whole of an upgrade from outside. It sends USR2 to a master, waits until the new one is ready,
//! and has the old one finish; or, where the new one does not come to serve, has that one end and leaves the old one alone.
//!
//! The masters tell what becomes of it ([`News`]); they are believed by the process id and user that the kernel gives with
//! each message. Their ends are seen by descriptors, so no signal can reach a stranger who got the same number.

mod dance;
mod target;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::cli::upgrade::Upgrade;
use crate::error::{Exit, chain};
use crate::news::{self, News};
use crate::os::child::is_stopped;
use crate::os::datagram::{Inbox, Sender};
use crate::os::pidfd::Process;
use crate::os::signal::Signals;
use dance::{Action, Dance, Event, State, Verdict, Why};
use target::{Old, TargetError};

/// How long a master has to tell what its process's end has told already.
const WORD: Duration = Duration::from_secs(5);

/// Why it was not even tried.
#[derive(Debug, thiserror::Error)]
enum UpgradeError {
    /// There is no master to upgrade.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The name where news come in is taken.
    #[error("another upgrade of process {0} is under way")]
    Watched(Pid),
    /// A system call failed.
    #[error("cannot upgrade process {0}")]
    Os(Pid, #[source] io::Error),
}

/// The subcommand, to its exit code; what came of it is printed.
pub(crate) fn run(wanted: &Upgrade) -> Exit {
    let told = match Watch::begin(wanted).and_then(Watch::watch) {
        Ok(told) => told,
        Err(error) => Told {
            exit: Exit::Config,
            text: format!("Error: {}", chain(&error)),
        },
    };
    // Nobody is left to tell where the standard streams are gone.
    let _ = if told.exit == Exit::Done {
        writeln!(io::stdout(), "{}", told.text)
    } else {
        writeln!(io::stderr(), "{}", told.text)
    };
    told.exit
}

/// What is printed at the end.
struct Told {
    exit: Exit,
    text: String,
}

/// An upgrade under way.
struct Watch<'a> {
    wanted: &'a Upgrade,
    old: Old,
    new: Option<Process>,
    inbox: Inbox,
    signals: Signals,
    dance: Dance,
    /// When the step's time is over.
    deadline: Option<Instant>,
    /// Why there is no new master, as the old one says.
    reason: Option<String>,
}

impl<'a> Watch<'a> {
    /// Listens, and then sends USR2.
    fn begin(wanted: &'a Upgrade) -> Result<Self, UpgradeError> {
        let old = Old::find(&wanted.target)?;
        let pid = old.process.pid();
        let os = |error| UpgradeError::Os(pid, error);
        let address = news::address(&pid.to_string(), pid).map_err(os)?;
        let inbox = Inbox::open(&address).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                UpgradeError::Watched(pid)
            } else {
                os(error)
            }
        })?;
        let signals = Signals::block().map_err(os)?;
        old.process.signal(Signal::SIGUSR2).map_err(os)?;
        Ok(Self {
            wanted,
            old,
            new: None,
            inbox,
            signals,
            dance: Dance::Asked,
            deadline: Instant::now().checked_add(wanted.timeout),
            reason: None,
        })
    }

    fn watch(mut self) -> Result<Told, UpgradeError> {
        let pid = self.old.process.pid();
        loop {
            if let Dance::Over(verdict) = self.dance {
                return Ok(self.tell(verdict));
            }
            let os = |error| UpgradeError::Os(pid, error);
            self.wait().map_err(os)?;
            // Ends first: who is gone is not ready, whatever has been said before.
            if self.new.as_ref().is_some_and(Process::has_ended) {
                self.on(Event::NewEnded);
            }
            while let Some((text, sender)) = self.inbox.next().map_err(os)? {
                self.take(&text, sender);
            }
            if self.old.process.has_ended() {
                self.on(Event::OldEnded);
            }
            while let Some(signal) = self.signals.next().map_err(os)? {
                if [
                    Signal::SIGINT,
                    Signal::SIGTERM,
                    Signal::SIGHUP,
                    Signal::SIGQUIT,
                ]
                .contains(&signal)
                {
                    self.on(Event::Interrupted);
                }
            }
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                self.deadline = None;
                self.on(Event::Timeout);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // Readable for ever, once it has ended and that is known.
        if self.dance != Dance::Promoting {
            fds.push(PollFd::new(self.old.process.as_fd(), PollFlags::POLLIN));
        }
        let new = self
            .new
            .as_ref()
            .filter(|_| !matches!(self.dance, Dance::Lost(_)));
        fds.extend(new.map(|new| PollFd::new(new.as_fd(), PollFlags::POLLIN)));
        let timeout = self.deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: waking a moment early would spin.
            let left = left + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A message, from whomever.
    fn take(&mut self, text: &str, sender: Sender) {
        if sender.uid != self.old.uid {
            return;
        }
        let of_old = sender.pid == self.old.process.pid();
        let of_new = self.new.as_ref().is_some_and(|new| new.pid() == sender.pid);
        let event = match News::read(text) {
            Some(News::Started(pid)) if of_old => {
                self.new = target::child(pid, self.old.process.pid());
                self.on(Event::Started);
                if self.new.is_none() {
                    // Already gone.
                    self.on(Event::NewEnded);
                }
                return;
            }
            Some(News::Ready(_)) if of_old => Event::Ready,
            Some(News::Refused(why)) if of_old => {
                self.reason = Some(why);
                Event::Refused
            }
            Some(News::Failed(why)) if of_old => {
                self.reason = Some(why);
                Event::Failed
            }
            Some(News::Promoted) if of_new => Event::Promoted,
            Some(
                News::Started(_)
                | News::Ready(_)
                | News::Refused(_)
                | News::Failed(_)
                | News::Promoted,
            )
            | None => return,
        };
        self.on(event);
    }

    /// Asks the dance, and does what it says.
    fn on(&mut self, event: Event) {
        let before = self.dance;
        let (dance, action) = before.on(event);
        self.dance = dance;
        match action {
            Action::Wait => {}
            Action::RetireOld => send(&self.old.process, Signal::SIGTERM),
            Action::EndNew => self.end_new(Signal::SIGTERM),
            Action::KillNew => self.end_new(Signal::SIGKILL),
        }
        if dance != before {
            let now = Instant::now();
            self.deadline = match dance {
                // One time for both: from USR2 until it is ready.
                Dance::Starting => self.deadline,
                Dance::Lost(_) | Dance::Promoting => now.checked_add(WORD),
                Dance::Undoing { killed: true, .. } => now.checked_add(WORD),
                Dance::Undoing { killed: false, .. } => {
                    let stopped = self.new.as_ref().is_some_and(|new| is_stopped(new.pid()));
                    // It could not obey.
                    let patience = if stopped {
                        Duration::ZERO
                    } else {
                        self.wanted.kill_after
                    };
                    now.checked_add(patience)
                }
                Dance::Asked | Dance::Retiring | Dance::Over(_) => None,
            };
        }
    }

    fn end_new(&self, signal: Signal) {
        if let Some(new) = &self.new {
            send(new, signal);
        }
    }

    fn tell(&self, verdict: Verdict) -> Told {
        let old = self.old.process.pid();
        let new = self.new.as_ref().map(Process::pid);
        let new = new.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let reason = self.reason.as_deref().unwrap_or("it did not say why");
        let timeout = self.wanted.timeout.as_secs_f64();
        let (exit, text) = match verdict {
            Verdict::Upgraded => (
                Exit::Done,
                format!(
                    "Upgraded: the new master{new} serves, the old one (pid {old}) has ended."
                ),
            ),
            Verdict::Unchanged(why) => {
                let why = match why {
                    Why::Refused => reason.to_owned(),
                    Why::Failed => {
                        format!("the new master{new}: {reason}; the server's log says more")
                    }
                    Why::Late => format!(
                        "the new master{new} was not ready within {timeout} s, and was ended"
                    ),
                    Why::Interrupted => format!("interrupted; the new master{new} was ended"),
                };
                (
                    Exit::Config,
                    format!("Error: not upgraded: {why}. The old master (pid {old}) goes on."),
                )
            }
            Verdict::Unsettled(state) => {
                let what = match state {
                    State::Silent => format!(
                        "the master (pid {old}) has not answered to USR2; it may yet start a new one"
                    ),
                    State::OldGone => format!(
                        "the old master (pid {old}) was ended by somebody else before the new one{new} was ready"
                    ),
                    State::NewGone => format!(
                        "the new master{new} has ended while the old one (pid {old}) was finishing"
                    ),
                    State::StillFinishing => format!(
                        "the new master{new} serves; the old one (pid {old}) is still finishing"
                    ),
                    State::Stuck => format!(
                        "the new master{new} was not ready within {timeout} s, and cannot be ended; the old one (pid {old}) goes on"
                    ),
                };
                (Exit::Unsettled, format!("Error: {what}."))
            }
        };
        Told { exit, text }
    }
}

/// A process that is gone is about to be seen as such.
fn send(process: &Process, signal: Signal) {
    let _ = process.signal(signal);
}
