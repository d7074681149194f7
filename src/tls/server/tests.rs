//! TLS made of files that are right, and of all that people get wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A directory with an authority and certificates that it has signed.
struct Shop {
    directory: tempfile::TempDir,
    authority: Issuer,
}

fn authority(name: &str) -> Issuer {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

impl Shop {
    fn new() -> Self {
        let shop = Self {
            directory: tempfile::tempdir().unwrap(),
            authority: authority("test authority"),
        };
        shop.write("ca.pem", &shop.authority.pem());
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A certificate for `name` in `FILE.pem`, with its chain, and its key in `FILE.key`.
    fn issue(&self, file: &str, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.authority).unwrap();
        let chain = format!("{}{}", certificate.pem(), self.authority.pem());
        self.write(&format!("{file}.pem"), &chain);
        self.write(&format!("{file}.key"), &key.serialize_pem());
        (certificate.der().clone(), key)
    }

    fn spec(&self, files: &[&str]) -> Spec {
        let pair = |file: &&str| Pair {
            cert: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        Spec {
            pairs: files.iter().map(pair).collect(),
            client_ca: None,
            client_cert: ClientCert::Off,
            min_version: TlsVersion::V12,
            ciphers: None,
            protocols: vec![b"http/1.1".to_vec()],
        }
    }

    fn check(spec: &Spec) -> Result<Vec<String>, String> {
        let specs = std::slice::from_ref(spec);
        let told = |errors: Vec<TlsError>| {
            let errors: Vec<_> = errors
                .iter()
                .map(|error| crate::error::chain(error))
                .collect();
            errors.join("; ")
        };
        let files = Files::read(specs).map_err(told)?;
        check(specs, &files).map_err(told)
    }

    fn server(spec: &Spec, keys: &TicketKeys) -> Server {
        let files = Files::read([spec]).unwrap();
        Server::new(spec, &files, keys).unwrap()
    }

    fn client(&self, own: Option<(CertificateDer<'static>, KeyPair)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![certificate],
                    key.serialize_der().try_into().unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        })
    }
}

fn keys() -> TicketKeys {
    TicketKeys::new(Duration::from_secs(1000), Instant::now()).unwrap()
}

/// A handshake, and a byte each way.
fn meet(
    server: &Server,
    client: &Arc<ClientConfig>,
    name: &'static str,
) -> Result<(ServerConnection, ClientConnection), Error> {
    let mut server = ServerConnection::new(server.config()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    client.writer().write_all(b"c").unwrap();
    server.writer().write_all(b"s").unwrap();
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    let mut byte = [0];
    server.reader().read_exact(&mut byte).unwrap();
    client.reader().read_exact(&mut byte).unwrap();
    Ok((server, client))
}

#[test]
fn a_chain_and_its_key_serve() {
    let shop = Shop::new();
    let (certificate, _) = shop.issue("a", "a.example");
    let spec = shop.spec(&["a"]);
    assert_eq!(Shop::check(&spec), Ok(vec![]));
    let server = Shop::server(&spec, &keys());
    let (_, client) = meet(&server, &shop.client(None), "a.example").unwrap();
    assert_eq!(client.peer_certificates().unwrap()[0], certificate);
    assert_eq!(server.shown(Some("a.example")), Some(&certificate));
}

#[test]
fn files_that_do_not_fit_are_told_by_name_and_cause() {
    let shop = Shop::new();
    shop.issue("a", "a.example");
    shop.issue("b", "b.example");
    let spec = shop.spec(&["a"]);
    let told = |spec: &Spec| Shop::check(spec).unwrap_err();
    let mut crossed = spec.clone();
    crossed.pairs[0].key = shop.path("b.key");
    let text = told(&crossed);
    assert!(
        text.contains("b.key\": it does not belong to the (first) certificate of"),
        "{text}"
    );
    let mut missing = spec.clone();
    missing.pairs[0].key = shop.path("none.key");
    let text = told(&missing);
    assert!(
        text.contains("none.key\"") && text.contains("No such file"),
        "{text}"
    );
    let chain = fs::read_to_string(shop.path("a.pem")).unwrap();
    let reversed = format!(
        "{}{}",
        shop.authority.pem(),
        &chain[..chain.len() - shop.authority.pem().len()]
    );
    shop.write("a.pem", &reversed);
    let text = told(&spec);
    assert!(text.contains("must come first"), "{text}");
    shop.write(
        "a.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let text = told(&spec);
    assert!(text.contains("a.pem\": its first certificate"), "{text}");
    shop.write("a.pem", &chain);
    let mut asking = spec.clone();
    asking.client_cert = ClientCert::Required;
    let text = told(&asking);
    assert!(text.contains("no file of authorities"), "{text}");
    asking.client_ca = Some(shop.path("a.key"));
    let text = told(&asking);
    assert!(
        text.contains("TLS client CA") && text.contains("no certificate in it"),
        "{text}"
    );
}

#[test]
fn what_is_doubtful_is_noted_and_served() {
    let shop = Shop::new();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2019, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = parameters.self_signed(&key).unwrap();
    shop.write("old.pem", &old.pem());
    shop.write("old.key", &key.serialize_pem());
    shop.issue("a", "a.example");
    let notes = Shop::check(&shop.spec(&["a", "old"])).unwrap();
    let note = notes.join("\n");
    assert!(note.contains("expired on 2020-01-01"), "{note}");
    assert!(note.contains("no DNS name"), "{note}");
}

#[test]
fn nothing_older_than_the_least_version_is_spoken() {
    let shop = Shop::new();
    shop.issue("a", "a.example");
    let mut spec = shop.spec(&["a"]);
    let old = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates({
            let mut roots = RootCertStore::empty();
            roots.add(shop.authority.der().clone()).unwrap();
            roots
        })
        .with_no_client_auth();
    let old = Arc::new(old);
    assert!(meet(&Shop::server(&spec, &keys()), &old, "a.example").is_ok());
    spec.min_version = TlsVersion::V13;
    let error = meet(&Shop::server(&spec, &keys()), &old, "a.example").unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error}");
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let shop = Shop::new();
    shop.issue("a", "a.example");
    let alice = || Some(shop.issue("alice", "alice"));
    let stranger = || {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["mallory".to_owned()]).unwrap();
        let other = authority("another authority");
        let certificate = certificate.signed_by(&key, &other).unwrap();
        Some((certificate.der().clone(), key))
    };
    let mut spec = shop.spec(&["a"]);
    spec.client_ca = Some(shop.path("ca.pem"));
    for (mode, without, with, with_another) in [
        (ClientCert::Off, Some(false), Some(false), Some(false)),
        (ClientCert::Optional, Some(false), Some(true), None),
        (ClientCert::Required, None, Some(true), None),
    ] {
        spec.client_cert = mode;
        let server = Shop::server(&spec, &keys());
        let seen = |own| {
            let (server, _) = meet(&server, &shop.client(own), "a.example").ok()?;
            Some(server.peer_certificates().is_some())
        };
        assert_eq!(seen(None), without, "{mode}");
        assert_eq!(seen(alice()), with, "{mode}");
        assert_eq!(seen(stranger()), with_another, "{mode}");
    }
}

#[test]
fn a_session_is_resumed_by_another_worker_and_after_a_renewal() {
    let shop = Shop::new();
    shop.issue("a", "a.example");
    let spec = shop.spec(&["a"]);
    let keys = keys();
    let client = shop.client(None);
    let kind = |server: &Server| {
        let (server, _) = meet(server, &client, "a.example").unwrap();
        server.handshake_kind()
    };
    assert_eq!(kind(&Shop::server(&spec, &keys)), Some(HandshakeKind::Full));
    assert_eq!(
        kind(&Shop::server(&spec, &keys)),
        Some(HandshakeKind::Resumed)
    );
    shop.issue("a", "a.example");
    assert_eq!(
        kind(&Shop::server(&spec, &keys)),
        Some(HandshakeKind::Resumed)
    );
}

/// A ticket is no way around a client certificate that another listener asks for, or past an authority that is not trusted
/// any more.
#[test]
fn a_session_is_not_resumed_where_it_could_not_have_begun() {
    let shop = Shop::new();
    shop.issue("a", "a.example");
    let keys = keys();
    let open = shop.spec(&["a"]);
    let closed = Spec {
        client_ca: Some(shop.path("ca.pem")),
        client_cert: ClientCert::Required,
        ..open.clone()
    };
    let stranger = shop.client(None);
    assert!(meet(&Shop::server(&open, &keys), &stranger, "a.example").is_ok());
    assert!(meet(&Shop::server(&closed, &keys), &stranger, "a.example").is_err());

    let alice = shop.client(Some(shop.issue("alice", "alice")));
    let server = Shop::server(&closed, &keys);
    assert!(meet(&server, &alice, "a.example").is_ok());
    let (again, _) = meet(&server, &alice, "a.example").unwrap();
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(again.peer_certificates().is_some());
    shop.write("ca.pem", &authority("another authority").pem());
    assert!(meet(&Shop::server(&closed, &keys), &alice, "a.example").is_err());
}
