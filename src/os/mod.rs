//! The system calls that need `unsafe`, each behind a function that does not: this room and the Python one are the
//! only places where it compiles. File descriptors come and go as [`OwnedFd`](std::os::fd::OwnedFd) or
//! [`BorrowedFd`](std::os::fd::BorrowedFd).

pub(crate) mod abort;
pub(crate) mod accept;
#[cfg(feature = "static")]
pub(crate) mod below;
pub(crate) mod child;
pub(crate) mod datagram;
pub(crate) mod epoll;
pub(crate) mod fds;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod mmap;
pub(crate) mod orphan;
pub(crate) mod pidfd;
pub(crate) mod privilege;
pub(crate) mod process;
pub(crate) mod resident;
pub(crate) mod signal;
pub(crate) mod timer;
