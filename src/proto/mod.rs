//! HTTP on one connection.
//!
//! The way of a request: [`io`] reads it, the [`guard`] passes it or refuses it, hyper parses it, [`service`] makes it
//! what apps see and calls the app, [`reply`] watches over the answer, [`access`] logs it. [`connections`] keeps the
//! deadlines of all; [`upgrade`] is the way out of HTTP.

pub mod bench;
pub mod guard;
pub mod inlet;

mod access;
mod around;
mod coming;
#[cfg(feature = "compression")]
mod compress;
mod connections;
mod forwarded;
mod http;
mod io;
mod late;
mod line;
mod page;
mod reply;
mod sending;
mod service;
mod upgrade;

pub(crate) use self::http::HttpService;
pub(crate) use self::io::Stream;

#[cfg(test)]
mod tests;
