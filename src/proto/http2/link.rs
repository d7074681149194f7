//! One connection: it drives the library and the streams, and decides when it is over.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Connection, Handshake};
use h2::{Reason, RecvStream};
use http::Request;

use super::pipe::{Inflow, Pipe};
use super::stream;
use super::upgrade::Seed;
use crate::app::App;
use crate::proto::connections::{Peer, Phase, Verdict, Watch};
use crate::proto::http::HttpService;
use crate::proto::io::Wire;

/// So many streams of a connection may be given up as the client did not read them; then the connection is, too.
const STALLS: u32 = 8;

/// How a connection came to HTTP/2.
#[derive(Debug)]
pub(in crate::proto) enum Start {
    /// By its first bytes, which were read already, or by the TLS handshake.
    Known(Vec<u8>),
    /// By a request of HTTP/1 that becomes the first stream; what came behind it was read already.
    Upgraded(Seed, Vec<u8>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto) enum End {
    /// All was said, and the client knows it.
    Done,
    /// We have ended it for what the client did: it may still be sending.
    Refused,
    /// Not to be spoken on any more.
    Cut,
}

/// What a connection and its streams share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Rc<Wire>,
    inflow: Rc<Inflow>,
    /// Lent to whoever drives it.
    library: RefCell<Connection<Pipe, Bytes>>,
    /// Streams that were given up as the client did not read them.
    stalls: Cell<u32>,
}

impl Link {
    fn watch(&self) -> &Rc<Watch> {
        self.wire.watch()
    }

    /// Sends what streams have given to the library, outside of the connection's own turn, which has to see to what is left.
    pub(super) fn flush(&self) {
        if let Ok(mut library) = self.library.try_borrow_mut() {
            let mut cx = Context::from_waker(Waker::noop());
            // The connection's own turn is told again of whatever it comes to.
            let _ = library.poll_closed(&mut cx);
            drop(library);
            self.wire.send_now();
        }
        self.watch().wake();
    }

    /// A body of so many bytes was sent.
    pub(super) fn sent(&self, bytes: usize) {
        self.inflow.frames.borrow_mut().carried(bytes);
    }

    /// A stream was given up as the client did not read it.
    pub(super) fn stalled(&self) {
        self.stalls.set(self.stalls.get() + 1);
    }
}

/// Serves a connection to its end.
pub(in crate::proto) async fn serve<A: App>(
    http: Rc<HttpService<A>>,
    wire: Rc<Wire>,
    start: Start,
) -> End {
    let (first, graft) = match start {
        Start::Known(first) => (first, None),
        Start::Upgraded(seed, first) => (first, Some(seed.into_graft())),
    };
    let pipe = Pipe::new(Rc::clone(&wire), first, graft);
    let inflow = pipe.inflow();
    let settings = wire.shared.http2;
    let handshake = settings.builder().handshake(pipe);
    let library = match greet(&wire, &inflow, handshake).await {
        Ok(library) => library,
        Err(end) => return end,
    };
    let link = Rc::new(Link {
        wire,
        inflow,
        library: RefCell::new(library),
        stalls: Cell::new(0),
    });
    let drain = link.watch().ends().drain.clone();
    let mut drain = pin!(async move { drain.begun().await });
    let mut state = State {
        link: Rc::clone(&link),
        most: usize::try_from(settings.streams).unwrap_or(usize::MAX),
        going: Going::On,
        served: false,
        fresh: false,
        seen: None,
    };
    let mut streams = FuturesUnordered::new();
    poll_fn(|cx| {
        if state.going == Going::On && drain.as_mut().poll(cx).is_ready() {
            state.leave();
        }
        let begin = |request: Request<RecvStream>, respond| {
            stream::serve(Rc::clone(&http), Rc::clone(&link), request, respond)
        };
        let turn = || state.turn(cx, &mut streams, begin);
        catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|_| {
            let peer = &link.watch().ends().peer;
            tracing::error!("Panic while serving HTTP/2 to {}", Peer(peer));
            Poll::Ready(End::Cut)
        })
    })
    .await
}

/// Waits for the client's preface, and sends our settings.
async fn greet(
    wire: &Rc<Wire>,
    inflow: &Inflow,
    handshake: Handshake<Pipe, Bytes>,
) -> Result<Connection<Pipe, Bytes>, End> {
    let watch = wire.watch();
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        watch.park(cx);
        if let Some(verdict) = watch.verdict() {
            return Poll::Ready(Err(match verdict {
                Verdict::Close | Verdict::SlowHead | Verdict::SlowBody => End::Done,
                Verdict::SlowReader | Verdict::Abort => End::Cut,
            }));
        }
        match handshake.as_mut().poll(cx) {
            Poll::Ready(Ok(library)) => Poll::Ready(Ok(library)),
            Poll::Ready(Err(error)) => {
                tell_end(watch, &error);
                Poll::Ready(Err(End::Refused))
            }
            Poll::Pending => {
                if inflow.frames.borrow().is_begun() {
                    watch.enter(Phase::Head);
                }
                match wire.poll_flush_late(cx) {
                    Poll::Ready(Err(_)) => Poll::Ready(Err(End::Cut)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
        }
    })
    .await
}

fn tell_end(watch: &Watch, error: &h2::Error) {
    tracing::debug!(
        "Connection from {} ended: {}",
        Peer(&watch.ends().peer),
        crate::error::chain(error)
    );
}

/// Whether more requests are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// They are.
    On,
    /// The client is told that they are not; what has begun is finished.
    Out,
    /// The client is told why the connection ends now.
    Now,
}

/// The connection as its own task sees it.
struct State {
    link: Rc<Link>,
    /// The most streams at a time.
    most: usize,
    going: Going,
    /// There was a stream.
    served: bool,
    /// There was one since the phase was entered.
    fresh: bool,
    /// How many frames had ended when the phase was entered.
    seen: Option<u32>,
}

impl State {
    /// No more requests (RFC 9113 section 6.8).
    fn leave(&mut self) {
        if self.going == Going::On {
            self.going = Going::Out;
            self.link.library.borrow_mut().graceful_shutdown();
        }
    }

    /// Nothing more at all.
    fn leave_now(&mut self, reason: Reason) {
        if self.going != Going::Now {
            self.going = Going::Now;
            self.link.library.borrow_mut().abrupt_shutdown(reason);
        }
    }

    /// One turn: the library does what it can, then the streams, then what they have to say is sent.
    fn turn<F, B>(
        &mut self,
        cx: &mut Context<'_>,
        streams: &mut FuturesUnordered<F>,
        begin: B,
    ) -> Poll<End>
    where
        F: Future<Output = ()>,
        B: Fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> F,
    {
        let link = Rc::clone(&self.link);
        let watch = link.watch();
        watch.park(cx);
        if let Some(end) = self.obey(streams.len()) {
            return Poll::Ready(end);
        }
        loop {
            let polled = self.poll_library(cx, streams, &begin);
            if polled.is_ready() {
                // The streams are over, and know it.
                while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
                return polled;
            }
            match streams.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let stalls = link.stalls.get();
        if stalls >= STALLS || (stalls > 0 && streams.is_empty()) {
            self.leave_now(Reason::ENHANCE_YOUR_CALM);
        }
        if self.served && streams.is_empty() && !wire_keeps(&link.wire) {
            self.leave();
        }
        // What the streams have said since; and what was just decided.
        let polled = self.poll_library(cx, streams, &begin);
        if polled.is_ready() {
            while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
            return polled;
        }
        self.enter_phase(streams.len());
        match link.wire.poll_flush_late(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(End::Cut),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Carries out the sweep's verdict.
    fn obey(&mut self, streams: usize) -> Option<End> {
        let link = Rc::clone(&self.link);
        let watch = link.watch();
        match watch.verdict()? {
            Verdict::SlowReader => {
                let peer = &watch.ends().peer;
                tracing::debug!("Client {} does not read its response", Peer(peer));
                return Some(End::Cut);
            }
            Verdict::Abort => return Some(End::Cut),
            // It was told, and does not answer.
            Verdict::Close if self.going != Going::On && streams == 0 => {
                return Some(End::Done);
            }
            Verdict::Close | Verdict::SlowBody if !watch.is_shed() => self.leave(),
            Verdict::Close | Verdict::SlowBody => self.leave_now(Reason::NO_ERROR),
            Verdict::SlowHead => self.leave_now(Reason::ENHANCE_YOUR_CALM),
        }
        watch.absolve();
        None
    }

    /// Lets the library read and write; takes the requests that came.
    fn poll_library<F, B>(
        &mut self,
        cx: &mut Context<'_>,
        streams: &FuturesUnordered<F>,
        begin: &B,
    ) -> Poll<End>
    where
        F: Future<Output = ()>,
        B: Fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> F,
    {
        let link = Rc::clone(&self.link);
        loop {
            // Streams that the client has reset may still be at work: they count, too.
            let polled = if streams.len() < self.most {
                link.library.borrow_mut().poll_accept(cx)
            } else {
                link.library
                    .borrow_mut()
                    .poll_closed(cx)
                    .map(|closed| closed.err().map(Err))
            };
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.served = true;
                    self.fresh = true;
                    streams.push(begin(request, respond));
                    if link.watch().is_last() || link.watch().is_refused() {
                        self.leave();
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tell_end(link.watch(), &error);
                    return Poll::Ready(if error.is_io() {
                        End::Cut
                    } else {
                        End::Refused
                    });
                }
                Poll::Ready(None) if self.going == Going::Now => {
                    return Poll::Ready(End::Refused);
                }
                Poll::Ready(None) => return Poll::Ready(End::Done),
                Poll::Pending => match link.inflow.wrong.get() {
                    Some(wrong) if self.going != Going::Now => {
                        tracing::warn!(
                            "Connection from {} ended: {wrong}",
                            Peer(&link.watch().ends().peer)
                        );
                        self.leave_now(wrong.reason());
                    }
                    Some(_) | None => return Poll::Pending,
                },
            }
        }
    }

    fn enter_phase(&mut self, streams: usize) {
        let watch = self.link.watch();
        let (amid, ended) = {
            let frames = self.link.inflow.frames.borrow();
            (frames.is_amid(), frames.ended())
        };
        let phase = if self.going != Going::On && streams == 0 {
            Phase::Lingering
        } else if amid {
            Phase::Head
        } else if streams > 0 {
            Phase::Streams
        } else {
            Phase::Idle
        };
        // Another frame than before, or another silence.
        let anew = if phase == Phase::Head {
            self.seen != Some(ended)
        } else {
            self.fresh
        };
        self.fresh = false;
        self.seen = Some(ended);
        if anew {
            watch.renew(phase);
        } else {
            watch.enter(phase);
        }
    }
}

/// Whether the connection is kept when its last stream has ended.
fn wire_keeps(wire: &Wire) -> bool {
    wire.shared.keeps_alive
}
