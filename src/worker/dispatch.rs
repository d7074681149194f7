//! From an accepted connection to who speaks on it: a task each, by what is spoken at its listener.

use std::rc::Rc;
use std::time::Instant;

use super::accept::Take;
use super::gate::{Permit, Spare};
use crate::app::{Ends, Host};
use crate::config::{Config, Speaks, Spoken};
use crate::log::AccessSink;
use crate::proto::{Connections, HttpService, Stream};
use crate::scoreboard::Row;

/// All that a worker can speak.
pub(super) struct Services<H: Host> {
    host: Rc<H>,
    /// The connections of all of them, for the deadlines and the drain.
    pub(super) connections: Rc<Connections>,
    pub(super) http: Rc<HttpService<H::App>>,
}

impl<H: Host> Services<H> {
    pub(super) fn new(
        host: &Rc<H>,
        app: H::App,
        config: &Config,
        access: Option<Rc<AccessSink>>,
        row: Row,
    ) -> Rc<Self> {
        let http = HttpService::new(app, config, access, row);
        Rc::new(Self {
            host: Rc::clone(host),
            connections: Rc::clone(http.connections()),
            http,
        })
    }
}

/// Where the connections of one listener go.
pub(super) struct Dispatcher<H: Host> {
    pub(super) services: Rc<Services<H>>,
    pub(super) spoken: Rc<Spoken>,
}

impl<H: Host> Take for Dispatcher<H> {
    fn take(&self, stream: Stream, ends: Ends, permit: Permit) {
        let services = &self.services;
        match &self.spoken.speaks {
            Speaks::Http => {
                let connection = services.http.serve(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Speaks::Uwsgi => {
                let connection = services.http.serve_uwsgi(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // The configuration has refused them.
            Speaks::Tcp(_) => drop((stream, permit)),
        }
    }

    fn refuse(&self, stream: Stream, ends: Ends, spare: Spare) {
        let services = &self.services;
        match &self.spoken.speaks {
            Speaks::Http => {
                let connection = services.http.refuse(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(spare);
                });
            }
            Speaks::Uwsgi => {
                let connection = services.http.refuse_uwsgi(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(spare);
                });
            }
            // Nothing can be said in a protocol that is not known: the connection ends.
            Speaks::Tcp(_) => drop((stream, spare)),
        }
    }

    fn shed(&self, most: usize, now: Instant) -> usize {
        self.services.connections.shed(most, now)
    }
}
