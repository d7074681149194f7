//! HTTP/2 on one connection (RFC 9113), by the h2 library.
//!
//! The way of a request: [`pipe`] reads the connection's bytes, [`frames`] counts what they ask for, the library makes
//! requests of them, [`link`] drives the connection, [`stream`] brings each request to the app and the answer back,
//! [`body`] is what the app reads. [`upgrade`] is the way in from HTTP/1.
//!
//! All streams of a connection are polled by the connection's task, and end with it. Each has a watch of its own among the
//! worker's connections (`Phase::Streams` is the connection's), so one stream's deadline is not another's.

mod body;
mod date;
mod frames;
mod link;
mod pipe;
mod stream;
mod upgrade;

use http::HeaderMap;
use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};

use crate::config::{Config, HttpProtocol};

pub use self::frames::{Frames, PREFACE, Wrong};
pub(super) use self::link::{End, Start, serve};
pub use self::upgrade::{Graft, Seed};

/// A response body that waits for the client's window keeps so many bytes in the library at the most, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// So many streams may be reset by the client before we have looked at them (CVE-2023-44487); the library's own number.
const RESET_UNSEEN: usize = 20;
/// So many streams of a connection may be reset because of what the client sent, in all (CVE-2025-8671); the library's own.
const RESET_BY_US: usize = 1024;
/// So many streams that we have reset are remembered for a second, for frames that are under way; the library's own number.
const REMEMBERED: usize = 50;

/// The settings of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http2 {
    /// Who may begin a connection with HTTP/2's preface, among trusted peers.
    pub(crate) prior_knowledge: bool,
    /// Trusted peers may ask for HTTP/2 in HTTP/1.
    pub(crate) upgrade: bool,
    /// `http2_max_concurrent_streams`.
    pub(crate) streams: u32,
    /// `http2_initial_window_size`, of a stream and of the connection, in bytes.
    pub(crate) window: u32,
    /// `http2_max_frame_size`, in bytes.
    pub(crate) frame: u32,
    /// `http2_max_header_list_size`, in bytes; zero is no limit.
    pub(crate) headers: u32,
}

impl Default for Http2 {
    /// Gunicorn's defaults: no HTTP/2 without TLS.
    fn default() -> Self {
        Self {
            prior_knowledge: false,
            upgrade: false,
            streams: 100,
            window: SMALLEST_WINDOW,
            frame: 16_384,
            headers: 65_536,
        }
    }
}

impl From<&Config> for Http2 {
    fn from(config: &Config) -> Self {
        let offered = config.http_protocols.contains(&HttpProtocol::Http2);
        Self {
            prior_knowledge: offered && config.http2_cleartext.has_prior_knowledge(),
            upgrade: offered && config.http2_cleartext.has_upgrade(),
            streams: config.http2_max_concurrent_streams,
            window: config.http2_initial_window_size,
            frame: config.http2_max_frame_size,
            headers: config.http2_max_header_list_size,
        }
    }
}

/// The smallest window of a connection: it is that from the start, and only grows (RFC 9113 section 6.9.2).
const SMALLEST_WINDOW: u32 = 65_535;

impl Http2 {
    fn builder(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(self.streams)
            .initial_window_size(self.window)
            .initial_connection_window_size(self.window.max(SMALLEST_WINDOW))
            .max_frame_size(self.frame)
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(RESET_UNSEEN)
            .max_local_error_reset_streams(Some(RESET_BY_US))
            .max_concurrent_reset_streams(REMEMBERED);
        if self.headers > 0 {
            builder.max_header_list_size(self.headers);
        }
        builder
    }
}

/// Takes out what belongs to connections of HTTP/1 (RFC 9113 section 8.2.2).
fn strip(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}
