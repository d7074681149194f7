//! The master's side of the server hooks: what they are told, and what their failures lead to.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

use super::Master;
use super::children::Child;
use super::phase::Event;
use super::reload::Edition;
use crate::error::Exit;
use crate::hooks::{Failed, Hooks, Outcome, Server, Worker};

impl Master {
    /// The server as hooks see it under `edition`.
    pub(super) fn server<'a>(&self, edition: &'a Edition) -> Server<'a> {
        let listeners = edition.bound.iter().flat_map(|bound| {
            let url = bound.url().to_owned();
            bound.fds().map(move |fd| (url.clone(), fd.as_raw_fd()))
        });
        Server {
            config: &edition.config,
            workers_wanted: self.newest().workers.into(),
            worker_age: self.age,
            workers: self.children.iter().map(Child::seen).collect(),
            listeners: listeners.collect(),
        }
    }

    /// The edition that hooks belong to: a reload's, from its beginning on.
    pub(super) fn newest(&self) -> &Edition {
        self.coming.as_ref().unwrap_or(&self.current)
    }

    /// It listens. Gunicorn: what fails here fails outside of the master's loop.
    pub(super) fn tell_ready(&mut self) {
        self.tell(|hooks, server| {
            hooks.when_ready(server).map_err(|failed| Failed {
                exit: failed.exit.or(Some(Exit::Config)),
                ..failed
            })
        });
    }

    /// Calls a hook; false where it failed and the server is stopping for that.
    pub(super) fn tell(
        &mut self,
        call: impl FnOnce(&dyn Hooks, &Server<'_>) -> Outcome,
    ) -> bool {
        let hooks = Rc::clone(&self.setup.server_hooks);
        let outcome = call(&*hooks, &self.server(self.newest()));
        self.survives(outcome)
    }

    /// Gunicorn: an exception of a hook leaves the master's loop, and the server stops.
    pub(super) fn survives(&mut self, outcome: Outcome) -> bool {
        let Err(Failed { message, exit }) = outcome else {
            return true;
        };
        if !message.is_empty() {
            tracing::error!("Unhandled exception in main loop\n{message}");
        }
        self.outcome = exit.unwrap_or(Exit::Internal);
        self.on(Event::Halt, Instant::now());
        false
    }

    /// The number of workers wanted has changed.
    pub(super) fn tell_workers(&mut self, now: u16, before: u16) {
        self.tell(|hooks, server| {
            hooks.nworkers_changed(server, now.into(), Some(before.into()))
        });
    }

    /// A worker has ended.
    pub(super) fn tell_end_of(&mut self, worker: &Worker) {
        self.tell(|hooks, server| hooks.child_exit(server, worker));
    }

    /// The end of the master.
    pub(super) fn tell_exit(&mut self) {
        let hooks = Rc::clone(&self.setup.server_hooks);
        if let Err(failed) = hooks.on_exit(&self.server(&self.current)) {
            if !failed.message.is_empty() {
                tracing::error!("{failed}");
            }
            self.outcome = failed.exit.unwrap_or(Exit::Config);
        }
    }
}
