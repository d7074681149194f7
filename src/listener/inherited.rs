//! Sockets that listen already when this process starts: an old master's, or a socket manager's.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{SockAddr, Socket};

use super::{Bound, Options, Site};
use crate::config::{Address, Bind, Config, Spoken};

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

    /// Takes those that listen where `site` says; `None` where there is none. `fd://N` is matched by its number. Where the
    /// kernel is to choose the port, those of the first port there is.
    pub(crate) fn take(&mut self, site: &Site, options: &Options) -> Option<io::Result<Bound>> {
        let mut port = None;
        let (mine, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<Vec<_>, _>(|socket| match &site.address {
                Address::Fd(number) => socket.as_raw_fd() == *number,
                Address::Tcp { .. } | Address::Unix(_) | Address::Abstract(_) => {
                    socket.local_addr().is_ok_and(|local| {
                        let mine = Bound::serves(&local, &site.address);
                        let its_port = local.as_socket().map(|local| local.port());
                        mine && *port.get_or_insert(its_port) == its_port
                    })
                }
            });
        self.0 = others;
        (!mine.is_empty()).then(|| Bound::adopt(site, mine, options))
    }

    /// Takes every one, each under its own address: a socket manager's word counts for more than the configuration's. What is
    /// spoken there is said by the configuration, for `fd://N` or for the address; for others by the settings for all.
    ///
    /// # Errors
    /// Not a listening stream socket.
    pub(crate) fn take_all(
        &mut self,
        config: &Config,
        options: &Options,
    ) -> io::Result<Vec<Bound>> {
        let options = Options {
            slots: None,
            ..options.clone()
        };
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|socket| {
                let number = Address::Fd(socket.as_raw_fd());
                let site = Site {
                    spoken: spoken(config, &number, &socket.local_addr()?).into(),
                    address: number,
                };
                Bound::adopt(&site, vec![socket], &options)
            })
            .collect()
    }
}

/// What is spoken on a socket manager's socket.
pub(super) fn spoken(config: &Config, number: &Address, local: &SockAddr) -> Spoken {
    let by_number = config.bind.iter().find(|bind| bind.address == *number);
    let bind = by_number.or_else(|| {
        let mut binds = config.bind.iter();
        binds.find(|bind| Bound::serves(local, &bind.address))
    });
    match bind {
        Some(bind) => bind.spoken(config),
        None => Bind::plain(number.clone()).spoken(config),
    }
}
