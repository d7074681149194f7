//! What the worker is told: orders on the master's channel, whose end of file means that the master died, and signals
//! sent to it directly.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use futures_core::Stream;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use signal_hook_tokio::Signals;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::accept::CALL;
use crate::channel::{Order, Report};

/// What to do next.
#[derive(Debug)]
pub(crate) enum Told {
    /// By the master.
    Order(Order),
    /// To accept from this socket, of the listener of this number, too; there is none where this process has no room for it.
    Adopt(u16, Option<OwnedFd>),
    /// By a signal of the same meaning.
    Signal(Order),
    /// Another worker calls for help with a connection.
    Call,
    /// A signal that means nothing to a worker.
    Nothing(i32),
    /// The master is gone.
    Orphaned,
}

/// One byte to the master. A report that does not fit into the channel's buffer is lost with the master that does not read.
pub(crate) fn tell(channel: &impl AsRawFd, report: Report) {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let _ = send(channel.as_raw_fd(), &[report.byte()], flags);
}

/// Both sources.
pub(crate) struct Control {
    channel: UnixStream,
    signals: Signals,
    closed: bool,
}

impl Control {
    /// Takes the channel and installs the signal handlers. Inside the runtime.
    ///
    /// # Errors
    /// Those of sigaction(2), `epoll_ctl(2)`.
    pub(crate) fn new(channel: OwnedFd) -> io::Result<Self> {
        let channel = UnixStream::from_std(channel.into())?;
        let numbers = [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGHUP,
            Signal::SIGUSR2,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGWINCH,
            CALL,
        ];
        let signals = Signals::new(numbers.map(number))?;
        Ok(Self {
            channel,
            signals,
            closed: false,
        })
    }

    /// Tells the master.
    pub(crate) fn report(&self, report: Report) {
        // Not by the runtime's socket: that one writes only once its readiness is known.
        tell(&self.channel, report);
    }

    /// The number that follows an order to adopt: it came with it, in one piece.
    fn place(&self) -> u16 {
        let mut place = [0; 2];
        // The readiness may be over: it is not asked for.
        let read = crate::os::fds::receive(self.channel.as_fd(), &mut place);
        debug_assert!(matches!(read, Ok((2, None))));
        Order::place(place)
    }

    /// The next thing told. Cancel safe.
    pub(crate) async fn next(&mut self) -> Told {
        loop {
            tokio::select! {
                biased;
                readable = self.channel.readable(), if !self.closed => {
                    let mut byte = [0];
                    let channel = &self.channel;
                    let read = channel.try_io(Interest::READABLE, || {
                        crate::os::fds::receive(channel.as_fd(), &mut byte)
                    });
                    match read {
                        Ok((1.., socket)) => match Order::from_byte(byte[0]) {
                            Some(Order::Adopt) => return Told::Adopt(self.place(), socket),
                            Some(order) => return Told::Order(order),
                            None => {}
                        },
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock && readable.is_ok() => {}
                        Ok((0, _)) | Err(_) => {
                            self.closed = true;
                            return Told::Orphaned;
                        }
                    }
                }
                signal = poll_fn(|cx| std::pin::pin!(&mut self.signals).poll_next(cx)) => {
                    if let Some(signal) = signal {
                        return meaning(signal);
                    }
                }
            }
        }
    }
}

fn meaning(signal: i32) -> Told {
    if signal == number(Signal::SIGTERM) {
        Told::Signal(Order::Drain)
    } else if signal == number(Signal::SIGINT) || signal == number(Signal::SIGQUIT) {
        Told::Signal(Order::Quit)
    } else if signal == number(Signal::SIGUSR1) {
        Told::Signal(Order::Reopen)
    } else if signal == number(CALL) {
        Told::Call
    } else {
        Told::Nothing(signal)
    }
}

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a C-like enum is the number"
)]
const fn number(signal: Signal) -> i32 {
    signal as i32
}
