//! From an accepted connection to who speaks on it: a task each, by what is spoken at its listener. TLS, where there is
//! any, comes before that.

use std::rc::Rc;
use std::time::Instant;

use super::accept::Take;
use super::gate::{Permit, Spare};
use super::secure::Secure;
use crate::app::{Ends, Host};
use crate::config::{Config, Speaks, Spoken};
use crate::log::AccessSink;
use crate::proto::{Connections, HttpService, Port, Stream};
use crate::scoreboard::Row;

/// All that a worker can speak.
pub(super) struct Services<H: Host> {
    host: Rc<H>,
    /// The connections of all of them, for the deadlines and the drain.
    pub(super) connections: Rc<Connections>,
    pub(super) http: Rc<HttpService<H::App>>,
    pub(super) secure: Secure,
}

impl<H: Host> Services<H> {
    pub(super) fn new(
        host: &Rc<H>,
        app: H::App,
        config: &Config,
        access: Option<Rc<AccessSink>>,
        row: Row,
        secure: Secure,
    ) -> Rc<Self> {
        let http = HttpService::new(app, config, access, row);
        Rc::new(Self {
            host: Rc::clone(host),
            connections: Rc::clone(http.connections()),
            http,
            secure,
        })
    }

    /// Speaks on a connection, to its end. TLS is behind it: `ends` tell what was agreed upon there.
    async fn speak(&self, speaks: &Speaks, stream: Stream, ends: Ends, refused: bool) {
        match (speaks, refused) {
            (Speaks::Http, false) => self.http.serve(stream, ends).await,
            (Speaks::Http, true) => self.http.refuse(stream, ends).await,
            (Speaks::Uwsgi | Speaks::Tcp(_), _) => {}
        }
    }
}

/// Where the connections of one listener go.
pub(super) struct Dispatcher<H: Host> {
    services: Rc<Services<H>>,
    spoken: Rc<Spoken>,
    /// What shakes hands first.
    port: Option<Rc<Port>>,
}

impl<H: Host> Dispatcher<H> {
    pub(super) fn new(services: &Rc<Services<H>>, spoken: Rc<Spoken>) -> Self {
        Self {
            port: services.secure.port(&spoken),
            services: Rc::clone(services),
            spoken,
        }
    }

    /// By TLS: a task that shakes hands, speaks and gives `place` back. Without TLS all is returned.
    fn secured<P: 'static>(
        &self,
        stream: Stream,
        ends: Ends,
        place: P,
        refused: bool,
    ) -> Option<(Stream, Ends, P)> {
        let Some(port) = &self.port else {
            return Some((stream, ends, place));
        };
        let (services, spoken) = (Rc::clone(&self.services), Rc::clone(&self.spoken));
        let port = Rc::clone(port);
        self.services.host.spawn(async move {
            let secure = services.http.secure(stream, ends, port, refused).await;
            if let Some((stream, ends)) = secure {
                let connection = services.speak(&spoken.speaks, stream, ends, refused);
                connection.await;
            }
            drop(place);
        });
        None
    }
}

impl<H: Host> Take for Dispatcher<H> {
    fn take(&self, stream: Stream, ends: Ends, permit: Permit) {
        let Some((stream, ends, permit)) = self.secured(stream, ends, permit, false) else {
            return;
        };
        let services = &self.services;
        match &self.spoken.speaks {
            Speaks::Http => {
                let connection = services.http.serve(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // The configuration has refused them.
            Speaks::Uwsgi | Speaks::Tcp(_) => drop((stream, permit)),
        }
    }

    fn refuse(&self, stream: Stream, ends: Ends, spare: Spare) {
        let Some((stream, ends, spare)) = self.secured(stream, ends, spare, true) else {
            return;
        };
        let services = &self.services;
        match &self.spoken.speaks {
            Speaks::Http => {
                let connection = services.http.refuse(stream, ends);
                services.host.spawn(async move {
                    connection.await;
                    drop(spare);
                });
            }
            // Nothing can be said in a protocol that is not known: the connection ends.
            Speaks::Uwsgi | Speaks::Tcp(_) => drop((stream, spare)),
        }
    }

    fn shed(&self, most: usize, now: Instant) -> usize {
        self.services.connections.shed(most, now)
    }
}
