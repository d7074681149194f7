//! uwsgi on one connection: what nginx says by `uwsgi_pass`.
//!
//! A request is a [`packet`] of variables as CGI has them, then its body; an answer is one of HTTP/1.0, ended by its
//! length or by the connection. So this is a way into HTTP and no protocol beside it: a packet becomes the head of the
//! [`request`] it was made of, which the guard and the library read like any other, and the deadlines, limits, log lines
//! and answers are those of HTTP. The [`front`] does so between a connection's socket and its inlet.

pub mod packet;
pub mod request;

mod front;
mod target;
mod wire;

pub(crate) use self::front::{Front, Told};
