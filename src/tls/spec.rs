//! What TLS is to be at one listener, by the configuration.

use std::path::{Path, PathBuf};

use super::error::Role;
use crate::config::{CipherList, ClientCert, TlsVersion};

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The file of the chain.
    pub(crate) cert: PathBuf,
    /// That of the key; it may be the same.
    pub(crate) key: PathBuf,
}

/// TLS at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The first is for clients that name none of the others.
    pub(crate) pairs: Vec<Pair>,
    /// Who signs client certificates.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether clients have to have one.
    pub(crate) client_cert: ClientCert,
    /// Nothing older is spoken.
    pub(crate) min_version: TlsVersion,
    /// Of TLS 1.2; without it all that are good.
    pub(crate) ciphers: Option<CipherList>,
    /// What may be spoken within, the best first; empty where it is not negotiated.
    pub(crate) protocols: Vec<Vec<u8>>,
}

impl Spec {
    /// The files that are needed.
    pub(crate) fn files(&self) -> impl Iterator<Item = (Role, &Path)> {
        let pairs = self.pairs.iter().flat_map(|pair| {
            [
                (Role::Certificate, pair.cert.as_path()),
                (Role::Key, pair.key.as_path()),
            ]
        });
        let client_ca = self
            .client_ca
            .as_deref()
            .filter(|_| self.client_cert != ClientCert::Off);
        pairs.chain(client_ca.map(|path| (Role::ClientCa, path)))
    }
}
