//! File descriptors that came from elsewhere, and the close-on-exec flag.
#![expect(
    unsafe_code,
    reason = "owning a number that came by environment variable or flag, and taking one"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Owns an inherited descriptor after checking that it is open.
///
/// The caller sees to it that nobody else in this process owns the number: it was named once, by a flag or by
/// `RGUN_FD`, and is taken once, at start.
///
/// # Errors
/// EBADF where it is not open.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only looked at by fcntl, which answers EBADF for a number that is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_GETFD)?;
    // SAFETY: open (just checked) and owned by nobody else in this process (the function's contract).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether `fd` outlives an exec.
///
/// # Errors
/// Those of fcntl(2).
pub(crate) fn keep_on_exec(fd: impl AsFd, keep: bool) -> io::Result<()> {
    let flags = if keep {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// A duplicate whose number is at least `floor`; it closes on exec.
///
/// # Errors
/// EMFILE.
pub(crate) fn duplicate_above(fd: impl AsFd, floor: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(floor))?;
    // SAFETY: the system call has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `number` another name of `fd` that outlives an exec. Whatever had the number is closed: only for a process that is
/// about to exec and uses nothing of what it had.
///
/// # Errors
/// EBADF for a number past the limit.
pub(crate) fn place(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    let old = fd.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; who had `number` does not use it any more (the contract), so nothing is read or written
    // through an owner that believes it to be another file.
    if unsafe { libc::dup2(old, number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
