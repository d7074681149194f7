//! The master: forks workers, waits, and moves what is a step towards what is wanted. One thread, no Tokio, no HTTP;
//! what a worker does is a function that it was given.

mod certificates;
mod children;
mod event;
mod handover;
mod phase;
mod pidfile;
mod plan;
mod recycle;
mod reload;
mod respawn;
mod scale;
mod spawn;
mod stop;
mod systemd;
mod tell;
mod upgrade;
mod watch;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub(crate) use certificates::Certificates;
use certificates::Lookout;
use pidfile::remove_second as remove_second_pidfile;
pub(crate) use pidfile::{Pidfile, PidfileError};
pub(crate) use reload::{Edition, give_logs_away, identity, of_config, options, told};
pub(crate) use scale::Range;
use upgrade::Upgrade;
pub(crate) use upgrade::{Command, FDS, OldMaster, PARENT, READY, TICKETS};

use crate::channel::{Generation, Order, Report, WorkerContext};
use crate::config::Config;
use crate::error::Exit;
use crate::hooks;
use crate::listener::Bound;
use crate::os::fork::Hooks;
use crate::os::process::{Ended, set_title};
use crate::os::signal::Signals;
use crate::scoreboard::Scoreboard;
use crate::tls::TicketKeys;
use children::{Child, Children, Life, Sent};
use event::Happened;
use phase::{Action, Event, Patience, Phase};
use recycle::Recycler;
use respawn::Respawn;
use scale::Scaler;
use stop::{CUT_GRACE, abort, cut};
use watch::Watcher;

/// How long a silent worker has to answer ABRT before KILL.
const ABORT_GRACE: Duration = crate::last_words::PATIENCE;
/// A worker cuts its own connections at `--graceful-timeout`; if it is still there this much later, it is killed.
const GRACE_MARGIN: Duration = Duration::from_millis(500);
/// How often the master of an upgrade looks whether the old one is gone.
const PARENT_LOOK: Duration = Duration::from_millis(500);
/// Workers that may die in a row, none ever ready, before a start is given up.
const BOOT_DEATHS: u32 = 3;

/// Reads the configuration again, given the one in force; or tells all that is wrong.
pub(crate) type ReadConfig = Box<dyn Fn(&Config) -> Result<Config, String>>;

/// What the master is made of.
pub(crate) struct Setup {
    /// `rgun-async`, or the name of a user's own binary.
    pub(crate) name: String,
    /// Who serves, as the log says it (`Using worker: sync`).
    pub(crate) worker_kind: String,
    /// Blocked since before the first socket was bound.
    pub(crate) signals: Signals,
    /// Where the process id stands, if anywhere.
    pub(crate) pidfile: Option<Pidfile>,
    /// The old master, when this one was started by an upgrade.
    pub(crate) old: Option<OldMaster>,
    /// What a worker does with its life.
    pub(crate) worker_main: Box<dyn Fn(WorkerContext) -> Exit>,
    /// Reads the configuration again and puts what is `Live` in it to use.
    pub(crate) read_config: ReadConfig,
    /// Calls around each fork.
    pub(crate) hooks: Hooks,
    /// Who is called at the points of the server's life.
    pub(crate) server_hooks: Rc<dyn hooks::Hooks>,
    /// The workers are forked with their app.
    pub(crate) preloaded: bool,
    /// How to start this program again.
    pub(crate) command: Command,
}

/// The master at work.
pub(crate) struct Master {
    setup: Setup,
    /// How many workers have been started.
    age: u64,
    current: Edition,
    /// A reload under way.
    coming: Option<Edition>,
    newest: Generation,
    children: Children,
    scoreboard: Scoreboard,
    respawn: Respawn,
    recycler: Recycler,
    scaler: Scaler,
    phase: Phase,
    /// `--reload`.
    watcher: Option<Watcher>,
    /// Sees that the files of TLS have changed.
    lookout: Lookout,
    /// Of TLS sessions.
    ticket_keys: TicketKeys,
    /// USR2.
    upgrade: Upgrade,
    /// The code to end with.
    outcome: Exit,
}

impl Master {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// No memory for the scoreboard.
    pub(crate) fn new(mut setup: Setup, first: Edition) -> io::Result<Self> {
        let copy = setup.old.as_mut().and_then(OldMaster::take_tickets);
        let upgrade = Upgrade::new(setup.old.take());
        let watcher = first
            .config
            .reload
            .then(|| Watcher::new(&first.config, Instant::now()));
        let lifetime = first.config.tls_session_lifetime;
        let mut master = Self {
            setup,
            watcher,
            lookout: Lookout::default(),
            ticket_keys: TicketKeys::inherited(copy, lifetime, Instant::now())?,
            age: 0,
            newest: first.generation,
            current: first,
            coming: None,
            children: Children::default(),
            scoreboard: Scoreboard::new()?,
            respawn: Respawn::default(),
            recycler: Recycler::default(),
            scaler: Scaler::default(),
            phase: Phase::Running,
            upgrade,
            outcome: Exit::Done,
        };
        master.watch_certificates(Instant::now());
        Ok(master)
    }

    /// Serves until a signal ends it.
    pub(crate) fn run(mut self) -> Exit {
        self.announce();
        loop {
            let now = Instant::now();
            self.step(now);
            let deadline = self.deadline(now);
            (self.setup.hooks.pause)();
            let happened = event::wait(
                &self.setup.signals,
                &mut self.children,
                self.watcher
                    .as_ref()
                    .and_then(Watcher::fd)
                    .into_iter()
                    .chain(self.lookout.fd())
                    .chain(self.upgrade.fds()),
                deadline,
                Instant::now(),
            );
            (self.setup.hooks.resume)();
            let happened = match happened {
                Ok(happened) => happened,
                Err(error) => {
                    tracing::error!("the master cannot wait for events: {error}");
                    self.outcome = Exit::Internal;
                    break;
                }
            };
            if self.take(happened) {
                break;
            }
        }
        self.clean_up();
        self.outcome
    }

    fn announce(&mut self) {
        let pid = std::process::id();
        let urls: Vec<_> = self.current.bound.iter().map(Bound::url).collect();
        tracing::info!("Starting {} {}", self.setup.name, env!("CARGO_PKG_VERSION"));
        tracing::info!("Listening at: {} ({pid})", urls.join(","));
        tracing::info!("Using worker: {}", self.setup.worker_kind);
        set_title(&self.title("master"));
        self.tell_ready();
    }

    fn title(&self, role: &str) -> String {
        let config = &self.current.config;
        let app = config
            .proc_name
            .clone()
            .or_else(|| config.wsgi_app.as_ref().map(ToString::to_string));
        let role = if role == "master" && self.upgrade.standing().parent().is_some() {
            "master.2"
        } else {
            role
        };
        match app {
            Some(app) => format!("{}: {role} [{app}]", self.setup.name),
            None => format!("{}: {role}", self.setup.name),
        }
    }

    /// Moves what is one step towards what is wanted.
    fn step(&mut self, now: Instant) {
        self.look_at_the_parent();
        if self.phase.is_serving() {
            self.look_for_spent(now);
            self.look_at_load(now);
            if self.respawn.healed(now) {
                tracing::info!("Workers live again: the next ones are started at once.");
            }
            self.follow_plan(now);
        }
        self.enforce_deadlines(now);
        self.ticket_keys.turn(now);
        self.tell_watchers();
    }

    /// Handles what happened; true at the end of the master's life.
    fn take(&mut self, happened: Happened) -> bool {
        let now = Instant::now();
        for (pid, report) in happened.reports {
            let leave_by = now + self.current.config.graceful_timeout + GRACE_MARGIN;
            let Some(child) = self.children.note(pid, report, leave_by) else {
                continue;
            };
            match report {
                Report::Ready => {
                    tracing::debug!("{child} ready");
                    self.respawn.ready(child.born, now);
                }
                Report::Draining => tracing::debug!("{child} draining"),
                Report::Spent => tracing::debug!("{child} has answered enough"),
                Report::Adopted => tracing::debug!("{child} accepts from another socket"),
                Report::Refused => tracing::warn!("{child} cannot take another socket"),
                Report::Behind => tracing::warn!("{child} cannot take the new files of TLS"),
                Report::Code => {
                    let files = child.code();
                    if let Some(watcher) = &mut self.watcher {
                        watcher.add(files);
                    }
                }
                Report::Is(interface) => {
                    tracing::debug!("{child} found an {interface} app");
                    let generation = child.generation;
                    let editions = [Some(&mut self.current), self.coming.as_mut()];
                    for edition in editions.into_iter().flatten() {
                        if edition.generation == generation {
                            edition.interface = Some(interface);
                        }
                    }
                }
            }
            self.prove();
        }
        self.hear();
        for (pid, ended) in happened.ended {
            self.bury(pid, ended, now);
        }
        for signal in happened.signals {
            tracing::info!("Handling signal: {}", event::name(signal));
            if let Some(event) = event::meaning(signal) {
                self.on(event, now);
            }
        }
        if self.phase.is_serving() {
            self.look_at_certificates(now);
        }
        if self.phase.is_running()
            && let Some(file) = self
                .watcher
                .as_mut()
                .and_then(|watcher| watcher.changed(now))
        {
            tracing::info!("Reloading: {} changed", file.display());
            self.reload();
        }
        if self.phase.deadline().is_some_and(|until| until <= now) {
            self.on(Event::Deadline, now);
        }
        self.children.is_empty() && self.on(Event::Empty, now)
    }

    /// Asks the phase, and does what it says; true for the end.
    fn on(&mut self, event: Event, now: Instant) -> bool {
        // A worker has a moment after its own deadline for what an app does at its end.
        let patience = Patience {
            delay: self.current.config.drain_delay,
            graceful: self.current.config.graceful_timeout + GRACE_MARGIN,
        };
        let before = self.phase;
        let (phase, action) = before.on(event, now, patience);
        self.phase = phase;
        match action {
            Action::Nothing => {}
            Action::Decline => {
                tracing::info!("Ignored: the server is stopping.");
                if event == Event::Upgrade {
                    Self::refuse_upgrade();
                }
            }
            Action::Announce => self.announce_end(),
            Action::Drain => self.drain_all(),
            Action::Quit => self.quit_all(now),
            Action::Cut => self
                .children
                .iter_mut()
                .for_each(|child| cut(child, before, now)),
            Action::Kill => self.kill_all(),
            Action::Reload => {
                tracing::info!("Hang up: Master");
                self.reload();
            }
            Action::Reopen => self.reopen(),
            Action::Upgrade => self.upgrade(),
            Action::More => self.scale(1),
            Action::Fewer => self.scale(-1),
            Action::Rest => self.rest(),
            Action::Exit => return true,
        }
        false
    }

    // ----- workers -----

    /// One worker of the plan finishes what it has, or does not get to begin.
    fn retire(&mut self, pid: Pid, now: Instant) {
        let until = now + self.current.config.graceful_timeout + GRACE_MARGIN;
        let order = if self.is_followed(pid) {
            Order::Retire
        } else {
            Order::Drain
        };
        for child in self.children.iter_mut().filter(|child| child.pid == pid) {
            match child.life {
                Life::Booting => child.dismiss(now + GRACE_MARGIN),
                Life::Ready | Life::Leaving(_) => child.leave(order, until),
            }
        }
    }

    /// A child, ours or not, has ended.
    fn bury(&mut self, pid: Pid, ended: Ended, now: Instant) {
        if self.bury_new_master(pid, ended) {
            return;
        }
        let Some(child) = self.children.remove(pid) else {
            tracing::debug!("reaped pid {pid}, left to us by its parent");
            return;
        };
        tell_end(&child, ended);
        self.tell_end_of(&child.seen());
        if !self.phase.is_serving() || matches!(child.life, Life::Leaving(_)) {
            return;
        }
        let reason = match ended {
            Ended::Exited(code) => Exit::from_code(code),
            Ended::Killed(_) => None,
        };
        let early = child.life == Life::Booting;
        let of_coming = self
            .coming
            .as_ref()
            .is_some_and(|e| e.generation == child.generation);
        if of_coming && early {
            self.abandon_reload("a new worker did not boot");
            return;
        }
        if early
            && matches!(
                ended,
                Ended::Killed(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)
            )
        {
            // Told to leave, perhaps with the whole process group: not the app's fault.
            return;
        }
        let told = self.respawn.died(child.born, !early, now);
        if !early {
            tell_loop(told);
            return;
        }
        let first_start = !self.current.proven && child.generation == self.current.generation;
        let alone = self.children.ready(self.current.generation) == 0;
        match reason {
            Some(Exit::WorkerBoot | Exit::AppLoad) if alone && self.watcher.is_some() => {
                self.wait_for_a_change(now);
            }
            Some(exit @ (Exit::WorkerBoot | Exit::AppLoad)) if first_start => {
                self.halt(exit, now);
            }
            _ if first_start
                && self.children.ready(self.current.generation) == 0
                && self.respawn.early_deaths() >= BOOT_DEATHS =>
            {
                self.halt(Exit::WorkerBoot, now);
            }
            _ => tell_loop(told),
        }
    }

    /// `--reload`: who is at work on the code need not start the server again.
    fn wait_for_a_change(&mut self, now: Instant) {
        tracing::error!("No worker can boot: waiting for a change of the code (--reload).");
        self.current.workers = 0;
        self.respawn.forget();
        self.children
            .iter_mut()
            .for_each(|child| child.dismiss(now + GRACE_MARGIN));
    }

    fn halt(&mut self, exit: Exit, now: Instant) {
        if self.watcher.is_some() {
            self.wait_for_a_change(now);
            return;
        }
        let reason = if exit == Exit::AppLoad {
            "App failed to load."
        } else {
            "Worker failed to boot."
        };
        tracing::error!("Shutting down: Master");
        tracing::error!("Reason: {reason}");
        self.outcome = exit;
        self.on(Event::Halt, now);
    }

    /// The heartbeat's, the drain's and the abort's deadlines.
    fn enforce_deadlines(&mut self, now: Instant) {
        let (timeout, boot) = self.limits();
        for child in self.children.iter_mut() {
            if let Life::Leaving(until) = child.life
                && until <= now
                && !child.is_killed()
            {
                cut(child, self.phase, now);
                continue;
            }
            if let Some(since) = child.aborted {
                if now >= since + ABORT_GRACE && !child.is_killed() {
                    child.kill();
                }
            } else if let Some(problem) = overdue(child, timeout, boot, now) {
                crate::log::critical!("{problem}");
                abort(child, now);
            }
        }
    }

    /// How long a worker may be silent, and how long it may take to boot; of a reload, those of the new configuration.
    fn limits(&self) -> (Duration, Duration) {
        let config = &self.newest().config;
        (config.timeout, config.boot_timeout)
    }

    /// The next moment at which something must be looked at, if nothing happens before.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let (timeout, boot) = self.limits();
        let children = self.children.iter().filter_map(|child| {
            let leaving = match (child.life, child.aborted) {
                (Life::Leaving(until), None) => Some(until),
                (Life::Leaving(_), Some(since)) => Some(since + CUT_GRACE),
                (Life::Booting | Life::Ready, _) => None,
            };
            let beat = match child.aborted {
                Some(since) => Some(since + ABORT_GRACE),
                None if child.life == Life::Booting && !boot.is_zero() => {
                    child.born.checked_add(boot)
                }
                None if timeout.is_zero() => None,
                None => Some(now + timeout.saturating_sub(child.silent_for())),
            };
            // A killed child is only waited for.
            leaving
                .into_iter()
                .chain(beat)
                .min()
                .filter(|_| !child.is_killed())
        });
        let parent = self.upgrade.must_look().then(|| now + PARENT_LOOK);
        let recycling = self
            .recycler
            .deadline(&self.current.config, self.children.iter())
            .filter(|_| self.phase.is_serving());
        let scaling = self.scaler.deadline().filter(|_| self.phase.is_serving());
        let respawn = self
            .respawn
            .deadline(now)
            .filter(|_| self.phase.is_serving());
        children
            .chain(self.phase.deadline())
            .chain(recycling)
            .chain(scaling)
            .chain(parent)
            .chain(respawn)
            .chain(self.watcher.as_ref().and_then(Watcher::deadline))
            .chain(self.lookout.deadline().filter(|_| self.phase.is_serving()))
            .chain(self.ticket_keys.deadline())
            .min()
    }

    // ----- stopping -----

    fn quit_all(&mut self, now: Instant) {
        self.coming = None;
        self.leave_sockets();
        self.tell_stopping();
        let until = self.phase.deadline().unwrap_or(now) + GRACE_MARGIN;
        self.children.iter_mut().for_each(|child| child.quit(until));
    }

    fn kill_all(&mut self) {
        for child in self.children.iter_mut().filter(|child| !child.is_killed()) {
            tracing::warn!("{child} did not leave in time: killed");
            child.kill();
        }
    }

    fn clean_up(&mut self) {
        self.leave_paths();
        if let Some(pidfile) = &self.setup.pidfile {
            pidfile.remove();
        }
        tracing::info!("Shutting down: Master");
        self.tell_exit();
    }

    /// Whether a reload's workers, or those of the start, have all been ready once.
    fn prove(&mut self) {
        if self.children.ready(self.current.generation) >= self.current.workers.into() {
            self.current.proven = true;
        }
    }

    // ----- the other signals -----

    fn reopen(&self) {
        if let Err(error) = crate::log::reopen() {
            tracing::error!("cannot reopen the error log: {error}; the old one stays");
        }
        // Before the workers open them.
        let given = give_logs_away(&self.current.config, &self.current.identity);
        if let Err(error) = given {
            tracing::error!("cannot give the logs to the workers' user: {error}");
        }
        self.children
            .iter()
            .for_each(|child| child.order(Order::Reopen));
    }

    /// TTIN, TTOU: a worker more or less, of the coming generation too; where the number follows the load, both its ends.
    fn scale(&mut self, by: i16) {
        let editions = [Some(&mut self.current), self.coming.as_mut()];
        for edition in editions.into_iter().flatten() {
            edition.range = edition.range.shifted(by);
        }
        self.want(|workers| workers.saturating_add_signed(by).max(1));
    }

    /// Takes the number of workers wanted, and says so.
    fn want(&mut self, to: impl Fn(u16) -> u16) {
        let before = self.newest().workers;
        let editions = [Some(&mut self.current), self.coming.as_mut()];
        for edition in editions.into_iter().flatten() {
            edition.workers = to(edition.workers);
        }
        let workers = self.newest().workers;
        tracing::debug!("{workers} workers wanted");
        self.tell_workers(workers, before);
    }

    fn rest(&mut self) {
        if self.current.config.daemon {
            tracing::info!("graceful stop of workers");
            self.want(|_| 0);
        } else {
            tracing::debug!("SIGWINCH ignored. Not daemonized");
        }
    }
}

/// What is wrong with a worker that should have moved by now.
fn overdue(child: &Child, timeout: Duration, boot: Duration, now: Instant) -> Option<String> {
    let pid = child.pid;
    if child.life == Life::Booting && !boot.is_zero() {
        let late = now.saturating_duration_since(child.born) >= boot;
        return late.then(|| {
            let boot = boot.as_secs_f64();
            format!("WORKER TIMEOUT (pid:{pid}): not ready after {boot} s (--boot-timeout)")
        });
    }
    let late = !timeout.is_zero() && child.silent_for() >= timeout;
    late.then(|| format!("WORKER TIMEOUT (pid:{pid})"))
}

/// The line at the beginning of a series of early deaths.
fn tell_loop(begins: bool) {
    if begins {
        tracing::error!(
            "Workers keep dying as soon as they have started: the next ones are started ever more slowly, up to 5 s apart."
        );
    }
}

/// The line about a worker's end, Gunicorn's words.
fn tell_end(child: &Child, ended: Ended) {
    let pid = child.pid;
    let last_words = child.last_words();
    if !last_words.is_empty() {
        tracing::error!("What worker (pid:{pid}) was doing:\n{last_words}");
    }
    match ended {
        Ended::Exited(0) => tracing::debug!("{child} left"),
        Ended::Killed(Signal::SIGTERM) if child.sent == Sent::Dismissal => {
            tracing::debug!("{child} left");
        }
        Ended::Exited(code) => tracing::error!("Worker (pid:{pid}) exited with code {code}."),
        Ended::Killed(Signal::SIGKILL) if child.is_killed() => {
            tracing::error!("Worker (pid:{pid}) was sent SIGKILL!");
        }
        Ended::Killed(Signal::SIGKILL) => {
            tracing::error!("Worker (pid:{pid}) was sent SIGKILL! Perhaps out of memory?");
        }
        Ended::Killed(signal) => tracing::error!("Worker (pid:{pid}) was sent {signal}!"),
    }
}
