//! accept4(2): a connection that is non-blocking and close-on-exec from its first moment, in one system call.
#![expect(unsafe_code, reason = "accept4 into a socket address")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use socket2::SockAddr;

/// The next connection of a listening socket, and its peer.
///
/// # Errors
/// `WouldBlock` when none waits; EMFILE, ENFILE and the like when there is no room for it; others are the fault of
/// the connection that is gone already.
pub(crate) fn accept(socket: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let init = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: `storage` and `length` are those of a zeroed address that socket2 made, large enough for any family.
        let fd = unsafe { libc::accept4(socket.as_raw_fd(), storage.cast(), length, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: accept4 has just made it, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: on success accept4 has filled in the address and its length.
    unsafe { SockAddr::try_init(init) }
}
