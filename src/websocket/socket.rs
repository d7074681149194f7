//! A session on a stream: reads and writes, keeps the heartbeat of pings, and hands messages to an app that lives on the
//! same thread.
//!
//! Both ways are bounded: while the app does not take its messages nothing is read, and while the client does not read
//! the socket is not [ready](Socket::is_ready) for more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::close::{self, Close};
use super::receive::Kind;
use super::session::{Event, Session};

/// Bytes read at a time, at most.
const SCRATCH: usize = 16 * 1024;
/// The app's messages wait for the client while so many bytes are not sent yet.
const BACKLOG: usize = 64 * 1024;
/// Nothing is read while the app has so many bytes of messages to take,
const MOST_BYTES: usize = 64 * 1024;
/// or so many messages.
const MOST_MESSAGES: usize = 64;
/// How long a client has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// Reads complete at once, so one buffer serves all connections of a worker.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// When a client is asked for a sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Between pings; zero is never.
    pub interval: Duration,
    /// From a ping to a sign of life, any bytes; zero is for ever.
    pub timeout: Duration,
}

/// The app's side of a socket: told, not asked, and within the serving task.
pub trait Listener {
    /// There is a message, or the end.
    fn heard(&self);

    /// The socket is [ready](Socket::is_ready) for more.
    fn relieved(&self);
}

/// A WebSocket, as the app and the task that [serves](Self::serve) it share it.
///
/// After the app has sent, or closed, the [serving task](Self::task) is to be woken; after it has taken a message, if
/// that is [waited for](Self::paused_task).
pub struct Socket {
    session: RefCell<Session>,
    /// Messages for the app.
    inbox: RefCell<VecDeque<(Kind, Vec<u8>)>>,
    /// Their bytes.
    waiting: Cell<usize>,
    /// How it ended, once it has: the app is told when it has taken all messages.
    end: RefCell<Option<Close>>,
    /// Of the serving task.
    task: RefCell<Option<Waker>>,
    /// The app waits for the client to read.
    crowded: Cell<bool>,
    /// The client waits for the app to take its messages.
    paused: Cell<bool>,
    listener: Weak<dyn Listener>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("session", &self.session)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Around a session that is open, for an app that listens by `listener`.
    #[must_use]
    pub fn new(session: Session, listener: Weak<dyn Listener>) -> Self {
        Self {
            session: RefCell::new(session),
            inbox: RefCell::default(),
            waiting: Cell::new(0),
            end: RefCell::default(),
            task: RefCell::default(),
            crowded: Cell::new(false),
            paused: Cell::new(false),
            listener,
        }
    }

    /// The serving task, if it is to be woken.
    #[must_use]
    pub fn task(&self) -> Option<Waker> {
        self.task.borrow_mut().take()
    }

    /// The serving task, if it waits for the app to take messages and enough are taken.
    #[must_use]
    pub fn paused_task(&self) -> Option<Waker> {
        if !self.paused.get() || self.is_full() {
            return None;
        }
        self.paused.set(false);
        self.task()
    }

    /// The next message, if it is here.
    pub fn take_message(&self) -> Option<(Kind, Vec<u8>)> {
        let mut inbox = self.inbox.borrow_mut();
        let (kind, data) = inbox.pop_front()?;
        self.waiting.set(self.waiting.get() - data.len());
        if inbox.is_empty() {
            *inbox = VecDeque::new();
        }
        Some((kind, data))
    }

    /// How the connection ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<Close> {
        self.end.borrow().clone()
    }

    /// Sends a message; nothing if the connection has ended or is about to.
    pub fn send(&self, kind: Kind, data: &[u8]) {
        self.session.borrow_mut().send(kind, data);
    }

    /// There is room to send more: the client has read enough, or reads no more. If not, the listener is told when there
    /// is.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready =
            self.end.borrow().is_some() || self.session.borrow().output().len() < BACKLOG;
        self.crowded.set(!ready);
        ready
    }

    /// Messages can be sent: neither side has closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.borrow().is_open()
    }

    /// Nobody will serve it.
    pub fn abandon(&self) {
        self.ended(Close::bare(close::ABNORMAL));
    }

    /// Begins to close; the client has a while to answer.
    pub fn close(&self, close: &Close) {
        self.session.borrow_mut().close(close);
    }

    fn is_full(&self) -> bool {
        self.waiting.get() >= MOST_BYTES || self.inbox.borrow().len() >= MOST_MESSAGES
    }

    fn ended(&self, close: Close) {
        self.end.borrow_mut().get_or_insert(close);
        if let Some(listener) = self.listener.upgrade() {
            listener.heard();
            listener.relieved();
        }
    }

    /// Reads and writes until the connection has ended. When `drain` resolves the client is told what it says (to come again,
    /// or that the server goes away), and the app that the client has left for that reason.
    ///
    /// *Cancel safety*: dropping the future cuts the connection; the app is not told.
    pub fn serve<T, D>(&self, stream: T, heartbeat: Heartbeat, drain: D) -> Serve<'_, T, D>
    where
        T: AsyncRead + AsyncWrite + Unpin,
        D: Future<Output = Close>,
    {
        let serving = Serving {
            socket: self,
            stream,
            held: Vec::new(),
            looked: 0,
            pulse: Pulse::new(heartbeat),
            done: false,
        };
        Serve {
            serving,
            drain,
            stage: Stage::Open,
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client was told of the drain.
    Drained,
    /// All is said.
    Over,
}

pin_project! {
    /// A connection being served: [`Socket::serve`]. By hand, as there are many that idle: an `async` function holds what it was
    /// given twice.
    #[must_use = "futures do nothing unless polled"]
    pub struct Serve<'a, T, D> {
        serving: Serving<'a, T>,
        #[pin]
        drain: D,
        stage: Stage,
    }
}

impl<T, D> Future for Serve<'_, T, D>
where
    T: AsyncRead + AsyncWrite + Unpin,
    D: Future<Output = Close>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let socket = this.serving.socket;
        if *this.stage == Stage::Open
            && let Poll::Ready(close) = this.drain.poll(cx)
        {
            *this.stage = Stage::Drained;
            socket.session.borrow_mut().close(&close);
            socket.ended(close);
        }
        if *this.stage != Stage::Over {
            let outcome = ready!(this.serving.turn(cx));
            if socket.end.borrow().is_none() {
                socket.ended(Close::bare(close::ABNORMAL));
            }
            if let Err(error) = outcome {
                tracing::debug!("WebSocket ended: {error}");
                return Poll::Ready(());
            }
            *this.stage = Stage::Over;
        }
        // The client may have left already.
        Pin::new(&mut this.serving.stream)
            .poll_shutdown(cx)
            .map(drop)
    }
}

/// The serving task's own state.
struct Serving<'a, T> {
    socket: &'a Socket,
    stream: T,
    /// What was read behind a message.
    held: Vec<u8>,
    /// The session has seen those before this.
    looked: usize,
    pulse: Pulse,
    /// All that is to be received was.
    done: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Serving<'_, T> {
    /// Does what can be done; `Ready` at the end.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.socket.task.borrow_mut() = Some(cx.waker().clone());
        let (reading, flushed) = loop {
            // First, as what is not sent yet keeps from reading.
            let flushed = self.flush(cx)?;
            let reading = self.receive(cx)?;
            // What came may have been answered.
            if flushed.is_pending() || self.socket.session.borrow().output().is_empty() {
                break (reading, flushed);
            }
        };
        if self.done && flushed.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let closing = self.done || !self.socket.session.borrow().is_open();
        match ready!(self.pulse.poll(cx, closing, reading)) {
            Beat::Ask => {
                self.socket.session.borrow_mut().ping();
                // The timer and the ping are both polled once more.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Beat::Dead => {
                let reason = "keepalive ping timeout".to_owned();
                let code = close::ABNORMAL;
                self.socket.ended(Close { code, reason });
                let code = close::INTERNAL_ERROR;
                self.socket.session.borrow_mut().close(&Close::bare(code));
                let _ = self.flush(cx)?;
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Beat::Unanswered => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Takes what comes; false if that was put off, because the app or the client is behind.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.done {
            let behind = {
                let session = self.socket.session.borrow();
                // After our close messages are dropped, so there is always room.
                session.output().len() >= BACKLOG
                    || (session.is_open() && self.socket.is_full())
            };
            self.socket.paused.set(behind);
            if behind {
                return Ok(false);
            }
            let event = match self.event(cx) {
                Poll::Ready(event) => event?,
                Poll::Pending => break,
            };
            match event {
                Event::Message(kind, data) => {
                    self.socket
                        .waiting
                        .set(self.socket.waiting.get() + data.len());
                    self.socket.inbox.borrow_mut().push_back((kind, data));
                    if let Some(listener) = self.socket.listener.upgrade() {
                        listener.heard();
                    }
                }
                Event::Closed(close) | Event::Broken(close) => {
                    self.done = true;
                    self.socket.ended(close);
                }
            }
        }
        Ok(true)
    }

    fn event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let session = &self.socket.session;
        loop {
            if self.looked < self.held.len() {
                let mut bytes = self.held.get(self.looked..).unwrap_or_default();
                let event = session.borrow_mut().receive(&mut bytes);
                self.looked = self.held.len() - bytes.len();
                if let Some(event) = event {
                    return Poll::Ready(Ok(event));
                }
            }
            self.held = Vec::new();
            self.looked = 0;
            let event = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                let mut bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                self.pulse.heard = true;
                let event = session.borrow_mut().receive(&mut bytes);
                self.held.extend_from_slice(bytes);
                Poll::Ready(Ok(event))
            });
            if let Some(event) = ready!(event)? {
                return Poll::Ready(Ok(event));
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut session = self.socket.session.borrow_mut();
        let mut flushed = Poll::Ready(());
        while !session.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, session.output()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(result) => session.wrote(result?),
                Poll::Pending => {
                    flushed = Poll::Pending;
                    break;
                }
            }
        }
        drop(session);
        // What a stream keeps of it, as TLS may.
        if flushed.is_ready() {
            flushed = Pin::new(&mut self.stream).poll_flush(cx)?;
        }
        if self.socket.crowded.get()
            && self.socket.is_ready()
            && let Some(listener) = self.socket.listener.upgrade()
        {
            listener.relieved();
        }
        Ok(flushed)
    }
}

/// What the time asks for.
enum Beat {
    /// A ping is due.
    Ask,
    /// The client gave no sign of life.
    Dead,
    /// The client did not answer our close.
    Unanswered,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The time of the next ping.
    Ping,
    /// A sign of life.
    Life,
    /// The answer to our close.
    Answer,
}

/// One timer for all of a connection's deadlines. It is set again only when it has gone off, never for bytes that come.
struct Pulse {
    heartbeat: Heartbeat,
    sleep: Option<Pin<Box<Sleep>>>,
    wait: Wait,
    /// Something came since the last ping.
    heard: bool,
}

impl Pulse {
    fn new(heartbeat: Heartbeat) -> Self {
        let mut pulse = Self {
            heartbeat,
            sleep: None,
            wait: Wait::Ping,
            heard: true,
        };
        pulse.sleep_for(Wait::Ping, heartbeat.interval);
        pulse
    }

    fn sleep_for(&mut self, wait: Wait, time: Duration) {
        self.wait = wait;
        self.sleep = (!time.is_zero()).then(|| Box::pin(sleep_until(Instant::now() + time)));
    }

    /// Waits for the next beat. A client that is not read from cannot give a sign of life, and need not.
    fn poll(&mut self, cx: &mut Context<'_>, closing: bool, reading: bool) -> Poll<Beat> {
        if closing && self.wait != Wait::Answer {
            self.sleep_for(Wait::Answer, CLOSE_TIMEOUT);
        }
        let Heartbeat { interval, timeout } = self.heartbeat;
        loop {
            let Some(sleep) = &mut self.sleep else {
                return Poll::Pending;
            };
            ready!(sleep.as_mut().poll(cx));
            match self.wait {
                Wait::Answer => return Poll::Ready(Beat::Unanswered),
                Wait::Life if !self.heard && reading => return Poll::Ready(Beat::Dead),
                Wait::Life if interval > timeout => {
                    self.sleep_for(Wait::Ping, interval.saturating_sub(timeout));
                }
                Wait::Life | Wait::Ping => {
                    self.heard = false;
                    if timeout.is_zero() {
                        self.sleep_for(Wait::Ping, interval);
                    } else {
                        self.sleep_for(Wait::Life, timeout);
                    }
                    return Poll::Ready(Beat::Ask);
                }
            }
        }
    }
}
