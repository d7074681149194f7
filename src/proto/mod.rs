//! HTTP on one connection.
//!
//! The way of a request: [`io`] reads it, the [`guard`] passes it or refuses it, hyper parses it, [`service`] makes it
//! what apps see and calls the app, [`reply`] watches over the answer, [`access`] logs it. [`connections`] keeps the
//! deadlines of all; [`upgrade`] is the way out of HTTP, [`uwsgi`] another way in. TLS, where there is any, comes before
//! all that. [`http2`] has ways of its own to the same service.

pub mod bench;
pub mod guard;
pub mod http2;
pub mod inlet;
pub mod proxy;
pub mod uwsgi;

mod access;
#[cfg(any(feature = "static", feature = "compression"))]
mod around;
#[cfg(not(any(feature = "static", feature = "compression")))]
#[path = "around_none.rs"]
mod around;
mod attached;
mod carrier;
mod coming;
#[cfg(feature = "compression")]
mod compress;
mod connections;
mod forwarded;
mod http;
mod io;
mod late;
mod line;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod opening;
mod page;
mod reply;
mod sending;
mod service;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

pub(crate) use self::connections::Connections;
pub(crate) use self::http::HttpService;
#[cfg(not(feature = "tls"))]
pub(crate) use self::no_tls::Port;
pub(crate) use self::proxy::Proxies;
pub(crate) use self::stream::Stream;
pub(crate) use self::tcp::TcpService;
#[cfg(feature = "tls")]
pub(crate) use self::tls::{Handshakes, Port};

#[cfg(test)]
mod tests;
