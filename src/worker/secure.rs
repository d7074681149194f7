//! TLS at the listeners of a worker: made at its start of what the master has read, and made anew of what it sends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::time::Instant;

use crate::config::{Config, Spoken};
use crate::error::chain;
use crate::proto::{Handshakes, Port};
use crate::tls::{Files, Server, Spec, TicketKeys, TlsError};

/// One for all listeners that are alike.
pub(super) struct Secure {
    ports: Vec<(Spec, Rc<Port>)>,
    keys: TicketKeys,
    config: Rc<Config>,
}

impl Secure {
    /// TLS for all that is `spoken`.
    ///
    /// # Errors
    /// What keeps it from being served; the master has seen that nothing does.
    pub(super) fn new(
        config: &Rc<Config>,
        spoken: &[Rc<Spoken>],
        files: &Files,
        mut keys: TicketKeys,
    ) -> io::Result<Self> {
        keys.live(config.tls_session_lifetime, Instant::now());
        let handshakes = Handshakes::new(config.tls_handshakes);
        let mut ports: Vec<(Spec, Rc<Port>)> = Vec::new();
        for spec in spoken.iter().filter_map(|spoken| Spec::of(spoken, config)) {
            if ports.iter().any(|(known, _)| *known == spec) {
                continue;
            }
            let server = Server::new(&spec, files, &keys).map_err(|error| unfit(&error))?;
            let ragged = config.suppress_ragged_eofs;
            ports.push((spec, Port::new(server, Rc::clone(&handshakes), ragged)));
        }
        Ok(Self {
            ports,
            keys,
            config: Rc::clone(config),
        })
    }

    /// TLS where this is spoken, if there is any.
    pub(super) fn port(&self, spoken: &Spoken) -> Option<Rc<Port>> {
        let spec = Spec::of(spoken, &self.config)?;
        let (_, port) = self.ports.iter().find(|(known, _)| *known == spec)?;
        Some(Rc::clone(port))
    }

    /// New handshakes have what the master has sent.
    ///
    /// # Errors
    /// It cannot be read, or does not serve: nothing has changed.
    pub(super) fn certify(&self, letter: Option<OwnedFd>) -> io::Result<()> {
        let letter =
            letter.ok_or_else(|| io::Error::other("no descriptor is free for them"))?;
        let letter = File::from(letter);
        let length = usize::try_from(letter.metadata()?.len()).unwrap_or_default();
        let mut bytes = vec![0; length];
        // All workers are sent the same file, and have one position in it.
        letter.read_exact_at(&mut bytes, 0)?;
        let files =
            Files::from_bytes(&bytes).ok_or_else(|| io::Error::other("they are not whole"))?;
        let servers: Result<Vec<_>, _> = self
            .ports
            .iter()
            .map(|(spec, _)| Server::new(spec, &files, &self.keys))
            .collect();
        let servers = servers.map_err(|error| unfit(&error))?;
        for ((_, port), server) in self.ports.iter().zip(servers) {
            port.replace(server);
        }
        Ok(())
    }
}

fn unfit(error: &TlsError) -> io::Error {
    io::Error::other(chain(error))
}
