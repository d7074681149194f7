//! Datagrams between processes of one machine (unix(7)): sent without ever waiting, received with the sender's identity.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use nix::unistd::{Pid, Uid};

/// Who sent a datagram, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) pid: Pid,
    pub(crate) uid: Uid,
}

/// Sends `text` to `address`, or drops it where nobody listens or the receiver's queue is full.
///
/// # Errors
/// Those of socket(2), connect(2), send(2).
pub(crate) fn send(address: &SocketAddr, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(address)?;
    socket.send(text.as_bytes())?;
    Ok(())
}

/// The abstract name (unix(7)).
///
/// # Errors
/// It is too long.
pub(crate) fn abstract_name(name: impl AsRef<[u8]>) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}

/// A place where datagrams come in.
#[derive(Debug)]
pub(crate) struct Inbox(UnixDatagram);

impl Inbox {
    /// Opens it at `address`.
    ///
    /// # Errors
    /// EADDRINUSE where somebody else has it.
    pub(crate) fn open(address: &SocketAddr) -> io::Result<Self> {
        let socket = UnixDatagram::bind_addr(address)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self(socket))
    }

    /// The next one, if any has come. One whose sender the kernel does not name is dropped.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub(crate) fn next(&self) -> io::Result<Option<(String, Sender)>> {
        loop {
            let mut bytes = [0; 4096];
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let mut space = nix::cmsg_space!(UnixCredentials);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let received =
                recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags);
            let (length, sender) = match received {
                Ok(message) => {
                    let sender = message.cmsgs()?.find_map(|part| sender(&part));
                    (message.bytes, sender)
                }
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let (Some(text), Some(sender)) = (bytes.get(..length), sender) {
                return Ok(Some((String::from_utf8_lossy(text).into_owned(), sender)));
            }
        }
    }
}

fn sender(message: &ControlMessageOwned) -> Option<Sender> {
    let ControlMessageOwned::ScmCredentials(credentials) = message else {
        return None;
    };
    Some(Sender {
        pid: Pid::from_raw(credentials.pid()),
        uid: Uid::from_raw(credentials.uid()),
    })
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_with_its_senders_identity_and_none_waits_for_a_receiver() {
        let name = format!("rgun-async-test-datagram-{}", std::process::id());
        let address = abstract_name(&name).unwrap();
        assert!(send(&address, "nobody").is_err());
        let inbox = Inbox::open(&address).unwrap();
        assert!(Inbox::open(&address).is_err(), "one receiver a name");
        send(&address, "hello").unwrap();
        let (text, sender) = inbox.next().unwrap().unwrap();
        assert_eq!(text, "hello");
        assert_eq!(sender.pid, nix::unistd::getpid());
        assert_eq!(sender.uid, nix::unistd::getuid());
        assert!(inbox.next().unwrap().is_none());
        // A receiver that does not read holds nobody up.
        while send(&address, "more").is_ok() {}
    }
}
