//! Accepting: a permit first, then one connection a turn. One worker is woked for a connection (`os::epoll`); at the
//! cap a worker leaves the listener to the others, and above its fair share it calls the least loaded one.

mod cap;
mod pressure;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::gate::{Attendance, Gate, Permit, Queue, Spare};
use crate::app::{Address, Bell, Ends};
use crate::listener::{Kind, Listener};
use crate::os::epoll::{Epoll, Exclusive};
use crate::os::timer::Timer;
use crate::proto::Stream;
use crate::scoreboard::Row;
use cap::Untold;
use pressure::Pressure;

/// How long a worker above its share waits for the one that it called, looking ever less often.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(6),
    Duration::from_millis(8),
];
/// How long nothing is accepted after the system had no room for a connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);
/// As many connections that serve nobody are closed then, each time.
const NO_ROOM_SHED: usize = 16;
/// The log is told of it at most this often.
const SHORT_TOLD: Duration = Duration::from_secs(10);

/// The most connections that are accepted at a time.
const MOST: usize = 64;

/// The signal by which one worker calls another: ignored by default, so a stray one harms nobody.
pub(crate) const CALL: Signal = Signal::SIGURG;

/// Accepts from one listener for as long as the gate is open.
pub(crate) struct Acceptor {
    fd: AsyncFd<OwnedFd>,
    exclusive: Option<Exclusive>,
    /// Who tells that the listener is readable, if not the runtime.
    rung: Option<Rc<Notify>>,
    kind: Kind,
    shared: bool,
    local: Address,
    gate: Rc<Gate>,
    /// The worker is not done as long as this one is at work.
    _attendance: Attendance,
    /// How many to accept at a time: one more call of accept(2) is dear where connections come one by one, and a busy worker
    /// that accepts one each time it looks at its sockets is slow to see the last of many.
    batch: Cell<usize>,
    /// When it was last said that the system has no room.
    short: Cell<Option<Instant>>,
    /// How long a connection waits at the cap before it is answered with 503; zero is for ever, and nobody goes for it.
    patience: Duration,
    pressure: RefCell<Pressure>,
    untold: RefCell<Untold>,
    /// Made at the start: it is set when there may be no descriptor left.
    timer: Timer,
}

/// Takes a connection over.
pub(crate) trait Take {
    /// Serves it; it ends with the permit.
    fn take(&self, stream: Stream, ends: Ends, permit: Permit);

    /// Answers it with 503; it ends with the spare permit.
    fn refuse(&self, stream: Stream, ends: Ends, spare: Spare);

    /// Ends at most so many connections that serve nobody, to make room; tells how many.
    fn shed(&self, most: usize, now: Instant) -> usize;
}

impl Acceptor {
    /// Registers the listener with the runtime.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn new(
        listener: Listener,
        epoll: Option<Epoll>,
        bell: Option<Bell>,
        gate: Rc<Gate>,
        overload_timeout: Duration,
    ) -> io::Result<Self> {
        let kind = listener.kind();
        let shared = listener.is_shared();
        let fd = listener.into_fd();
        let local = address(&socket2::SockRef::from(&fd).local_addr()?);
        let fd = crate::os::epoll::watch(fd)?;
        let exclusive = match (epoll, &bell) {
            (Some(epoll), Some(bell)) => {
                Exclusive::in_the_name_of(bell.socket, bell.epoll, epoll, fd.get_ref())
            }
            (Some(epoll), None) => Exclusive::replace(epoll, fd.get_ref()),
            (None, _) => Err(io::Error::other(
                "the runtime's epoll cannot be told from others",
            )),
        };
        let exclusive = exclusive
            .inspect_err(|error| tracing::warn!("a connection will wake every worker: {error}"))
            .ok();
        let rung = bell.filter(|_| exclusive.is_some()).map(|bell| bell.rung);
        Ok(Self {
            fd,
            exclusive,
            rung,
            kind,
            shared,
            local,
            _attendance: gate.attend(),
            gate,
            batch: Cell::new(1),
            short: Cell::new(None),
            patience: overload_timeout,
            pressure: RefCell::new(Pressure::new(overload_timeout)),
            untold: RefCell::default(),
            timer: Timer::new()?,
        })
    }

    /// Accepts until the gate closes, and then what waits in the kernel's queue, where nobody else would.
    pub(crate) async fn run(self, to: impl Take) {
        while !self.gate.is_closing() {
            if self.gate.is_full() {
                self.wait_at_the_cap(&to).await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.gate.closed() => break,
                () = self.gate.called() => {
                    self.gate.row().answer_call();
                }
                () = self.readable() => {
                    if self.shared
                        && let Some(least) = self.gate.row().above_fair_share()
                        && self.left_to(least).await
                    {
                        continue;
                    }
                }
            }
            if let Err(error) = self.accept_some(&to)
                && is_shortage(&error)
            {
                self.tell_shortage(&error);
                if !self.patience.is_zero() {
                    to.shed(NO_ROOM_SHED, Instant::now());
                }
                self.away(self.timer.after(NO_ROOM_PAUSE)).await;
            }
        }
        if self.rung.is_some()
            && let Some(exclusive) = &self.exclusive
        {
            // The host's epoll would tell of it for ever.
            let _ = exclusive.leave(self.fd.get_ref().as_fd());
        }
        match self.gate.queue() {
            Some(Queue::Emptied) => self.empty_queue(&to).await,
            Some(Queue::Left) | None => {}
        }
    }

    /// Accepts until nobody waits any more. At the cap, or where the system has no room, it goes on when others have
    /// ended.
    async fn empty_queue(&self, to: &impl Take) {
        loop {
            self.gate.last_room().await;
            match self.accept(to) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if is_shortage(&error) => {
                    self.tell_shortage(&error);
                    self.timer.after(NO_ROOM_PAUSE).await;
                }
                // One that has left already.
                Err(_) => {}
            }
        }
    }

    /// Accepts connections while there are some that are not better left to others: twice as many as the last time if there
    /// were as many then, else one.
    fn accept_some(&self, to: &impl Take) -> io::Result<()> {
        let batch = self.batch.get();
        for accepted in 0..batch {
            if accepted > 0 && self.shared && self.gate.row().above_fair_share().is_some() {
                return Ok(());
            }
            if !self.accept(to)? {
                self.batch.set(1);
                return Ok(());
            }
        }
        self.batch.set(MOST.min(batch * 2));
        Ok(())
    }

    /// Accepts one connection; false when none waits or the cap is reached.
    fn accept(&self, to: &impl Take) -> io::Result<bool> {
        let Some(mut permit) = self.gate.permit() else {
            return Ok(false);
        };
        let Some((stream, ends)) = self.accept_one()? else {
            return Ok(false);
        };
        permit.count();
        if self.gate.is_full() {
            self.pressure.borrow_mut().taken();
        }
        to.take(stream, ends, permit);
        Ok(true)
    }

    /// A connection from the queue; `None` when none waits.
    fn accept_one(&self) -> io::Result<Option<(Stream, Ends)>> {
        let (fd, peer) = match crate::os::accept::accept(self.fd.get_ref().as_fd()) {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.nothing_waits();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let stream = match self.kind {
            Kind::Tcp => Stream::Tcp(TcpStream::from_std(fd.into())?),
            Kind::Unix => Stream::Unix(UnixStream::from_std(fd.into())?),
        };
        let ends = Ends::new(address(&peer), self.local.clone());
        Ok(Some((stream, ends)))
    }

    /// Waits for the listener. An exclusive entry is level-triggered: a connection that is left waiting is told of
    /// again. Tokio's own is not: it stays ready until accepting has found nothing.
    async fn readable(&self) {
        if let Some(rung) = &self.rung {
            return rung.notified().await;
        }
        match self.fd.readable().await {
            Ok(mut guard) if self.exclusive.is_some() => guard.clear_ready(),
            Ok(_) => {}
            Err(error) => {
                // Only at the end of the runtime.
                tracing::debug!("the listener can no longer be watched: {error}");
                std::future::pending::<()>().await;
            }
        }
    }

    /// For Tokio's own entry, the time to forget the readiness: by asking for it and finding nothing.
    fn nothing_waits(&self) {
        if self.exclusive.is_none() {
            let looked = self.fd.try_io(Interest::READABLE, |_| {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            debug_assert!(looked.is_err());
        }
    }

    /// Calls `least` to take the connection that woke this worker; false if it did not come.
    async fn left_to(&self, least: Row) -> bool {
        let before = least.activity();
        let called = least
            .pid()
            .is_some_and(|pid| kill(Pid::from_raw(pid), CALL).is_ok());
        let wait = async {
            for pause in PATIENCE {
                if !called || self.gate.is_closing() {
                    return false;
                }
                self.timer.after(pause).await;
                if least.activity() != before {
                    return true;
                }
            }
            least.suspect();
            false
        };
        self.away(wait).await
    }

    /// Runs `meanwhile` with the listener left to the other workers.
    async fn away<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        let Some(exclusive) = &self.exclusive else {
            return meanwhile.await;
        };
        let socket: BorrowedFd<'_> = self.fd.get_ref().as_fd();
        let left = exclusive.leave(socket);
        let result = meanwhile.await;
        if left.is_ok()
            && let Err(error) = exclusive.join(socket)
        {
            tracing::error!("cannot watch the listener again: {error}");
        }
        result
    }

    fn tell_shortage(&self, error: &io::Error) {
        let now = Instant::now();
        let said = self.short.get();
        if said.is_none_or(|said| now.saturating_duration_since(said) >= SHORT_TOLD) {
            self.short.set(Some(now));
            tracing::error!(
                "cannot accept: {error}; connections wait in the kernel's queue ({} open here)",
                self.gate.open()
            );
        }
    }
}

/// Whether accept(2) failed for want of descriptors or memory, and not because of the connection.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC)
    )
}

fn address(address: &SockAddr) -> Address {
    match address.as_socket() {
        Some(address) => Address::Tcp(address),
        None => Address::Unix(address.as_pathname().map(std::path::Path::to_path_buf)),
    }
}
