//! Sockets that listen already when this process starts: an old master's, or a socket manager's.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use socket2::Socket;

use super::{Bound, Options};
use crate::config::Bind;

/// Sockets that another process opened for us, not yet matched with addresses.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<Socket>);

impl Inherited {
    #[cfg(test)]
    pub(super) const fn from_sockets(sockets: Vec<Socket>) -> Self {
        Self(sockets)
    }

    /// Owns the descriptors with these numbers.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn adopt(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let sockets = numbers
            .into_iter()
            .map(|number| Ok(crate::os::fds::adopt(number)?.into()))
            .collect::<io::Result<Vec<Socket>>>()?;
        for socket in &sockets {
            socket.set_cloexec(true)?;
        }
        Ok(Self(sockets))
    }

    /// Leaves them open for another start of this program.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub(crate) fn keep_on_exec(&self) -> io::Result<()> {
        self.0
            .iter()
            .try_for_each(|socket| socket.set_cloexec(false))
    }

    /// Whether there are none (left).
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes those that listen on `bind`; `None` where there is none. `fd://N` is matched by its number.
    pub(crate) fn take(&mut self, bind: &Bind, options: &Options) -> Option<io::Result<Bound>> {
        let (mine, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<Vec<_>, _>(|socket| match bind {
                Bind::Fd(number) => socket.as_raw_fd() == *number,
                Bind::Tcp { .. } | Bind::Unix(_) | Bind::Abstract(_) => socket
                    .local_addr()
                    .is_ok_and(|address| Bound::serves(&address, bind)),
            });
        self.0 = others;
        (!mine.is_empty()).then(|| Bound::adopt(bind, mine, options))
    }

    /// Takes every one, each under its own address: a socket manager's word counts for more than the configuration's.
    ///
    /// # Errors
    /// Not a listening stream socket.
    pub(crate) fn take_all(&mut self, options: &Options) -> io::Result<Vec<Bound>> {
        let options = Options {
            slots: None,
            ..options.clone()
        };
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|socket| {
                let bind = Bind::Fd(socket.as_raw_fd());
                Bound::adopt(&bind, vec![socket], &options)
            })
            .collect()
    }
}
