//! The connections of a worker and their deadlines, without a timer for any of them.
//!
//! Each connection notes its phase in a [`Watch`] of plain cells; four times a second the worker sweeps over all of them
//! and wakes those whose time is over. So a request costs a few stores and no look at the clock.
//!
//! *Precision.* Deadlines are counted on a coarse clock that moves with the sweep. They are never early, and late by up
//! to two sweeps. The clock stands still while the worker does: a sweep moves it by [`STRIDE`] at the most, so that an
//! app which keeps the thread busy for seconds does not time out clients whose bytes nobody read meanwhile.

mod shed;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::app::{Address, Departure, Drain, Ends};

/// The most that one sweep moves the clock, in milliseconds.
const STRIDE: u64 = 500;
/// How long a draining worker waits for the first request of a connection it has accepted, in milliseconds.
const DRAIN_FRESH: u64 = 1000;
/// How long a draining worker waits for the next request of a connection that is kept alive, in milliseconds: one that
/// is on its way when the drain begins is answered.
const DRAIN_IDLE: u64 = 150;
/// How long a closed connection is read from, so that the client gets to read our last answer, in milliseconds.
const LINGER: u64 = 2000;
/// How long a connection that gets no more than a 503 may take over its head, and again over reading the answer.
const REFUSED: u64 = 1000;
/// The most requests that are told of.
const TOLD: usize = 200;
/// So much of a head is kept, for the request line in the log.
const LINE: usize = 256;

/// The settings that limit time. Zero switches a limit off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Between requests.
    pub(crate) keepalive: Duration,
    /// From the first byte of a head to its end, and from a connection to its first byte.
    pub(crate) header: Duration,
    /// How far a body may fall behind `min_rate`.
    pub(crate) body: Duration,
    /// How far the reading of a response may fall behind `min_rate`.
    pub(crate) write: Duration,
    /// From a connection to the end of its TLS handshake.
    pub(crate) handshake: Duration,
    /// Bytes a second.
    pub(crate) min_rate: u64,
}

/// What a connection is doing, as far as its deadline goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Accepted where TLS is spoken: no byte yet, or no room for its handshake.
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "nobody shakes hands")
    )]
    Greeting,
    /// In its TLS handshake.
    Handshake,
    /// Accepted, no byte yet.
    Fresh,
    /// Between requests.
    Idle,
    /// Part of a head is here.
    Head,
    /// Waiting for bytes of a body.
    Receiving,
    /// The app's turn: no deadline.
    Handling,
    /// It has streams, each with a watch of its own: no deadline but that of what is being sent.
    Streams,
    /// Closed by us; the client may still be sending.
    Lingering,
    /// It has left HTTP, and its app has the stream: no deadline but that of a client that does not read.
    Upgraded,
}

/// Whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It idled too long, or lingered: close without a word.
    Close,
    /// Its head took too long.
    SlowHead,
    /// Its body took too long.
    SlowBody,
    /// It does not read its response: cut.
    SlowReader,
    /// The worker leaves now: cut.
    Abort,
}

/// How far one direction is behind the rate that is asked of it.
#[derive(Debug, Default)]
struct Lag {
    /// We wait for the client.
    waiting: Cell<bool>,
    /// In milliseconds of the rate.
    behind: Cell<u64>,
}

impl Lag {
    fn wait(&self) {
        self.waiting.set(true);
    }

    fn progress(&self, bytes: usize, rate: u64) {
        self.waiting.set(false);
        let behind = self.behind.get();
        if behind > 0 {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let made_up = bytes
                .saturating_mul(1000)
                .checked_div(rate)
                .unwrap_or(u64::MAX);
            self.behind.set(behind.saturating_sub(made_up));
        }
    }

    fn reset(&self) {
        self.waiting.set(false);
        self.behind.set(0);
    }

    fn tick(&self, elapsed: u64, grace: u64) -> bool {
        if !self.waiting.get() {
            return false;
        }
        let behind = self.behind.get().saturating_add(elapsed);
        self.behind.set(behind);
        // One stride more: the wait may have begun just before this tick.
        behind > grace.saturating_add(STRIDE)
    }
}

/// One connection, as the sweep sees it.
#[derive(Debug)]
pub(crate) struct Watch {
    ends: Arc<Ends>,
    clock: Rc<Clock>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    received: Lag,
    sent: Lag,
    verdict: Cell<Option<Verdict>>,
    /// Its verdict makes room for others: nobody waits for the client.
    shed: Cell<bool>,
    /// There is no room for it: its request is answered without the app.
    refused: bool,
    /// It is a stream of a connection: its end makes no room.
    part: bool,
    waker: RefCell<Option<Waker>>,
    /// The head of the request being served, as far as it fits.
    line: RefCell<Vec<u8>>,
}

/// What all connections of a worker share.
#[derive(Debug, Default)]
struct Clock {
    /// Milliseconds since the worker's first sweep.
    now: Cell<u64>,
    /// Each answer is the last of its connection.
    closing: Cell<bool>,
    draining: Cell<bool>,
    drained: Cell<u64>,
    /// The table or a request's line is being changed: who finds it so, in a signal handler, cannot read it.
    changing: Changing,
    rate: Cell<u64>,
}

impl Watch {
    pub(crate) fn ends(&self) -> &Arc<Ends> {
        &self.ends
    }

    /// Keeps the waker of the task that serves the connection.
    pub(crate) fn park(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => (),
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    /// The waker of the task that serves the connection.
    pub(crate) fn waker(&self) -> Waker {
        self.waker
            .borrow()
            .as_ref()
            .map_or_else(|| Waker::noop().clone(), Waker::clone)
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// The worker finishes, or is about to: no further request on this connection after an answer.
    pub(crate) fn closing(&self) -> bool {
        self.clock.closing.get()
    }

    /// The worker finishes.
    fn draining(&self) -> bool {
        self.clock.draining.get()
    }

    /// No request comes after this one: the worker finishes, or is about to, or the connection is to make room.
    pub(crate) fn is_last(&self) -> bool {
        self.closing() || self.shed.get()
    }

    /// It is to make room for others at once.
    pub(crate) fn is_shed(&self) -> bool {
        self.shed.get()
    }

    /// Its requests are to be answered with 503.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// The time of an idle connection is over, and its next request has come before that was noticed: it is served.
    pub(crate) fn pardon(&self) {
        self.verdict.set(None);
        self.since.set(self.clock.now.get());
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase, if it is not in it already.
    pub(crate) fn enter(&self, phase: Phase) {
        if self.phase.get() != phase {
            self.phase.set(phase);
            self.since.set(self.clock.now.get());
        }
    }

    /// Enters a phase anew.
    pub(crate) fn renew(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now.get());
    }

    /// What a verdict asked for is done, and the connection goes on; there is no going on after an abort.
    pub(crate) fn absolve(&self) {
        if self.verdict.get() != Some(Verdict::Abort) {
            self.verdict.set(None);
        }
    }

    /// Milliseconds of the coarse clock.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now.get()
    }

    /// All is said; from now on the client has a while to read it. A verdict on what it did before is carried out.
    pub(crate) fn linger(&self) {
        self.enter(Phase::Lingering);
        self.absolve();
    }

    /// A request begins; its head is the last one again if it is `repeated`.
    pub(crate) fn begin(&self, head: &[u8], repeated: bool) {
        self.phase.set(Phase::Handling);
        self.since.set(self.clock.now.get());
        self.received.reset();
        self.sent.reset();
        if !repeated {
            self.clock.changing.hold(|| {
                let mut line = self.line.borrow_mut();
                line.clear();
                line.extend_from_slice(head.get(..LINE).unwrap_or(head));
            });
        }
    }

    /// The connection leaves HTTP, for a long time: of the head nothing is kept but what the log tells.
    pub(crate) fn enter_upgraded(&self) {
        self.enter(Phase::Upgraded);
        self.clock.changing.hold(|| {
            let mut line = self.line.borrow_mut();
            *line = method_and_target(&line).to_vec();
        });
    }

    /// The method and target being served, for the log; escaped.
    pub(crate) fn request(&self) -> String {
        method_and_target(&self.line.borrow())
            .escape_ascii()
            .to_string()
    }

    /// The body stopped coming.
    pub(crate) fn await_body(&self) {
        self.phase.set(Phase::Receiving);
        self.received.wait();
    }

    /// So much of the body came.
    pub(crate) fn received(&self, bytes: usize) {
        self.phase.set(Phase::Handling);
        self.received.progress(bytes, self.clock.rate.get());
    }

    /// The client's end is full.
    pub(crate) fn await_reader(&self) {
        self.sent.wait();
    }

    /// The client's end took so much.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.progress(bytes, self.clock.rate.get());
    }

    fn drained_for(&self) -> u64 {
        self.clock
            .now
            .get()
            .saturating_sub(self.clock.drained.get())
    }

    fn tick(&self, elapsed: u64, limits: &Limits) -> Option<Verdict> {
        let age = self.clock.now.get().saturating_sub(self.since.get());
        // The phase began up to a stride after the clock's last move.
        let past = |limit: u64| limit > 0 && age > limit.saturating_add(STRIDE);
        if limits.write > 0 && self.sent.tick(elapsed, limits.write) {
            return Some(Verdict::SlowReader);
        }
        let (handshake, header, linger) = if self.refused {
            (REFUSED, REFUSED, REFUSED)
        } else {
            (limits.handshake, limits.header, LINGER)
        };
        match self.phase.get() {
            Phase::Greeting | Phase::Handshake if past(handshake) => Some(Verdict::Close),
            Phase::Fresh if past(header) => Some(Verdict::Close),
            Phase::Greeting | Phase::Handshake | Phase::Fresh if self.draining() => {
                (age.min(self.drained_for()) > DRAIN_FRESH).then_some(Verdict::Close)
            }
            Phase::Idle if past(limits.keepalive) => Some(Verdict::Close),
            Phase::Idle if self.draining() => {
                (age.min(self.drained_for()) >= DRAIN_IDLE).then_some(Verdict::Close)
            }
            Phase::Head if past(header) => Some(Verdict::SlowHead),
            Phase::Lingering if past(linger) => Some(Verdict::Close),
            Phase::Receiving if limits.body > 0 && self.received.tick(elapsed, limits.body) => {
                Some(Verdict::SlowBody)
            }
            Phase::Greeting
            | Phase::Handshake
            | Phase::Fresh
            | Phase::Idle
            | Phase::Head
            | Phase::Receiving
            | Phase::Handling
            | Phase::Streams
            | Phase::Lingering
            | Phase::Upgraded => None,
        }
    }
}

/// The method and target that a head begins with.
fn method_and_target(head: &[u8]) -> &[u8] {
    let line = head.strip_prefix(b"\r\n").unwrap_or(head);
    let line = line.split(|&byte| byte == b'\r').next().unwrap_or_default();
    line.strip_suffix(b" HTTP/1.1")
        .or_else(|| line.strip_suffix(b" HTTP/1.0"))
        .unwrap_or(line)
}

/// What is to be said of a connection that has a request.
const fn state(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Handling => Some(""),
        Phase::Receiving => Some(", whose body is not here yet"),
        Phase::Upgraded => Some(", upgraded"),
        Phase::Greeting
        | Phase::Handshake
        | Phase::Fresh
        | Phase::Idle
        | Phase::Head
        | Phase::Streams
        | Phase::Lingering => None,
    }
}

/// Tells a signal handler on the same thread that it has come at a bad moment.
#[derive(Debug, Default)]
struct Changing(AtomicBool);

impl Changing {
    #[inline]
    fn hold<T>(&self, change: impl FnOnce() -> T) -> T {
        self.0.store(true, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let changed = change();
        compiler_fence(Ordering::SeqCst);
        self.0.store(false, Ordering::Relaxed);
        changed
    }

    fn is_held(&self) -> bool {
        let held = self.0.load(Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        held
    }
}

/// The timeouts in milliseconds.
#[derive(Debug)]
struct Limits {
    keepalive: u64,
    header: u64,
    body: u64,
    write: u64,
    handshake: u64,
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Connections {
    slots: RefCell<Slab<Rc<Watch>>>,
    clock: Rc<Clock>,
    swept: Cell<Option<Instant>>,
    limits: Limits,
    /// How many wait for room to shake hands.
    queued: Cell<usize>,
    /// Tells apps of the drain.
    signal: Drain,
}

impl Connections {
    pub(crate) fn new(timeouts: &Timeouts) -> Rc<Self> {
        let ms = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let clock = Clock::default();
        clock.rate.set(timeouts.min_rate);
        Rc::new(Self {
            slots: RefCell::default(),
            clock: Rc::new(clock),
            swept: Cell::new(None),
            limits: Limits {
                keepalive: ms(timeouts.keepalive),
                header: ms(timeouts.header),
                body: ms(timeouts.body),
                write: ms(timeouts.write),
                handshake: ms(timeouts.handshake),
            },
            queued: Cell::new(0),
            signal: Drain::new(),
        })
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Wakes the connections whose time is over. To be called every 250 ms with the present time.
    pub(crate) fn sweep(&self, now: Instant) {
        let before = self.swept.replace(Some(now)).unwrap_or(now);
        let elapsed = now.saturating_duration_since(before).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(STRIDE).min(STRIDE);
        self.clock.now.set(self.clock.now.get() + elapsed);
        for (_, watch) in &*self.slots.borrow() {
            if watch.verdict.get().is_none()
                && let Some(verdict) = watch.tick(elapsed, &self.limits)
            {
                watch.verdict.set(Some(verdict));
                watch.wake();
            }
        }
        if self.queued.get() > 0 {
            self.make_room_for_handshakes();
        }
    }

    /// The worker is about to drain: each answer says `Connection: close` from now on.
    pub(crate) fn announce(&self) {
        self.clock.closing.set(true);
    }

    /// Whether answers say `Connection: close`.
    pub(crate) fn closing(&self) -> bool {
        self.clock.closing.get()
    }

    /// No more requests: those with a request, or part of one, are answered with `Connection: close`; those that are kept
    /// alive have a moment for one that is on its way, those that have not sent anything yet a second. Apps are told (`Drain`). To
    /// be swept more often from now on.
    pub(crate) fn drain(&self, now: Instant, departure: Departure) {
        self.sweep(now);
        self.announce();
        self.clock.draining.set(true);
        self.clock.drained.set(self.clock.now.get());
        self.signal.begin(departure);
    }

    /// What tells apps of the drain.
    pub(crate) fn signal(&self) -> Drain {
        self.signal.clone()
    }

    /// Cuts every connection and logs each that was at something, as far as anybody would read it.
    pub(crate) fn abort_all(&self) {
        let mut told = 0;
        for (_, watch) in &*self.slots.borrow() {
            let age = self.clock.now.get().saturating_sub(watch.since.get());
            let peer = Peer(&watch.ends.peer);
            match watch.phase.get() {
                Phase::Greeting
                | Phase::Handshake
                | Phase::Fresh
                | Phase::Idle
                | Phase::Lingering => {
                    tracing::debug!("Closing idle connection from {peer} after {age} ms");
                }
                Phase::Head | Phase::Receiving | Phase::Handling | Phase::Upgraded
                    if told >= TOLD =>
                {
                    told += 1;
                }
                // Its streams are told of.
                Phase::Streams => {}
                Phase::Head => {
                    told += 1;
                    tracing::warn!(
                        "Cutting connection from {peer}: half a request after {age} ms"
                    );
                }
                Phase::Receiving | Phase::Handling => {
                    told += 1;
                    let request = watch.request();
                    tracing::warn!("Cutting request {request} from {peer} after {age} ms");
                }
                Phase::Upgraded => {
                    told += 1;
                    let request = watch.request();
                    tracing::warn!(
                        "Cutting upgraded connection {request} from {peer} after {age} ms"
                    );
                }
            }
            watch.verdict.set(Some(Verdict::Abort));
            watch.wake();
        }
        if told > TOLD {
            tracing::warn!("Cutting {} requests more", told - TOLD);
        }
    }

    /// Every request in flight. May be called in a signal handler on the worker's thread: allocates nothing, and takes
    /// nothing for read that is being changed.
    pub(crate) fn tell(&self, out: &mut dyn fmt::Write) {
        // Whoever reads it has no better use for the error.
        let _ = self.try_tell(out);
    }

    fn try_tell(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let slots = match self.slots.try_borrow() {
            Ok(slots) if !self.clock.changing.is_held() => slots,
            Ok(_) | Err(_) => return out.write_str("Requests in flight: unknown\n"),
        };
        // The clock stands still since the last sweep.
        let swept = self.swept.get().map_or(Duration::ZERO, |at| at.elapsed());
        let swept = u64::try_from(swept.as_millis()).unwrap_or(u64::MAX);
        let busy = |watch: &Watch| state(watch.phase.get()).is_some();
        let count = slots.iter().filter(|(_, watch)| busy(watch)).count();
        writeln!(out, "Requests in flight: {count}")?;
        for (_, watch) in slots.iter().filter(|(_, watch)| busy(watch)).take(TOLD) {
            let age = self.clock.now.get().saturating_sub(watch.since.get());
            let age = age.saturating_add(swept);
            let line = watch.line.try_borrow();
            let line = line
                .as_deref()
                .map_or(&b"?"[..], |line| method_and_target(line));
            writeln!(
                out,
                "  {} from {}, for {}.{} s{}",
                line.escape_ascii(),
                Peer(&watch.ends.peer),
                age / 1000,
                age % 1000 / 100,
                state(watch.phase.get()).unwrap_or_default()
            )?;
        }
        if count > TOLD {
            writeln!(out, "  and {} more", count - TOLD)?;
        }
        Ok(())
    }

    /// Enters a connection, for whose requests there is no room if it is `refused`; it leaves when the entry is dropped.
    pub(crate) fn enter(self: &Rc<Self>, ends: Arc<Ends>, refused: bool) -> Entry {
        self.insert(ends, refused, false)
    }

    /// Enters a stream of the connection that `of` watches.
    pub(crate) fn enter_stream(self: &Rc<Self>, of: &Watch) -> Entry {
        self.insert(Arc::clone(&of.ends), of.refused, true)
    }

    fn insert(self: &Rc<Self>, ends: Arc<Ends>, refused: bool, part: bool) -> Entry {
        let watch = Rc::new(Watch {
            ends,
            clock: Rc::clone(&self.clock),
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(self.clock.now.get()),
            received: Lag::default(),
            sent: Lag::default(),
            verdict: Cell::new(None),
            shed: Cell::new(false),
            refused,
            part,
            waker: RefCell::new(None),
            line: RefCell::default(),
        });
        if self.slots.borrow().is_empty() {
            // Nobody sweeps over an empty table: its clock goes on from here.
            self.swept.set(Some(Instant::now()));
        }
        let key = self
            .clock
            .changing
            .hold(|| self.slots.borrow_mut().insert(Rc::clone(&watch)));
        Entry {
            connections: Rc::clone(self),
            key,
            watch,
        }
    }
}

/// A connection's place among the others.
#[derive(Debug)]
pub(crate) struct Entry {
    connections: Rc<Connections>,
    key: usize,
    watch: Rc<Watch>,
}

impl Entry {
    pub(crate) fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let connections = &self.connections;
        let watch = connections
            .clock
            .changing
            .hold(|| connections.slots.borrow_mut().try_remove(self.key));
        drop(watch);
    }
}

/// A client's address as the log writes it: without the port, as Gunicorn's `ip=`.
pub(crate) struct Peer<'a>(pub(crate) &'a Address);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Address::Tcp(address) => address.ip().fmt(f),
            Address::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Address::Unix(None) => f.write_str("unix:"),
        }
    }
}
