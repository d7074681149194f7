//! ABRT: the master has lost patience with this worker. What the worker is doing is written down for the master to log,
//! then it ends.
//!
//! The handler itself may do little (signal-safety(7)): it asks an interpreter, if there is one, to write the report from
//! where its code runs, and arms a timer. If the interpreter does not come to it, the timer's signal finds the handler
//! again, which then writes what it can by itself. Every step that fails leaves what was written before.
#![expect(
    unsafe_code,
    reason = "a signal handler, a POSIX timer and function pointers in statics"
)]

use std::ffi::{c_int, c_void};
use std::fmt;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering::SeqCst};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How long an interpreter has to begin with its report.
const BEGIN: Duration = Duration::from_secs(1);
/// How long it has to finish it.
#[cfg(feature = "python")]
const FINISH: Duration = Duration::from_millis(2500);
/// The whole time that a worker needs to answer ABRT, and a little more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// Takes a signal's number; may be called in a signal handler.
pub(crate) type OnSignal = unsafe extern "C" fn(c_int) -> c_int;
/// The same, without an answer.
type Handler = unsafe extern "C" fn(c_int);
/// Writes down what only the thread that it was made on knows.
pub(crate) type Tell = Box<dyn Fn(&mut dyn fmt::Write)>;

/// Where the report goes.
static REPORT: AtomicI32 = AtomicI32::new(-1);
/// Whose report it is: a process that the app forks has this handler, too.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// [`OnSignal`]: makes the interpreter write the report.
static ASK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// [`Handler`]: writes where the interpreter's threads are, in whatever state it is.
static DUMP: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// The signal that `DUMP` was the handler of.
static DUMP_SIGNAL: AtomicI32 = AtomicI32::new(0);
/// A [`Tell`] that is never freed, and the thread it belongs to.
static TELL: AtomicPtr<Tell> = AtomicPtr::new(ptr::null_mut());
static TELL_THREAD: AtomicI32 = AtomicI32::new(0);
static TOLD: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
static TIMER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// From now on this process, of which this is the main thread, answers ABRT by a report to `report`, and exit code 1. Nothing is told yet but that.
///
/// # Errors
/// Those of `timer_create(2)` and sigaction(2).
pub(crate) fn answer_in(report: OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid sigevent; the fields that matter are set below.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    // To this thread: the kernel would rather give it to the one that is running.
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
    event.sigev_signo = libc::SIGABRT;
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: both pointers are to live locals.
    let made =
        unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    TIMER.store(timer.cast(), SeqCst);
    // Never closed: the handler stays as long as the process.
    REPORT.store(report.into_raw_fd(), SeqCst);
    OWNER.store(nix::unistd::getpid().as_raw(), SeqCst);
    take()
}

/// Takes ABRT (again).
///
/// # Errors
/// Those of sigaction(2).
pub(crate) fn take() -> io::Result<()> {
    // Without SA_RESTART: a system call that waits is to return, so that the interpreter sees that it was asked.
    let handler = SigHandler::SigAction(on_abort);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: `on_abort` does only what signal-safety(7) allows: see there.
    unsafe { sigaction(Signal::SIGABRT, &action) }?;
    Ok(())
}

/// The interpreter writes the report when it is asked by `ask`, which must be safe to call in a signal handler.
#[cfg(feature = "python")]
pub(crate) fn ask_by(ask: OnSignal) {
    #[expect(
        clippy::as_conversions,
        reason = "a function's address has no other form"
    )]
    let ask = ask as *mut c_void;
    // An optimiser that sees the one function ever stored names it in the handler, and the program, which has no
    // interpreter, is no longer linked.
    ASK.store(std::hint::black_box(ask), SeqCst);
}

/// What has become the handler of `signal` can write where the interpreter's threads are. It is taken from the signal, which
/// keeps its default action, and called where there is nothing better.
///
/// # Errors
/// Those of sigaction(2).
#[cfg(feature = "python")]
pub(crate) fn dump_by_handler_of(signal: Signal) -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    let before = unsafe { sigaction(signal, &default) }?;
    if let SigHandler::Handler(handler) = before.handler() {
        #[expect(clippy::as_conversions, reason = "both are the number of the signal")]
        DUMP_SIGNAL.store(signal as c_int, SeqCst);
        #[expect(
            clippy::as_conversions,
            reason = "a function's address has no other form"
        )]
        DUMP.store(handler as *mut c_void, SeqCst);
    }
    Ok(())
}

/// `tell` is a part of the report. It is called once, on this thread, wherever the signal finds it: it must not allocate, and
/// must see by itself whether what it reads is being changed.
pub(crate) fn tell_by(tell: Tell) {
    TELL_THREAD.store(nix::unistd::gettid().as_raw(), SeqCst);
    // Once in the life of a worker.
    TELL.store(Box::into_raw(Box::new(tell)), SeqCst);
}

/// Where reports go.
#[cfg(feature = "python")]
pub(crate) fn report() -> std::os::fd::RawFd {
    REPORT.load(SeqCst)
}

/// The interpreter has begun: writes the part that is not its own.
#[cfg(feature = "python")]
pub(crate) fn begin() {
    arm(FINISH);
    tell();
}

/// Adds to the report.
#[cfg(feature = "python")]
pub(crate) fn write(text: &str) {
    write_bytes(text.as_bytes());
}

/// All is said.
pub(crate) fn end() -> ! {
    super::fork::exit_now(1)
}

extern "C" fn on_abort(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes a valid siginfo_t to a handler that was installed with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    if nix::unistd::getpid().as_raw() != OWNER.load(SeqCst) {
        // What the app forked ends as if this handler were not there, once it returns.
        default_action(signal);
    } else if code == libc::SI_TKILL {
        // abort(3): it ends the process itself when this returns.
        dump();
    } else if code == libc::SI_TIMER {
        last_resort();
    } else if !ASKED.swap(true, SeqCst) {
        let ask = ASK.load(SeqCst);
        if ask.is_null() {
            last_resort();
        }
        arm(BEGIN);
        // SAFETY: stored by `ask_by` from a function of this type.
        let ask = unsafe { std::mem::transmute::<*mut c_void, OnSignal>(ask) };
        // SAFETY: allowed in a signal handler, as who gave it to `ask_by` has promised.
        unsafe { ask(signal) };
    }
    Errno::set_raw(errno);
}

/// The signal comes once more, and nobody handles it.
fn default_action(signal: c_int) {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: takes a number only.
    unsafe { libc::raise(signal) };
}

fn last_resort() -> ! {
    tell();
    dump();
    end()
}

fn tell() {
    let tell = TELL.load(SeqCst);
    let here = nix::unistd::gettid().as_raw();
    if tell.is_null() || here != TELL_THREAD.load(SeqCst) || TOLD.swap(true, SeqCst) {
        return;
    }
    // SAFETY: made by `tell_by` and never freed; this is the thread it belongs to.
    let tell = unsafe { &*tell };
    let mut out = Buffered {
        bytes: [0; 512],
        length: 0,
    };
    tell(&mut out);
    out.flush();
}

/// Writes where the threads of the interpreter are, in whatever state it is.
pub(crate) fn dump() {
    let dump = DUMP.load(SeqCst);
    if dump.is_null() {
        return;
    }
    // SAFETY: stored by `dump_by_handler_of` from a function of this type.
    let dump = unsafe { std::mem::transmute::<*mut c_void, Handler>(dump) };
    // SAFETY: it was a signal handler, and is called with the number that it was one of.
    unsafe { dump(DUMP_SIGNAL.load(SeqCst)) };
}

fn arm(time: Duration) {
    let timer = TIMER.load(SeqCst);
    let value = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(time.subsec_nanos()),
        },
    };
    // SAFETY: `timer` was made by timer_create before the handler was installed and is never deleted; `value` lives
    // through the call; the old value is not asked for.
    unsafe { libc::timer_settime(timer.cast(), 0, &raw const value, ptr::null_mut()) };
}

fn write_bytes(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a live slice; a descriptor that is none fails.
        let written =
            unsafe { libc::write(REPORT.load(SeqCst), bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(_) if Errno::last() == Errno::EINTR => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Gathers small pieces, without memory that is not there yet.
struct Buffered {
    bytes: [u8; 512],
    length: usize,
}

impl Buffered {
    fn flush(&mut self) {
        write_bytes(self.bytes.get(..self.length).unwrap_or_default());
        self.length = 0;
    }
}

impl fmt::Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.length + text.len() > self.bytes.len() {
            self.flush();
        }
        match self.bytes.get_mut(self.length..self.length + text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                self.length += text.len();
            }
            None => write_bytes(text.as_bytes()),
        }
        Ok(())
    }
}
