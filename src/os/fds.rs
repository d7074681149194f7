//! File descriptors that came from elsewhere or go there, and the close-on-exec flag.
#![expect(
    unsafe_code,
    reason = "owning a number that came by environment variable, flag or message, and taking one"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg,
};

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

/// Sends `bytes` with `fd` on a unix stream socket (unix(7), `SCM_RIGHTS`), all or nothing. Does not wait.
///
/// # Errors
/// Those of sendmsg(2); `WouldBlock` where there is no room.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let numbers = [fd.as_raw_fd()];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&numbers)],
        flags,
        None,
    )?;
    Ok(())
}

/// Reads what came on a unix stream socket into `bytes`, and the descriptor that came with it; it is close-on-exec. A
/// read ends behind the bytes that a descriptor came with. Does not wait.
///
/// # Errors
/// Those of recvmsg(2). Where this process had no room for the descriptor there is none.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!(RawFd);
    let mut into = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut into, Some(&mut control), flags)?;
    let mut fd = None;
    // Cut short where there was no room for it.
    for part in message.cmsgs().into_iter().flatten() {
        let ControlMessageOwned::ScmRights(numbers) = part else {
            continue;
        };
        for number in numbers {
            // SAFETY: the kernel has just made it for this process, and nobody else knows it.
            fd = Some(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((message.bytes, fd))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_comes_with_the_bytes_it_was_sent_with() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (passed, other) = UnixStream::pair().unwrap();
        nix::unistd::write(&ours, b"a").unwrap();
        send(ours.as_fd(), b"bcd", passed.as_fd()).unwrap();
        nix::unistd::write(&ours, b"e").unwrap();
        drop((ours, passed));
        let mut byte = [0];
        let (count, fd) = receive(theirs.as_fd(), &mut byte).unwrap();
        assert_eq!((count, byte, fd.is_none()), (1, *b"a", true));
        let (_, fd) = receive(theirs.as_fd(), &mut byte).unwrap();
        assert_eq!(byte, *b"b");
        let mut rest = [0; 8];
        let (count, none) = receive(theirs.as_fd(), &mut rest).unwrap();
        assert!(rest[..count].starts_with(b"cd") && none.is_none());
        let fd = fd.unwrap();
        assert!(fcntl(&fd, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC != 0);
        // It is the same socket.
        nix::unistd::write(&fd, b"x").unwrap();
        nix::unistd::read(&other, &mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
}
