//! The one place where the master waits; what woke it becomes values here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::children::Children;
use super::phase::Event;
use crate::channel::Report;
use crate::os::process::{Ended, reap};
use crate::os::signal::Signals;

/// What has happened since the last wait.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    /// Signals, in the order they are to be handled.
    pub(crate) signals: Vec<Signal>,
    /// Reports of workers.
    pub(crate) reports: Vec<(Pid, Report)>,
    /// Children that ended: ours, and strays that were left to PID 1.
    pub(crate) ended: Vec<(Pid, Ended)>,
}

/// Waits until a signal or a report comes, until one of `others` is readable, or until `deadline`.
///
/// # Errors
/// Those of poll(2), read(2), waitpid(2): the master cannot go on.
pub(crate) fn wait<'a>(
    signals: &Signals,
    children: &mut Children,
    others: impl Iterator<Item = BorrowedFd<'a>>,
    deadline: Option<Instant>,
    now: Instant,
) -> io::Result<Happened> {
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.extend(
        children
            .channels()
            .map(|channel| PollFd::new(channel, PollFlags::POLLIN)),
    );
    fds.extend(others.map(|other| PollFd::new(other, PollFlags::POLLIN)));
    let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
        // Rounded up: waking a moment early would spin.
        let left = deadline.saturating_duration_since(now) + Duration::from_micros(999);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Reports before deaths: who said "ready" and then died had been ready.
    let mut happened = Happened {
        reports: children.reports(),
        ..Happened::default()
    };
    let mut child_died = false;
    while let Some(signal) = signals.next()? {
        if signal == Signal::SIGCHLD {
            child_died = true;
        } else {
            happened.signals.push(signal);
        }
    }
    if child_died {
        while let Some(ended) = reap()? {
            happened.ended.push(ended);
        }
    }
    Ok(happened)
}

/// What a signal means; Gunicorn's meanings (docs/SIGNALS.md).
pub(crate) fn meaning(signal: Signal) -> Option<Event> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other signals are never blocked"
    )]
    match signal {
        Signal::SIGTERM => Some(Event::Drain),
        Signal::SIGINT | Signal::SIGQUIT => Some(Event::Stop),
        Signal::SIGHUP => Some(Event::Reload),
        Signal::SIGUSR1 => Some(Event::Reopen),
        Signal::SIGUSR2 => Some(Event::Upgrade),
        Signal::SIGTTIN => Some(Event::More),
        Signal::SIGTTOU => Some(Event::Fewer),
        Signal::SIGWINCH => Some(Event::Rest),
        _ => None,
    }
}

/// The name Gunicorn logs: `term`, `hup`.
pub(crate) fn name(signal: Signal) -> String {
    signal
        .as_str()
        .trim_start_matches("SIG")
        .to_ascii_lowercase()
}
