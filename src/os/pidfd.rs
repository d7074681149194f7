//! A process, held by a descriptor: its end wakes poll(2), and a signal cannot reach another one that got its number.
//! Linux 5.3 (`pidfd_open(2)`).
#![expect(unsafe_code, reason = "two system calls that nix does not have")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A process that was alive when this was made.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// The process with this number.
    ///
    /// # Errors
    /// ESRCH where there is none, ENOSYS on an old kernel.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: takes numbers only and answers with a descriptor, close-on-exec, or -1.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let number = RawFd::try_from(number).map_err(io::Error::other)?;
        // SAFETY: the system call has just made it, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { pid, fd })
    }

    /// Its number.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended; it may still be waiting to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// ESRCH once it has been reaped, EPERM.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = libc::c_int::from(signal_number(signal));
        let none: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: takes numbers and a null pointer, which stands for what kill(2) would fill in.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                number,
                none,
                0,
            )
        };
        if sent == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[expect(clippy::as_conversions, reason = "an enum of small numbers")]
const fn signal_number(signal: Signal) -> u8 {
    signal as u8
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen_and_signals_reach_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let process = Process::open(Pid::from_raw(child.id().try_into().unwrap())).unwrap();
        assert!(!process.has_ended());
        process.signal(Signal::SIGKILL).unwrap();
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        assert!(process.has_ended());
        child.wait().unwrap();
        assert!(process.signal(Signal::SIGTERM).is_err());
        assert!(Process::open(process.pid()).is_err());
    }
}
