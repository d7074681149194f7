//! In the place of TLS where it was not built.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::config::{Config, Spoken};
use crate::proto::Port;
use crate::tls::{Files, TicketKeys};

/// No TLS at all.
pub(super) struct Secure;

impl Secure {
    #[expect(clippy::unnecessary_wraps, reason = "as where there is TLS")]
    pub(super) fn new(
        _: &Rc<Config>,
        _: &[Rc<Spoken>],
        _: &Files,
        _: TicketKeys,
    ) -> io::Result<Self> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "as where there is TLS")]
    pub(super) const fn port(&self, _: &Spoken) -> Option<Rc<Port>> {
        None
    }

    #[expect(clippy::unused_self, reason = "as where there is TLS")]
    pub(super) fn certify(&self, _: Option<OwnedFd>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
