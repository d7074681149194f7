//! Signals: blocked and read from a descriptor in the master, reset in a child.
#![expect(unsafe_code, reason = "sigaction has no safe form")]

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the master listens to.
const MASTER: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];

/// Signals that mean something to a worker only once it can handle them; until then they must not end (HUP, USR1,
/// USR2) or stop (TTIN, TTOU) it.
const IGNORED_WHILE_BOOTING: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
];

/// The master's signals, blocked for as long as the process lives and read one at a time.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks them and opens the descriptor. Nothing sent from now on is lost, not even before the first read.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub(crate) fn block() -> io::Result<Self> {
        let set: SigSet = MASTER.into_iter().collect();
        let before = SigSet::thread_get_mask()?;
        set.thread_block()?;
        MAIN.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
        for signal in MASTER {
            forward_from_other_threads(signal)?;
        }
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, before })
    }

    /// The next one that has come, if any, and who sent it.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn next(&self) -> io::Result<Option<Signal>> {
        loop {
            match self.fd.read_signal() {
                Ok(Some(info)) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                    if let Ok(signal) = Signal::try_from(number) {
                        return Ok(Some(signal));
                    }
                }
                Ok(None) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The mask as it was before [`block`](Self::block): for a child, and for whatever is exec'ed.
    ///
    /// # Errors
    /// Those of sigprocmask(2).
    pub(crate) fn restore_mask(&self) -> io::Result<()> {
        Ok(self.before.thread_set_mask()?)
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// First thing in the process: TERM ends it with exit code 0, as later the master's does. There is nothing to clean up
/// before [`Signals::block`] takes over.
///
/// # Errors
/// Those of sigaction(2), sigprocmask(2).
pub(crate) fn leave_on_term() -> io::Result<()> {
    let handler = SigHandler::Handler(leave);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `leave` calls only _exit, which signal-safety(7) lists.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    Ok(SigSet::from(Signal::SIGTERM).thread_unblock()?)
}

/// Keeps a TERM for the program that this process is about to become, which is this one again: handlers do not outlive an
/// exec, the mask does.
///
/// # Errors
/// Those of sigprocmask(2).
pub(crate) fn keep_term_for_exec() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGTERM).thread_block()?)
}

extern "C" fn leave(_: libc::c_int) {
    // SAFETY: it does not come back, and runs no handler.
    unsafe { libc::_exit(0) }
}

/// In a worker, first thing: the master's (or an interpreter's) handlers go, and what the worker cannot handle yet
/// is ignored. TERM, INT and QUIT end a worker that is still booting: it serves nobody.
///
/// # Errors
/// Those of sigaction(2).
pub(crate) fn reset_for_worker() -> io::Result<()> {
    for signal in MASTER.into_iter().chain([Signal::SIGABRT, Signal::SIGALRM]) {
        set(signal, SigHandler::SigDfl)?;
    }
    for signal in IGNORED_WHILE_BOOTING {
        set(signal, SigHandler::SigIgn)?;
    }
    set(Signal::SIGPIPE, SigHandler::SigIgn)
}

/// The thread that reads the descriptor.
static MAIN: AtomicI32 = AtomicI32::new(0);

/// A thread that an app has started in the master has signals of its own blocked, not ours: one that the kernel gives to
/// it is sent on.
fn forward_from_other_threads(signal: Signal) -> io::Result<()> {
    let handler = SigHandler::Handler(forward);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `forward` calls only getpid and tgkill, which are system calls, and leaves errno as it was.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

extern "C" fn forward(signal: libc::c_int) {
    let errno = nix::errno::Errno::last_raw();
    let main = MAIN.load(Ordering::Relaxed);
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: takes numbers only; the thread, which has the signal blocked, is this process's main one.
    unsafe { libc::syscall(libc::SYS_tgkill, process, main, signal) };
    nix::errno::Errno::set_raw(errno);
}

fn set(signal: Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: SIG_DFL and SIG_IGN run no code of ours.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}
