//! USR2: the new binary, started beside us with our listening sockets. `RGUN_FD` carries their numbers, `RGUN_PID` our
//! process id, `RGUN_READY` the pipe through which the new master says that it serves, `RGUN_TICKETS` a copy of the keys of
//! TLS sessions; it matches sockets with addresses itself. Sockets of a socket manager are handed on as they came, by `LISTEN_FDS`. Gunicorn: `Arbiter.reexec`.
//!
//! While both live, the names are the old one's: its pidfile, the paths of its unix sockets, the service manager's main
//! process. A new master that ends, in whatever way, takes nothing of that away; one that is promoted takes it over.

mod exec;
mod standing;
mod voice;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

use nix::unistd::Pid;

use super::systemd::{Moment, notify};
use super::{Master, of_config, remove_second_pidfile};
use crate::error::Exit;
use crate::listener::Bound;
use crate::news::News;
use crate::os::process::{Ended, set_title};
use exec::Sockets;
pub(crate) use standing::Standing;
use standing::{Action, Event};
use voice::{Ear, Word};
pub(crate) use voice::{OldMaster, READY, TICKETS};

/// The variable that lists the descriptors, separated by commas.
pub(crate) const FDS: &str = "RGUN_FD";
/// The variable that names the old master.
pub(crate) const PARENT: &str = "RGUN_PID";

/// How this program was started, to be started again.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The directory it was started in.
    pub(crate) directory: PathBuf,
}

/// A master's part in an upgrade.
#[derive(Debug)]
pub(super) struct Upgrade {
    standing: Standing,
    /// Where the new master is heard.
    ear: Option<Ear>,
    /// What the new master has said of its failure.
    said: Option<String>,
    /// Whom a new master tells that it is ready.
    old: Option<OldMaster>,
    /// All workers have been ready once, and this was told.
    ready: bool,
    /// The service manager was told of a reload that has not ended.
    reloading: bool,
    /// Closed at the beginning of this master's end, their paths perhaps still another's.
    left: Vec<Bound>,
}

impl Upgrade {
    /// At the start: `old` is there where the start is an upgrade.
    pub(super) fn new(old: Option<OldMaster>) -> Self {
        let standing = match &old {
            Some(old) => Standing::Following(old.pid()),
            None => Standing::Alone,
        };
        Self {
            standing,
            ear: None,
            said: None,
            old,
            ready: false,
            reloading: false,
            left: Vec::new(),
        }
    }

    /// Where this master stands.
    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }

    /// What wakes the master: the new one speaks, or the old one ends.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ear = self.ear.as_ref().map(AsFd::as_fd);
        let old = self.old.as_ref().and_then(OldMaster::fd);
        ear.into_iter().chain(old)
    }

    /// Whether the old master's end has to be looked for, as nothing tells it.
    pub(super) fn must_look(&self) -> bool {
        self.old.as_ref().is_some_and(|old| old.fd().is_none())
    }

    /// In a worker: all of this is the master's.
    pub(super) fn forget(&mut self) {
        self.ear = None;
        self.old = None;
        self.left.clear();
    }
}

impl Master {
    /// USR2.
    pub(super) fn upgrade(&mut self) {
        self.stand(Event::Asked, "");
    }

    /// USR2, while the server stops.
    pub(super) fn refuse_upgrade() {
        tell_news(&News::Refused(String::from("the server is stopping")));
    }

    /// Takes in what the new master has said.
    pub(super) fn hear(&mut self) {
        let Some(ear) = &mut self.upgrade.ear else {
            return;
        };
        let (words, open) = ear.listen();
        if !open {
            self.upgrade.ear = None;
        }
        for word in words {
            match word {
                Word::Ready => self.stand(Event::Ready, ""),
                Word::Failed(why) => self.upgrade.said = Some(why),
            }
        }
    }

    /// A child has ended; whether it was the new master.
    pub(super) fn bury_new_master(&mut self, pid: Pid, ended: Ended) -> bool {
        if self.upgrade.standing.child() != Some(pid) {
            return false;
        }
        self.hear();
        let how = how(ended);
        let why = match self.upgrade.said.take() {
            Some(said) => format!("{how}: {said}"),
            None => how,
        };
        self.stand(Event::Ended(pid), &why);
        true
    }

    /// A new master's: the old one is gone, its names are ours.
    pub(super) fn look_at_the_parent(&mut self) {
        if let Some(parent) = self.upgrade.standing.parent()
            && nix::unistd::getppid() != parent
        {
            self.stand(Event::Orphaned, "");
        }
    }

    /// What those who watch this master are still to be told.
    pub(super) fn tell_watchers(&mut self) {
        if self.current.proven && !self.upgrade.ready {
            self.upgrade.ready = true;
            if let Some(old) = &mut self.upgrade.old {
                old.tell_ready();
            }
            notify(Moment::Ready, self.upgrade.standing);
        }
        if self.upgrade.reloading && self.coming.is_none() {
            self.upgrade.reloading = false;
            notify(Moment::Reloaded, self.upgrade.standing);
        }
    }

    /// A reload begins.
    pub(super) fn tell_reloading(&mut self) {
        // Until the first workers are ready, the service is starting.
        if self.upgrade.ready {
            self.upgrade.reloading = true;
            notify(Moment::Reloading, self.upgrade.standing);
        }
    }

    /// This master's end begins.
    pub(super) fn tell_stopping(&self) {
        notify(Moment::Stopping, self.upgrade.standing);
    }

    /// The sockets are closed: workers hold duplicates, which close when they have taken what waits in the kernel's queue.
    pub(super) fn leave_sockets(&mut self) {
        let mut bound = std::mem::take(&mut self.current.bound);
        if self.upgrade.standing == Standing::Alone {
            bound.iter().for_each(Bound::remove_path);
        } else {
            bound.iter_mut().for_each(Bound::close);
            self.upgrade.left.append(&mut bound);
        }
    }

    /// At the very end, when the workers and their duplicates are gone: paths that no other master serves. One that lives may
    /// have a configuration without some.
    pub(super) fn leave_paths(&self) {
        let left = self.upgrade.left.iter();
        left.for_each(Bound::remove_deserted_path);
    }

    /// Asks the standing, and does what it says; `why` is how a new master has ended.
    fn stand(&mut self, event: Event, why: &str) {
        let (standing, action) = self.upgrade.standing.on(event);
        self.upgrade.standing = standing;
        match action {
            Action::Nothing => {}
            Action::Start => self.start_new_master(),
            Action::RefuseForChild(pid) => {
                tracing::warn!("USR2 signal ignored. Child exists (pid:{pid}).");
                let why = format!("there is a new master already (pid:{pid})");
                tell_news(&News::Refused(why));
            }
            Action::RefuseForParent(pid) => {
                tracing::warn!("USR2 signal ignored. Parent exists (pid:{pid}).");
                let why =
                    format!("it is a new master itself, and the old one (pid:{pid}) lives");
                tell_news(&News::Refused(why));
            }
            Action::TellReady(pid) => {
                tracing::info!("The new master (pid:{pid}) is ready.");
                tell_news(&News::Ready(pid));
            }
            Action::Fail(pid) => {
                tracing::error!(
                    "The new master (pid:{pid}) ended before it was ready: it {why}."
                );
                self.undo_upgrade(pid, why);
            }
            Action::GoOn(pid) => {
                tracing::warn!("The new master (pid:{pid}) has ended: it {why}.");
                self.undo_upgrade(pid, why);
            }
            Action::Promote(old) => self.take_over(old),
        }
    }

    fn start_new_master(&mut self) {
        // Of a reload under way, what is not the current edition's: the new master reads that configuration.
        let known = |bound: &&Bound| {
            let same = |other: &Bound| other.name() == bound.name();
            !self.current.bound.iter().any(same)
        };
        let coming = self.coming.iter().flat_map(|coming| &coming.bound);
        let bound = self.current.bound.iter().chain(coming.filter(known));
        let sockets = Sockets::of(bound, self.current.of_manager);
        let tickets = self.ticket_keys.copy(Instant::now());
        let tickets = tickets.unwrap_or_else(|error| {
            tracing::warn!("TLS sessions end with the old master: {error}");
            None
        });
        let started = exec::start(
            &self.setup.command,
            &sockets,
            tickets.as_ref(),
            &self.setup.signals,
            self.setup.hooks,
            || {
                self.setup
                    .server_hooks
                    .pre_exec(&self.server(&self.current))
            },
        );
        match started {
            Ok((pid, ear)) => {
                tracing::info!("Started a new master (pid:{pid}).");
                self.upgrade.ear = Some(ear);
                self.upgrade.said = None;
                self.stand(Event::Started(pid), "");
                tell_news(&News::Started(pid));
            }
            Err(error) => {
                tracing::error!("cannot start a new master: {error}");
                tell_news(&News::Failed(format!("could not be started: {error}")));
            }
        }
    }

    /// The new master is gone, and what it may have changed or left behind goes with it.
    fn undo_upgrade(&mut self, pid: Pid, why: &str) {
        self.upgrade.ear = None;
        if let Some(pidfile) = &self.setup.pidfile {
            remove_second_pidfile(pidfile.path(), pid);
        }
        if self.phase.is_running() {
            for bound in &self.current.bound {
                // The new one may have asked for another backlog, of the same socket.
                if let Err(error) = bound.listen_again(&self.current.options(1)) {
                    tracing::warn!("cannot set the backlog of {}: {error}", bound.url());
                }
            }
            if self.current.workers == 0 && self.watcher.is_none() {
                tracing::info!("No other master is left: the workers come back.");
                let workers = of_config(&self.current.config);
                self.want(|_| workers);
            }
        } else {
            // The manager was told that the new one would go on.
            self.tell_stopping();
        }
        tell_news(&News::Failed(why.to_owned()));
    }

    fn take_over(&mut self, old: Pid) {
        if let Some(pidfile) = &mut self.setup.pidfile
            && let Err(error) = pidfile.promote()
        {
            let from = pidfile.path().display();
            tracing::error!("cannot give {from} the old master's name: {error}");
        }
        let editions = [Some(&mut self.current), self.coming.as_mut()];
        let bound = editions.into_iter().flatten().flat_map(|e| &mut e.bound);
        bound
            .chain(&mut self.upgrade.left)
            .for_each(Bound::claim_path);
        self.upgrade.old = None;
        set_title(&self.title("master"));
        // Who waits for this line looks at the pidfile and at ps next.
        tracing::info!("Master has been promoted.");
        let ready = self.upgrade.ready;
        notify(Moment::Promoted { ready }, self.upgrade.standing);
        if !self.phase.is_running() {
            self.tell_stopping();
        }
        News::Promoted.tell(old);
    }
}

/// This master's news.
fn tell_news(news: &News) {
    news.tell(nix::unistd::getpid());
}

/// How a process has ended, for people.
fn how(ended: Ended) -> String {
    match ended {
        Ended::Exited(code) => {
            let meaning = match Exit::from_code(code) {
                Some(Exit::Config) => " (configuration or address)",
                Some(Exit::Usage) => " (command line)",
                Some(Exit::WorkerBoot) => " (a worker could not boot)",
                Some(Exit::AppLoad) => " (the app could not be loaded)",
                Some(Exit::Done | Exit::Unsettled | Exit::BadAnswer | Exit::Internal)
                | None => "",
            };
            format!("exited with code {code}{meaning}")
        }
        Ended::Killed(signal) => format!("was ended by {signal}"),
    }
}
