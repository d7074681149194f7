//! A connection to one of a server's doors, through all that is before its protocol, which can be left off anywhere.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use super::speech::Speech;
use crate::harness::patience;

/// The name that certificates are for.
pub(super) const NAME: &str = "a.example";

/// Where a server listens, and what is spoken there.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// What a proxy sends first.
    pub(super) header: &'static [u8],
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) speech: Speech,
}

/// A client of TLS that trusts this authority and asks for one protocol.
pub(super) fn client(authority: &Path, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority).expect("the authority's file");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

/// A connection, as far as it has come.
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<ClientConnection>,
}

impl Wire {
    /// A socket, and nothing sent.
    pub(super) fn bare(door: &Door) -> Self {
        let socket = TcpStream::connect(door.address).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket");
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&socket, Some(patience())).expect("a socket has timeouts");
        }
        Self { socket, tls: None }
    }

    /// Past the proxy's header, the TLS handshake and what its protocol begins with.
    pub(super) fn open(door: &Door) -> io::Result<Self> {
        let mut wire = Self::bare(door);
        wire.write_all(door.header)?;
        if let Some(mut tls) = greeting(door) {
            while tls.is_handshaking() {
                tls.complete_io(&mut wire.socket)?;
            }
            wire.tls = Some(tls);
        }
        door.speech.begin(&mut wire)?;
        Ok(wire)
    }

    /// Sends, whether the server takes it or not.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.write_all(bytes);
    }

    /// Sends no more; by TLS too.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends it by a reset.
    pub(super) fn reset(self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// The server ends it, in whatever way; what it says before is dropped.
    pub(super) fn is_ended(&mut self) -> bool {
        let mut room = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut room) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

/// The client's side of TLS at a door that has it.
fn greeting(door: &Door) -> Option<ClientConnection> {
    let config = Arc::clone(door.tls.as_ref()?);
    let name = ServerName::try_from(NAME).expect("a name");
    Some(ClientConnection::new(config, name).expect("a client"))
}

/// What a client of TLS says first.
pub(super) fn hello(door: &Door) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    greeting(door)?
        .write_tls(&mut bytes)
        .expect("a Vec takes all");
    Some(bytes)
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).read(room),
            None => self.socket.read(room),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).write(bytes),
            None => self.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).flush(),
            None => self.socket.flush(),
        }
    }
}
