//! The WebSocket protocol (RFC 6455) as a server speaks it, with permessage-deflate (RFC 7692).
//!
//! [`handshake`] and [`extension`] settle what is spoken; [`frame`] and [`receive`] read frames and put messages
//! together; [`deflate`] packs and unpacks them; [`session`] answers what the protocol wants answered. All of that is
//! bytes in, bytes out: no I/O, no clock. [`socket`] drives a session over a stream.
//!
//! A connection that idles holds no buffer: bytes are read into memory that all connections of a worker share, and a
//! message's memory is there as long as the message is.

pub mod close;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod receive;
pub mod session;
pub mod socket;

#[cfg(test)]
mod tests;
