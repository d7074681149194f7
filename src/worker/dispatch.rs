//! From an accepted connection to who speaks on it: a task each, by what is spoken at its listener. What is around that is
//! taken off first: a PROXY header, then TLS.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::accept::Take;
use super::gate::{Permit, Spare};
use super::secure::Secure;
use crate::app::tcp::StreamApp;
use crate::app::{Ends, Host};
use crate::config::{Config, Speaks, Spoken};
use crate::log::AccessSink;
use crate::proto::{Connections, HttpService, Port, Proxies, Stream, TcpService};
use crate::scoreboard::Row;

/// All that a worker can speak.
pub(super) struct Services<H: Host> {
    host: Rc<H>,
    config: Rc<Config>,
    /// The connections of all of them, for the deadlines and the drain.
    pub(super) connections: Rc<Connections>,
    pub(super) http: Rc<HttpService<H::App>>,
    /// Those with protocols of their own, by name.
    streams: Vec<(String, TcpService)>,
    pub(super) secure: Secure,
}

/// The names of the services that are spoken to.
pub(super) fn services(spoken: &[Rc<Spoken>]) -> Vec<&str> {
    let mut names: Vec<_> = spoken
        .iter()
        .filter_map(|spoken| match &spoken.speaks {
            Speaks::Tcp(name) => Some(name.as_str()),
            Speaks::Http | Speaks::Uwsgi => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl<H: Host> Services<H> {
    pub(super) fn new(
        host: &Rc<H>,
        app: H::App,
        streams: Vec<(String, Rc<dyn StreamApp>)>,
        config: &Rc<Config>,
        access: Option<Rc<AccessSink>>,
        row: Row,
        secure: Secure,
    ) -> Rc<Self> {
        let http = HttpService::new(app, config, access, row);
        let streams = streams.into_iter().map(|(name, app)| {
            let service = TcpService::new(Rc::clone(http.shared()), &name, app);
            (name, service)
        });
        Rc::new(Self {
            streams: streams.collect(),
            host: Rc::clone(host),
            config: Rc::clone(config),
            connections: Rc::clone(http.connections()),
            http,
            secure,
        })
    }

    /// Who takes the connections of a listener where this is spoken.
    pub(super) fn dispatcher(self: &Rc<Self>, spoken: &Rc<Spoken>) -> Dispatcher<H> {
        let is_service = matches!(spoken.speaks, Speaks::Tcp(_));
        let allowed = &self.config.proxy_allow_ips;
        Dispatcher {
            proxies: Proxies::new(spoken.proxy, allowed, is_service, &self.connections),
            port: self.secure.port(spoken),
            services: Rc::clone(self),
            spoken: Rc::clone(spoken),
        }
    }

    /// Serves a connection to its end, or refuses it where there is no room for it: what is spoken is reached. By TLS its ends
    /// tell which protocol was agreed upon.
    async fn speak(&self, speaks: &Speaks, stream: Stream, ends: Ends, room: Room) {
        match (speaks, room) {
            (Speaks::Http, Room::There) => self.http.serve(stream, ends).await,
            (Speaks::Http, Room::None) => self.http.refuse(stream, ends).await,
            (Speaks::Uwsgi, Room::There) => self.http.serve_uwsgi(stream, ends).await,
            (Speaks::Uwsgi, Room::None) => self.http.refuse_uwsgi(stream, ends).await,
            (Speaks::Tcp(name), Room::There) => {
                let mut streams = self.streams.iter();
                if let Some((_, service)) = streams.find(|(known, _)| known == name) {
                    service.serve(stream, ends).await;
                }
            }
            // Nothing can be said in a protocol that only its service knows.
            (Speaks::Tcp(_), Room::None) => drop(stream),
        }
    }
}

/// Whether there is room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    There,
    /// All that can be done is to say so.
    None,
}

pin_project! {
    /// A connection, and its permit until that has ended. An `async` block would hold the connection twice.
    struct Held<C> {
        #[pin]
        connection: C,
        permit: Permit,
    }
}

impl<C: Future<Output = ()>> Future for Held<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().connection.poll(cx)
    }
}

/// Where the connections of one listener go.
pub(super) struct Dispatcher<H: Host> {
    services: Rc<Services<H>>,
    spoken: Rc<Spoken>,
    proxies: Option<Rc<Proxies>>,
    /// What shakes hands by TLS.
    port: Option<Rc<Port>>,
}

impl<H: Host> Dispatcher<H> {
    /// Goes through the layers of a connection, down to what is spoken in them. It ends with `right`.
    fn descend(&self, stream: Stream, ends: Ends, room: Room, right: impl Sized + 'static) {
        let services = Rc::clone(&self.services);
        let spoken = Rc::clone(&self.spoken);
        let (proxies, port) = (self.proxies.clone(), self.port.clone());
        self.services.host.spawn(async move {
            let ends = match proxies {
                // Apart from the task: it is much, and soon over.
                Some(proxies) => {
                    Box::pin(proxies.meet(&stream, ends, room == Room::None)).await
                }
                None => Some(ends),
            };
            let within = match (ends, port) {
                (Some(ends), Some(port)) => {
                    let http = &services.http;
                    Box::pin(http.secure(stream, ends, port, room == Room::None)).await
                }
                (Some(ends), None) => Some((stream, ends)),
                (None, _) => None,
            };
            if let Some((stream, ends)) = within {
                services.speak(&spoken.speaks, stream, ends, room).await;
            }
            drop(right);
        });
    }
}

impl<H: Host> Take for Dispatcher<H> {
    fn take(&self, stream: Stream, ends: Ends, permit: Permit) {
        // Most connections: nothing is around their HTTP, and nothing is paid for what could be.
        let is_bare = self.proxies.is_none() && self.port.is_none();
        if is_bare && self.spoken.speaks == Speaks::Http {
            let connection = self.services.http.serve(stream, ends);
            self.services.host.spawn(Held { connection, permit });
        } else {
            self.descend(stream, ends, Room::There, permit);
        }
    }

    fn refuse(&self, stream: Stream, ends: Ends, spare: Spare) {
        self.descend(stream, ends, Room::None, spare);
    }

    fn shed(&self, most: usize, now: Instant) -> usize {
        self.services.connections.shed(most, now)
    }
}
