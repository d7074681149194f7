//! From the master to a worker: what a worker is born with, the fork, and the end of the master's part in the child.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use super::Master;
use super::children::Child;
use super::plan::{Goal, Step, plan};
use super::reload::Edition;
use crate::channel::{Generation, Order, Slot, WorkerContext};
use crate::code_files::CodeFiles;
use crate::error::Exit;
use crate::heartbeat::Heartbeat;
use crate::hooks::Worker;
use crate::last_words::LastWords;
use crate::listener::Bound;
use crate::os::fork::{Side, exit_now, fork};
use crate::os::process::set_title;
use crate::scoreboard::Row;

/// What came of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forked {
    /// There is one worker more.
    Alive,
    /// It did not come to it: a hook failed, and the server stops.
    Forbidden,
}

impl Master {
    /// Moves what is towards what is wanted, as far as the pace of replacements allows.
    pub(super) fn follow_plan(&mut self, now: Instant) {
        loop {
            let goal = Goal {
                current: self.current.wanted(),
                coming: self
                    .coming
                    .as_ref()
                    .map(|coming| (coming.wanted(), coming.strategy())),
            };
            let steps = plan(&goal, &self.children.seen());
            if steps.contains(&Step::Commit) {
                self.commit_reload();
                continue;
            }
            let leaving: Vec<_> = steps
                .iter()
                .filter_map(|step| match step {
                    Step::Retire(pid) => Some(*pid),
                    Step::Commit | Step::Start(..) => None,
                })
                .collect();
            let waiting = self.hand_over(&leaving);
            for step in steps {
                match step {
                    Step::Commit => {}
                    Step::Retire(pid) if waiting.contains(&pid) => {}
                    Step::Retire(pid) => self.retire(pid, now),
                    Step::Start(slot, generation) => {
                        if !self.start(slot, generation, now) {
                            return;
                        }
                    }
                }
            }
            return;
        }
    }

    /// Starts a worker; false where no other can be started now.
    fn start(&mut self, slot: Slot, generation: Generation, now: Instant) -> bool {
        // A hook may have ended it.
        if !self.phase.is_serving() || self.respawn.wait_until(now).is_some() {
            return false;
        }
        let coming = generation != self.current.generation;
        if let Err(error) = self.spawn(slot, coming, now) {
            if self.respawn.failed(now) {
                tracing::error!("cannot start a worker: {error}; trying again");
            }
            return false;
        }
        true
    }

    fn edition(&self, coming: bool) -> Option<&Edition> {
        if coming {
            self.coming.as_ref()
        } else {
            Some(&self.current)
        }
    }

    fn spawn(&mut self, slot: Slot, coming: bool, now: Instant) -> io::Result<()> {
        let row = self.scoreboard.take().ok_or_else(|| {
            io::Error::other("too many workers at once: no row is free for another one")
        })?;
        match self.fork_worker(slot, coming, row, now) {
            Ok(Forked::Alive) => Ok(()),
            Ok(Forked::Forbidden) => {
                row.release();
                Ok(())
            }
            Err(error) => {
                row.release();
                Err(error)
            }
        }
    }

    fn fork_worker(
        &mut self,
        slot: Slot,
        coming: bool,
        row: Row,
        now: Instant,
    ) -> io::Result<Forked> {
        let Some(edition) = self.edition(coming) else {
            return Ok(Forked::Forbidden);
        };
        let generation = edition.generation;
        let heartbeat = Heartbeat::create(&edition.worker_tmp_dir(), edition.identity.owner())
            .map_err(|error| {
                let dir = edition.worker_tmp_dir();
                io::Error::other(format!("no heartbeat file in {}: {error}", dir.display()))
            })?;
        let last_words = LastWords::create()?;
        // One worker is like the other.
        let code = match &self.watcher {
            Some(_) if slot == Slot(0) => Some(CodeFiles::create()?),
            Some(_) | None => None,
        };
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let (mut serves, mut listeners) = (Vec::new(), Vec::new());
        let spoken = edition.bound.iter().map(Bound::spoken).cloned().collect();
        for bound in &edition.bound {
            for (id, listener) in bound.for_slot(slot.0.into(), edition.workers.into())? {
                serves.push(id);
                listeners.push(listener);
            }
        }
        let context = WorkerContext {
            slot,
            generation,
            config: Rc::clone(&edition.config),
            interface: edition.interface,
            listeners,
            spoken,
            channel: OwnedFd::from(theirs),
            heartbeat: heartbeat.share()?,
            last_words: Some(last_words.share()?),
            code: code.as_ref().map(CodeFiles::share).transpose()?,
            row,
            identity: edition.identity.clone(),
            master: nix::unistd::getpid().as_raw(),
            age: self.age + 1,
            hooks: Rc::clone(&self.setup.server_hooks),
        };
        let mut worker = Worker {
            pid: None,
            ..context.worker()
        };
        let told = context.hooks.pre_fork(&self.server(edition), &worker);
        if !self.survives(told) {
            return Ok(Forked::Forbidden);
        }
        self.age += 1;
        match fork(self.setup.hooks)? {
            Side::Parent(pid) => {
                worker.pid = Some(pid.as_raw());
                context.hooks.forked(&worker, &context.config);
                let age = worker.age;
                let child = Child::new(
                    pid, slot, generation, age, heartbeat, last_words, code, ours, serves, row,
                    now,
                );
                tracing::debug!("{child} forked");
                if !self.phase.is_running() {
                    child.order(Order::Announce);
                }
                self.children.add(child);
                Ok(Forked::Alive)
            }
            Side::Child => {
                drop((ours, heartbeat, last_words, code));
                self.become_worker(context)
            }
        }
    }

    /// In the new process: gives up what is the master's, and never comes back.
    fn become_worker(&mut self, context: WorkerContext) -> ! {
        self.children.forget();
        self.watcher = None;
        self.upgrade.forget();
        self.current.bound.clear();
        self.coming = None;
        set_title(&self.title("worker"));
        let ready = crate::os::signal::reset_for_worker()
            .and_then(|()| self.setup.signals.restore_mask());
        let exit = match ready {
            Ok(()) => {
                let main = std::panic::AssertUnwindSafe(|| (self.setup.worker_main)(context));
                // The panic's message went to standard error.
                std::panic::catch_unwind(main).unwrap_or(Exit::Internal)
            }
            Err(error) => {
                tracing::error!("cannot set up the signals of a worker: {error}");
                Exit::WorkerBoot
            }
        };
        exit_now(exit.code())
    }
}
