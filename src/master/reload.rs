//! An edition: one reading of the configuration, with the sockets and the generation of workers that belong to it. A
//! reload makes a new one beside the old; only when all its workers are ready does it take the old one's place.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::Master;
use super::plan::{Strategy, Wanted};
use super::scale::Range;
use super::upgrade::Standing;
use crate::channel::{Generation, Interface};
use crate::config::{Bind, Config, ReloadStrategy};
use crate::listener::{BindError, Bound, Options, Site};
use crate::os::privilege::Identity;
use crate::os::process::set_title;

/// One reading of the configuration and what belongs to it.
#[derive(Debug)]
pub(crate) struct Edition {
    pub(crate) generation: Generation,
    pub(crate) config: Rc<Config>,
    pub(crate) bound: Vec<Bound>,
    pub(crate) identity: Identity,
    /// How many workers of it are wanted.
    pub(crate) workers: u16,
    /// Between how many there may be.
    pub(crate) range: Range,
    /// The sockets are a socket manager's (`LISTEN_FDS`), whatever addresses are configured.
    pub(crate) of_manager: bool,
    /// All its workers have been ready at once.
    pub(crate) proven: bool,
    /// What its workers have found the app to be, where it was not what they were made for.
    pub(crate) interface: Option<Interface>,
}

impl Edition {
    /// What follows `self` under `config`: sockets of addresses that stay are shared, new ones are bound. If anything
    /// fails, `self` has not changed and nothing stays behind.
    ///
    /// # Errors
    /// An address that cannot be had, a user that does not exist: for the log.
    pub(crate) fn next(
        &self,
        config: Config,
        generation: Generation,
    ) -> Result<Self, Vec<String>> {
        let identity = identity(&config).map_err(|error| vec![error])?;
        let range = Range::new(config.workers);
        let workers = if range.is_open() {
            // The load does not change with the configuration.
            range.nearest(self.workers)
        } else {
            of_config(&config)
        };
        let options = options(&config, &identity, workers.into());
        let mut bound = Vec::new();
        let mut mistakes = Vec::new();
        let binds: &[Bind] = if self.of_manager { &[] } else { &config.bind };
        // Each is found once: where the kernel chooses the port, one bind is like another.
        let mut left: Vec<&Bound> = self.bound.iter().collect();
        // Whether the kernel shares a port cannot be changed on a socket that listens.
        if self.config.reuse_port != config.reuse_port {
            left.clear();
        }
        for bind in binds {
            let site = Site::new(bind, &config);
            let same = |bound: &&Bound| *bound.address() == site.address;
            let opened = match left.iter().position(same) {
                Some(place) => Ok(left.remove(place).share(&site.spoken)),
                None => Bound::open(&site, &options).map_err(|error| told(&error)),
            };
            match opened {
                Ok(one) => bound.push(one),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if !mistakes.is_empty() {
            self.remove_paths_only_in(&bound);
            return Err(mistakes);
        }
        // What a socket manager gave is not in the configuration and stays.
        if self.of_manager {
            for given in &self.bound {
                bound.push(given.share(&given.spoken_under(&config)));
            }
        }
        Ok(Self {
            generation,
            workers,
            range,
            config: Rc::new(config),
            bound,
            of_manager: self.of_manager,
            identity,
            proven: false,
            interface: None,
        })
    }

    /// How it takes over.
    pub(crate) fn strategy(&self) -> Strategy {
        match self.config.reload_strategy {
            ReloadStrategy::AllAtOnce => Strategy::AllAtOnce,
            ReloadStrategy::Rolling => Strategy::Rolling(self.config.reload_batch),
        }
    }

    /// What the plan is to know.
    pub(crate) const fn wanted(&self) -> Wanted {
        Wanted {
            generation: self.generation,
            workers: self.workers,
        }
    }

    /// How new sockets of this edition are made.
    pub(crate) fn options(&self, workers: usize) -> Options {
        options(&self.config, &self.identity, workers)
    }

    /// Where heartbeat files go.
    pub(crate) fn worker_tmp_dir(&self) -> PathBuf {
        self.config
            .worker_tmp_dir
            .clone()
            .unwrap_or_else(crate::heartbeat::default_dir)
    }

    /// Removes the paths of unix sockets that `next` does not use.
    pub(crate) fn remove_paths_not_in(&self, next: &Self) {
        next.remove_paths_only_in(&self.bound);
    }

    /// Removes the paths of those of `bound` that this edition does not use.
    fn remove_paths_only_in(&self, bound: &[Bound]) {
        for bound in bound {
            if self.bound.iter().all(|other| other.name() != bound.name()) {
                bound.remove_path();
            }
        }
    }
}

impl Master {
    pub(super) fn reload(&mut self) {
        self.tell_reloading();
        if self.setup.preloaded {
            tracing::info!(
                "The app was preloaded: its code is not read again (USR2 starts a master that does)."
            );
        }
        let config = match (self.setup.read_config)(&self.current.config) {
            Ok(config) => config,
            Err(mistakes) => {
                tracing::error!("Reload failed, nothing has changed: {mistakes}");
                return;
            }
        };
        if self.coming.is_some() {
            self.abandon_reload("another one was asked for");
        }
        self.newest = Generation(self.newest.0 + 1);
        match self.current.next(config, self.newest) {
            Ok(edition) => {
                let log = &edition.config.errorlog;
                if let Err(error) = crate::log::reconfigure(log, edition.config.loglevel) {
                    edition.remove_paths_not_in(&self.current);
                    tracing::error!(
                        "Reload failed, nothing has changed: cannot open the error log {log}: {error}"
                    );
                    return;
                }
                if let Err(error) = give_logs_away(&edition.config, &edition.identity) {
                    tracing::error!("cannot give the logs to the workers' user: {error}");
                }
                self.respawn.forget();
                let (before, workers) = (self.current.workers, edition.workers);
                self.coming = Some(edition);
                if before == 0 {
                    // After WINCH there is no generation to go on with.
                    self.commit_reload();
                }
                self.tell_workers(workers, before);
                self.tell(|hooks, server| hooks.on_reload(server));
            }
            Err(mistakes) => {
                let mistakes = mistakes.join("; ");
                tracing::error!("Reload failed, nothing has changed: {mistakes}");
            }
        }
    }

    /// The new generation takes the old one's place: all its workers are ready.
    pub(super) fn commit_reload(&mut self) {
        let Some(mut edition) = self.coming.take() else {
            return;
        };
        edition.proven = true;
        let old = std::mem::replace(&mut self.current, edition);
        // Another master may serve there.
        if self.upgrade.standing() == Standing::Alone {
            old.remove_paths_not_in(&self.current);
        }
        let urls: Vec<_> = self.current.bound.iter().map(Bound::url).collect();
        if old.bound.iter().map(Bound::url).ne(urls.iter().copied()) {
            tracing::info!("Listening at: {} ({})", urls.join(","), std::process::id());
        }
        tracing::debug!("generation {} took over", self.current.generation);
        set_title(&self.title("master"));
    }

    /// The old generation goes on as if nothing had been asked for. New workers that serve already leave once the slot
    /// has an old one again.
    pub(super) fn abandon_reload(&mut self, why: &str) {
        let Some(edition) = self.coming.take() else {
            return;
        };
        tracing::error!("Reload abandoned ({why}): the workers from before go on.");
        edition.remove_paths_not_in(&self.current);
        let before = &self.current.config;
        if let Err(error) = crate::log::reconfigure(&before.errorlog, before.loglevel) {
            tracing::error!(
                "cannot return to the error log {}: {error}",
                before.errorlog
            );
        }
        self.tell_workers(self.current.workers, edition.workers);
    }
}

/// How many workers there are at the start, as far as there can be slots for them.
pub(crate) fn of_config(config: &Config) -> u16 {
    u16::try_from(config.workers.least).unwrap_or(u16::MAX)
}

/// `--user`, `--group`, `--initgroups`.
///
/// # Errors
/// Nobody of that name, for the log.
pub(crate) fn identity(config: &Config) -> Result<Identity, String> {
    Identity::look_up(
        config.user.as_deref(),
        config.group.as_deref(),
        config.initgroups,
    )
    .map_err(|error| error.to_string())
}

/// Workers of another identity must be able to reopen the logs that the master made.
///
/// # Errors
/// Those of open(2), chown(2).
pub(crate) fn give_logs_away(config: &Config, identity: &Identity) -> io::Result<()> {
    let (user, group) = identity.owner();
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    crate::log::chown(user, group)?;
    match &config.accesslog {
        Some(log) => crate::log::prepare_access(log, user, group),
        None => Ok(()),
    }
}

/// How sockets are made under `config`.
pub(crate) fn options(config: &Config, identity: &Identity, workers: usize) -> Options {
    Options {
        backlog: config.backlog,
        slots: config.reuse_port.then_some(workers.max(1)),
        umask: config.umask,
        owner: identity.owner(),
    }
}

/// A bind error with its cause, for the log.
pub(crate) fn told(error: &BindError) -> String {
    crate::error::chain(error)
}
