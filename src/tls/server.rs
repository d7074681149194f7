//! TLS of one listener, made of files.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ring::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::describe::Described;
use super::error::{Role, TlsError};
use super::sni::Names;
use super::tickets::TicketKeys;
use super::{Files, Pair, Spec, pem, suites};
use crate::config::{ClientCert, TlsVersion};

/// TLS of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    config: Arc<ServerConfig>,
    names: Arc<Names>,
}

impl Server {
    /// Of what `spec` says and `files` hold, with tickets by `keys`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn new(spec: &Spec, files: &Files, keys: &TicketKeys) -> Result<Self, TlsError> {
        let made = Made::of(spec, files)?;
        let mut config = made.config;
        config.ticketer = Arc::new(keys.ticketer(kind(spec, files)));
        Ok(Self {
            config: Arc::new(config),
            names: made.names,
        })
    }

    /// For the library.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The certificate that a client is shown who asks for `name`.
    pub(crate) fn shown(&self, name: Option<&str>) -> Option<&CertificateDer<'static>> {
        self.names.shown(name)
    }
}

/// Whether TLS can be served by each of `specs` with what `files` hold; tells what is doubtful about them.
///
/// # Errors
/// All that are wrong, each with the first thing that is.
pub(crate) fn check(specs: &[Spec], files: &Files) -> Result<Vec<String>, Vec<TlsError>> {
    let mut notes: Vec<String> = Vec::new();
    let mut errors: Vec<TlsError> = Vec::new();
    for spec in specs {
        match Made::of(spec, files) {
            Ok(made) => notes.extend(made.notes),
            Err(error) => errors.push(error),
        }
    }
    notes.sort_unstable();
    notes.dedup();
    errors.dedup_by_key(|error| error.to_string());
    if errors.is_empty() {
        Ok(notes)
    } else {
        Err(errors)
    }
}

struct Made {
    config: ServerConfig,
    names: Arc<Names>,
    notes: Vec<String>,
}

impl Made {
    fn of(spec: &Spec, files: &Files) -> Result<Self, TlsError> {
        let provider = suites::provider(spec.ciphers.as_ref());
        let mut names = Names::default();
        let mut notes = Vec::new();
        for pair in &spec.pairs {
            let certificate = certificate(pair, files, &provider)?;
            let leaf = certificate.cert.first();
            if let Some(problem) = leaf
                .and_then(|leaf| Described::of(leaf))
                .and_then(|leaf| leaf.problem(SystemTime::now()))
            {
                notes.push(note(pair, problem));
            }
            let of = dns_names(leaf);
            if of.is_empty() && spec.pairs.len() > 1 {
                notes.push(note(
                    pair,
                    "it has no DNS name, so no client can ask for it",
                ));
            }
            names.add(Arc::new(certificate), &of);
        }
        if spec.pairs.is_empty() {
            return Err(TlsError::Unfit("there is no certificate".to_owned()));
        }
        let versions: &[_] = match spec.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let names = Arc::new(names);
        let resolver: Arc<dyn ResolvesServerCert> = names.clone();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Unfit(error.to_string()))?
            .with_client_cert_verifier(verifier(spec, files, provider)?)
            .with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&spec.protocols);
        // Sessions are in tickets, which all workers can open.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config,
            names,
            notes,
        })
    }
}

fn note(pair: &Pair, problem: impl Into<String>) -> String {
    TlsError::unusable(Role::Certificate, &pair.cert, problem).to_string()
}

fn certificate(
    pair: &Pair,
    files: &Files,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = pem::certificates(Role::Certificate, &pair.cert, files.get(&pair.cert))?;
    let key = pem::private_key(&pair.key, files.get(&pair.key))?;
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            TlsError::unusable(
                Role::Key,
                &pair.key,
                format!("it cannot be used: {error}; RSA keys of 2048 to 8192 bits, P-256, P-384 and Ed25519 can"),
            )
        })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(mismatch(pair, &certified)),
        Err(error) => Err(TlsError::unusable(
            Role::Certificate,
            &pair.cert,
            format!("its first certificate cannot be read: {error}"),
        )),
    }
}

/// The key is not the certificate's: why, as far as that can be seen.
fn mismatch(pair: &Pair, certified: &CertifiedKey) -> TlsError {
    let later = certified.cert.iter().skip(1).any(|other| {
        let other = CertifiedKey::new(vec![other.clone()], Arc::clone(&certified.key));
        other.keys_match().is_ok()
    });
    if later {
        return TlsError::unusable(
            Role::Certificate,
            &pair.cert,
            "the server's own certificate must come first, before those that signed it",
        );
    }
    TlsError::unusable(
        Role::Key,
        &pair.key,
        format!(
            "it does not belong to the (first) certificate of {}",
            pair.cert.display()
        ),
    )
}

/// The names in a certificate (RFC 9525: the common name does not count).
fn dns_names(certificate: Option<&CertificateDer<'_>>) -> Vec<String> {
    certificate
        .and_then(|certificate| webpki::EndEntityCert::try_from(certificate).ok())
        .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn verifier(
    spec: &Spec,
    files: &Files,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let required = match spec.client_cert {
        ClientCert::Off => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCert::Optional => false,
        ClientCert::Required => true,
    };
    let Some(path) = &spec.client_ca else {
        return Err(TlsError::Unfit(
            "client certificates are asked for, and no file of authorities to check them by is named"
                .to_owned(),
        ));
    };
    let mut roots = RootCertStore::empty();
    for (place, authority) in authorities(path, files)?.into_iter().enumerate() {
        roots.add(authority).map_err(|error| {
            let place = place + 1;
            TlsError::unusable(
                Role::ClientCa,
                path,
                format!("certificate {place} of it cannot be an authority's: {error}"),
            )
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder
        .build()
        .map_err(|error| TlsError::unusable(Role::ClientCa, path, error.to_string()))
}

fn authorities(path: &Path, files: &Files) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(Role::ClientCa, path, files.get(path))
}

/// Listeners that let in the same clients to the same names: a session that one began another resumes. What is renewed in
/// its place changes nothing; another client CA does.
fn kind(spec: &Spec, files: &Files) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut put = |part: &[u8]| {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    };
    put(spec.client_cert.to_string().as_bytes());
    put(spec.min_version.to_string().as_bytes());
    for pair in &spec.pairs {
        put(pair.cert.as_os_str().as_encoded_bytes());
    }
    if let Some(path) = &spec.client_ca
        && spec.client_cert != ClientCert::Off
    {
        put(files.get(path));
    }
    let mut kind = [0; 32];
    kind.copy_from_slice(context.finish().as_ref());
    kind
}

#[cfg(test)]
mod tests;
