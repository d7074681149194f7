//! TLS, but for connections: certificates and keys from files, which of them a client is shown, who may come in, and the
//! keys of session tickets. The master reads the files, as it may be the only one who can; workers get what they hold.

mod error;
mod files;
mod spec;

#[cfg(feature = "tls")]
mod describe;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod server;
#[cfg(feature = "tls")]
mod sni;
#[cfg(feature = "tls")]
mod suites;
#[cfg(feature = "tls")]
mod tickets;

#[cfg(not(feature = "tls"))]
mod without;

pub(crate) use error::TlsError;
pub(crate) use files::Files;
pub(crate) use spec::{Pair, Spec};

#[cfg(feature = "tls")]
pub(crate) use self::{
    describe::Described,
    server::{Server, check},
    tickets::TicketKeys,
};
#[cfg(not(feature = "tls"))]
pub(crate) use without::{TicketKeys, check};
