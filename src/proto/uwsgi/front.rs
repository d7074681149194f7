//! Between a connection's socket and its inlet: makes heads of packets, one request at a time.

use std::sync::Arc;

use http::header::HOST;
use http::{StatusCode, request};

use super::request::{Aside, Request};
use crate::app::{Address, Ends, Gateway};
use crate::proto::guard::{Framing, Refusal};

/// A buffer that was larger than this is given back when it is empty.
const KEEP: usize = 4096;

/// What a connection from a front end has beside those of clients.
#[derive(Debug)]
pub(crate) struct Front {
    /// The peer may speak uwsgi (`uwsgi_allow_ips`).
    welcome: bool,
    /// Connections are kept at all (`keepalive`).
    keeps: bool,
    /// Bytes that are not handed on yet: part of a packet, what follows the request being served.
    held: Vec<u8>,
    /// So much of the body being received is still to be handed on.
    left: u64,
    /// Of the request whose head was handed on.
    aside: Option<Aside>,
    /// The connection may be kept after the request being served.
    keep: bool,
    /// Those of the last request: front ends that keep a connection use it for one client after the other.
    ends: Option<Arc<Ends>>,
}

/// What the front end says of a request.
#[derive(Debug)]
pub(crate) struct Told {
    /// The client's end, as the front end has it, and ours.
    pub(crate) ends: Arc<Ends>,
    /// The client used HTTPS.
    pub(crate) https: bool,
    pub(crate) gateway: Arc<Gateway>,
}

impl Front {
    pub(crate) fn new(welcome: bool, keeps: bool) -> Self {
        Self {
            welcome,
            keeps,
            held: Vec::new(),
            left: 0,
            aside: None,
            keep: false,
            ends: None,
        }
    }

    /// Takes bytes that came.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The bytes that are held, where what follows is no packet any more.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The next bytes for the inlet, of what is held: part of a body, or a whole head. To be asked when the inlet has
    /// handed on all that it got.
    ///
    /// # Errors
    /// 403 for a peer that may not speak uwsgi, and as [`Request::read`].
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        if self.held.is_empty() {
            return Ok(None);
        }
        if !self.welcome {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "uwsgi request not allowed from this address",
            ));
        }
        if self.left > 0 {
            let bytes: Vec<u8> = self.held.drain(..self.room(self.held.len())).collect();
            self.passed(bytes.len());
            self.tidy();
            return Ok(Some(bytes));
        }
        let Some((request, length)) = Request::read(&self.held)? else {
            return Ok(None);
        };
        self.held.drain(..length);
        self.tidy();
        self.keep = self.keeps && request.aside.keep;
        self.aside = Some(request.aside);
        Ok(Some(request.head))
    }

    fn tidy(&mut self) {
        if self.held.is_empty() && self.held.capacity() > KEEP {
            self.held = Vec::new();
        }
    }

    /// The guard has passed the head.
    pub(super) fn begin(&mut self, framing: Framing) {
        self.left = match framing {
            Framing::Length(length) => length,
            // No head of ours says so.
            Framing::Chunked | Framing::None => 0,
        };
    }

    /// How many bytes of `most` are the body's.
    pub(super) fn room(&self, most: usize) -> usize {
        usize::try_from(self.left).map_or(most, |left| left.min(most))
    }

    /// So much of the body was handed on.
    pub(super) fn passed(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(bytes);
    }

    /// The front end wants to keep the connection after the request being served.
    pub(crate) const fn is_kept(&self) -> bool {
        self.keep
    }

    /// Completes the head of the request being served, and tells what does not belong there. `ends` are the socket's.
    pub(crate) fn tell(
        &mut self,
        parts: &mut request::Parts,
        ends: &Arc<Ends>,
    ) -> Option<Told> {
        let aside = self.aside.take()?;
        parts.version = aside.version;
        if aside.hostless {
            parts.headers.remove(HOST);
        }
        for (name, value) in aside.withheld {
            parts.headers.append(name, value);
        }
        Some(Told {
            ends: self.ends_of(aside.peer, ends),
            https: aside.https,
            gateway: Arc::new(aside.gateway),
        })
    }

    fn ends_of(&mut self, peer: Option<Address>, socket: &Arc<Ends>) -> Arc<Ends> {
        let Some(peer) = peer else {
            return Arc::clone(socket);
        };
        match &self.ends {
            Some(ends) if ends.peer == peer => Arc::clone(ends),
            Some(_) | None => {
                let ends = Arc::new(Ends {
                    peer,
                    // The front end's own.
                    tls: None,
                    ..Ends::clone(socket)
                });
                self.ends = Some(Arc::clone(&ends));
                ends
            }
        }
    }
}
