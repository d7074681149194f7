//! What TLS is to be at one listener, by the configuration.

use std::path::{Path, PathBuf};

use super::error::Role;
use crate::config::{
    Address, Bind, CipherList, ClientCert, Config, HttpProtocol, Speaks, Spoken, TlsOptions,
    TlsVersion,
};

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
    /// TLS at a listener where this is spoken; `None` where there is none.
    pub(crate) fn of(spoken: &Spoken, config: &Config) -> Option<Self> {
        let tls = spoken.tls.as_ref()?;
        let TlsOptions {
            client_ca,
            client_cert,
            min_version,
            ..
        } = tls.clone();
        let pair = |(cert, key): (&PathBuf, &PathBuf)| Pair {
            cert: cert.clone(),
            key: key.clone(),
        };
        Some(Self {
            pairs: tls.pairs().map(pair).collect(),
            client_ca,
            client_cert: client_cert.unwrap_or(config.cert_reqs),
            min_version: min_version.unwrap_or(config.tls_min_version),
            ciphers: config.ciphers.clone(),
            protocols: protocols(&spoken.speaks, config),
        })
    }

    /// Every one of a configuration, also of sockets that came from a socket manager.
    pub(crate) fn all(config: &Config) -> Vec<Self> {
        let binds = config.bind.iter().map(|bind| bind.spoken(config));
        let plain = Bind::plain(Address::Fd(0)).spoken(config);
        let mut all: Vec<Self> = Vec::new();
        for spoken in binds.chain([plain]) {
            if let Some(spec) = Self::of(&spoken, config)
                && !all.contains(&spec)
            {
                all.push(spec);
            }
        }
        all
    }

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

/// What a client may choose from (RFC 7301): where it names others only, there is no connection.
fn protocols(speaks: &Speaks, config: &Config) -> Vec<Vec<u8>> {
    let name = |protocol: &HttpProtocol| match protocol {
        HttpProtocol::Http1 => b"http/1.1".to_vec(),
        HttpProtocol::Http2 => b"h2".to_vec(),
    };
    match speaks {
        Speaks::Http => {
            let mut names: Vec<_> = config.http_protocols.iter().map(name).collect();
            // Whoever does not choose HTTP/2 is served all the same.
            if !config.http_protocols.contains(&HttpProtocol::Http1) {
                names.push(name(&HttpProtocol::Http1));
            }
            names.push(b"http/1.0".to_vec());
            names
        }
        // Without a name that clients would know.
        Speaks::Uwsgi | Speaks::Tcp(_) => Vec::new(),
    }
}
