//! A connection's bytes as the library reads and writes them.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, Wrong};
use super::upgrade::Graft;
use crate::proto::io::Wire;

/// What came in, besides the bytes.
#[derive(Debug)]
pub(super) struct Inflow {
    pub(super) frames: RefCell<Frames>,
    /// Nothing more is read.
    pub(super) wrong: Cell<Option<Wrong>>,
}

/// The library's side of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    wire: Rc<Wire>,
    inflow: Rc<Inflow>,
    /// Bytes that were read before it was known that this is HTTP/2; what the client sent.
    first: Vec<u8>,
    /// What an upgrade puts in.
    graft: Option<Graft>,
    /// Bytes for the library; those before `given` it has.
    ready: Vec<u8>,
    given: usize,
}

impl Pipe {
    pub(super) fn new(wire: Rc<Wire>, first: Vec<u8>, graft: Option<Graft>) -> Self {
        Self {
            wire,
            inflow: Rc::new(Inflow {
                frames: RefCell::default(),
                wrong: Cell::new(None),
            }),
            first,
            graft,
            ready: Vec::new(),
            given: 0,
        }
    }

    pub(super) fn inflow(&self) -> Rc<Inflow> {
        Rc::clone(&self.inflow)
    }

    /// Whether `bytes` may be read.
    fn look(&self, bytes: &[u8]) -> bool {
        let now = self.wire.watch().now();
        let looked = self.inflow.frames.borrow_mut().look(bytes, now);
        self.inflow.wrong.set(looked.err());
        looked.is_ok()
    }

    /// Gives what is ready; false if nothing is.
    fn give(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let taken = rest.len().min(to.remaining());
        to.put_slice(rest.get(..taken).unwrap_or_default());
        self.given += taken;
        if self.given == self.ready.len() {
            self.ready = Vec::new();
            self.given = 0;
        }
        taken > 0
    }

    /// Takes bytes from the client, by way of the graft if there is one.
    fn take(&mut self, bytes: &[u8]) {
        match &mut self.graft {
            None => self.ready.extend_from_slice(bytes),
            Some(graft) => {
                if let Some(grafted) = graft.take(bytes) {
                    self.ready = grafted;
                    self.graft = None;
                }
            }
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.give(to) {
                return Poll::Ready(Ok(()));
            }
            if self.inflow.wrong.get().is_some() {
                // Whoever polls the library sees to it.
                return Poll::Pending;
            }
            let first = std::mem::take(&mut self.first);
            if !first.is_empty() {
                if self.look(&first) {
                    self.take(&first);
                }
                continue;
            }
            let before = to.filled().len();
            ready!(self.wire.poll_read_plain(cx, to))?;
            let fresh = to.filled().get(before..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !self.look(fresh) {
                to.set_filled(before);
                continue;
            }
            if self.graft.is_none() {
                return Poll::Ready(Ok(()));
            }
            let fresh = fresh.to_vec();
            to.set_filled(before);
            self.take(&fresh);
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.poll_gather(cx, bytes)
    }

    /// The connection's task flushes after each turn of the library.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The connection's task decides how to close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
