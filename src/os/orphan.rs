//! The end of a worker whose master died while it cannot look (an app stuck in a loop): the kernel tells it by a
//! signal, and a timer of the kernel's ends it a little later.
#![expect(
    unsafe_code,
    reason = "prctl, a signal handler and a POSIX timer have no safe form"
)]

use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Sent by the kernel when the master dies. Nobody else uses it: its old meaning is a failing power supply.
const DEATH: Signal = Signal::SIGPWR;

/// The timer the handler arms; null until [`leave_when_master_dies`] has made one.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// How long a worker has for its clients once its master is dead, stuck or not.
const GRACE: Duration = Duration::from_millis(450);

/// From now on this process gets SIGKILL 0.45 s after its parent `master` died. A worker whose runtime turns sees the end
/// of file on its channel long before and leaves by itself.
///
/// Call again after privileges were dropped: changing ids clears the request (prctl(2), `PR_SET_PDEATHSIG`).
///
/// # Errors
/// Those of `timer_create(2)`, sigaction(2), prctl(2).
pub(crate) fn leave_when_master_dies(master: i32) -> io::Result<()> {
    if TIMER.load(Ordering::SeqCst).is_null() {
        TIMER.store(timer()?, Ordering::SeqCst);
    }
    let action = SigAction::new(
        SigHandler::Handler(arm),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: `arm` calls only timer_settime, which signal-safety(7) lists.
    unsafe { sigaction(DEATH, &action) }?;
    nix::sys::prctl::set_pdeathsig(DEATH)?;
    if nix::unistd::getppid().as_raw() != master {
        // It died before the request was made.
        arm(libc::SIGPWR);
    }
    Ok(())
}

/// A timer that sends KILL to this process, not yet armed.
fn timer() -> io::Result<*mut libc::c_void> {
    // SAFETY: all-zero is a valid sigevent; the fields that matter are set below.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: both pointers are to live locals.
    if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } != 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(timer.cast())
}

extern "C" fn arm(_: libc::c_int) {
    let timer = TIMER.load(Ordering::SeqCst);
    let value = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: 0,
            tv_nsec: i64::from(GRACE.subsec_nanos()),
        },
    };
    // SAFETY: `timer` was made by timer_create before the handler was installed and is never deleted; `value` lives
    // through the call; the old value is not asked for.
    unsafe { libc::timer_settime(timer.cast(), 0, &raw const value, std::ptr::null_mut()) };
}
