//! The PROXY header of a connection, read before anything else: what it tells of the client takes the place of what the
//! socket knows.
//!
//! As with Gunicorn a connection may do without one, where its first bytes tell so: one of another peer, or a request of the
//! proxy's own. A header of a peer that may not send it ends the connection.

mod header;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::connections::{Connections, Peer, Phase, Watch};
use super::io::Stream;
use crate::app::{Address, Ends, Proxied};
use crate::config::{AllowList, ProxyProtocol};
pub use header::{Beginning, Header, Malformed, Told};

/// Looked at at a time: more than any header without much behind its addresses.
const LOOK: usize = 256;

/// What the connections of a listener may begin with.
#[derive(Debug)]
pub(crate) struct Proxies {
    expected: ProxyProtocol,
    /// Who may send a header.
    allowed: AllowList,
    /// Whether there must be one: the first bytes may be anything, or come from us.
    required: bool,
    connections: Rc<Connections>,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its PROXY header has {0}")]
    Malformed(#[from] Malformed),
    #[error("it sent a PROXY header and is not among --proxy-allow-from")]
    Forbidden,
    #[error("it sent no PROXY header")]
    Missing,
}

/// How the reading ended.
enum Outcome {
    /// There is a header, or none, and the rest is the protocol's.
    Begun(Option<Told>),
    Refused(Refusal),
    /// It left, or its time was over.
    Gone,
}

impl Proxies {
    /// `None` where there is nothing to expect.
    pub(crate) fn new(
        expected: ProxyProtocol,
        allowed: &AllowList,
        required: bool,
        connections: &Rc<Connections>,
    ) -> Option<Rc<Self>> {
        (expected != ProxyProtocol::Off).then(|| {
            Rc::new(Self {
                expected,
                allowed: allowed.clone(),
                required,
                connections: Rc::clone(connections),
            })
        })
    }

    /// Takes the header off a connection, for whose requests there is no room if it is `refused`, and puts what it tells into
    /// its ends; `None` where the connection is to be closed.
    ///
    /// *Cancel safety*: dropping the future loses what was taken of the header: the connection is of no use any more.
    pub(crate) async fn meet(
        &self,
        stream: &Stream,
        mut ends: Ends,
        refused: bool,
    ) -> Option<Ends> {
        match self.read(stream, &ends, refused).await {
            Outcome::Begun(None) => Some(ends),
            Outcome::Begun(Some(told)) => {
                let client = Address::Tcp(told.client);
                ends.proxied = Some(Box::new(Proxied {
                    proxy: std::mem::replace(&mut ends.peer, client),
                    server: told.server,
                }));
                Some(ends)
            }
            Outcome::Refused(refusal) => {
                tracing::warn!("Closing connection from ip={}: {refusal}", Peer(&ends.peer));
                None
            }
            Outcome::Gone => None,
        }
    }

    async fn read(&self, stream: &Stream, ends: &Ends, refused: bool) -> Outcome {
        let entry = self.connections.enter(Arc::new(ends.clone()), refused);
        let watch = entry.watch();
        let mut header = Header::new(self.expected);
        let mut bytes = [0; LOOK];
        // Of the bytes that are there, so many have been looked at.
        let mut seen = 0;
        loop {
            let Some(Ok(ready)) = in_time(watch, stream.readable()).await else {
                return Outcome::Gone;
            };
            // Behind half a header nothing may come, for ever.
            let wanted = if ready.is_read_closed() { 0 } else { seen + 1 };
            let there = match stream.peek(&mut bytes, wanted) {
                Ok(there) if there > seen => there,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(_) | Err(_) => return Outcome::Gone,
            };
            watch.enter(Phase::Head);
            let looked = header.look(bytes.get(..there).unwrap_or_default());
            let (taken, beginning) = match looked {
                Ok(looked) => looked,
                Err(malformed) => return Outcome::Refused(malformed.into()),
            };
            if taken > 0 && !self.allows(&ends.peer) {
                return Outcome::Refused(Refusal::Forbidden);
            }
            if stream.skip(taken).is_err() {
                return Outcome::Gone;
            }
            seen = there - taken;
            match beginning {
                Beginning::Unknown => {}
                Beginning::Bare if self.required => return Outcome::Refused(Refusal::Missing),
                Beginning::Bare => return Outcome::Begun(None),
                Beginning::Header(told) => return Outcome::Begun(told),
            }
        }
    }

    /// Unix peers may: the socket's permissions have let them in.
    fn allows(&self, peer: &Address) -> bool {
        match peer {
            Address::Tcp(peer) => self.allowed.allows_socket(peer),
            Address::Unix(_) => true,
        }
    }
}

/// What `future` comes to, unless the connection's time is over before.
async fn in_time<F: Future>(watch: &Watch, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        watch.park(cx);
        if watch.verdict().is_some() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
