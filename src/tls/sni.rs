//! Which certificate a client is shown: the one for the name that it asks for (RFC 6066 section 3), or the first.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: Vec<Arc<CertifiedKey>>,
    exact: FxHashMap<String, Vec<usize>>,
    /// Without the `*.`.
    wildcard: FxHashMap<String, Vec<usize>>,
    /// For whoever names none of them: the first one, and those of other kinds of keys for a name of its.
    default: Vec<usize>,
}

impl Names {
    /// Adds a certificate for `names`, DNS names of which the first label may be a `*`. Of those for the same name the first
    /// is preferred, and the others are for clients that cannot check its kind of signature.
    pub(super) fn add(&mut self, certificate: Arc<CertifiedKey>, names: &[String]) {
        let place = self.all.len();
        self.all.push(certificate);
        let mut of_default = place == 0;
        for name in names {
            let name = name.to_ascii_lowercase();
            let places = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None => self.exact.entry(name),
            };
            let places = places.or_default();
            of_default |= places.first() == Some(&0);
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
        if of_default {
            self.default.push(place);
        }
    }

    /// The candidates for a name, the best first.
    fn candidates(&self, name: Option<&str>) -> &[usize] {
        let Some(name) = name else {
            return &self.default;
        };
        let name = name.to_ascii_lowercase();
        // RFC 9525 section 6.3: a wildcard stands for one whole label.
        let parent = || Some(name.split_once('.')?.1);
        self.exact
            .get(&name)
            .or_else(|| self.wildcard.get(parent()?))
            .unwrap_or(&self.default)
    }

    fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        self.candidates(name)
            .iter()
            .filter_map(|place| self.all.get(*place))
            .find(|certificate| certificate.key.choose_scheme(schemes).is_some())
    }

    /// The certificate that clients are shown who ask for `name`, as far as that is known afterwards.
    pub(super) fn shown(&self, name: Option<&str>) -> Option<&CertificateDer<'static>> {
        let place = self.candidates(name).first()?;
        self.all.get(*place)?.cert.first()
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        self.choose(client_hello.server_name(), schemes).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use rustls::crypto::ring::default_provider;

    use super::*;

    fn certificate(algorithm: &'static SignatureAlgorithm) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parameters = rcgen::CertificateParams::new(["x".to_owned()]).unwrap();
        let chain = vec![parameters.self_signed(&key).unwrap().der().clone()];
        let key = key.serialize_der().try_into().unwrap();
        Arc::new(CertifiedKey::from_der(chain, key, &default_provider()).unwrap())
    }

    fn names(of: &[&[&str]]) -> (Names, Vec<Arc<CertifiedKey>>) {
        let mut names = Names::default();
        let mut all = Vec::new();
        for list in of {
            let list: Vec<_> = list.iter().map(|name| (*name).to_owned()).collect();
            let certificate = certificate(&PKCS_ECDSA_P256_SHA256);
            names.add(Arc::clone(&certificate), &list);
            all.push(certificate);
        }
        (names, all)
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_that_before_the_first() {
        let (names, all) = names(&[
            &["first.example"],
            &["*.Example.org", "example.org"],
            &["a.example.org"],
        ]);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, place) in [
            (Some("first.example"), 0),
            (Some("example.org"), 1),
            (Some("b.example.org"), 1),
            (Some("B.EXAMPLE.ORG"), 1),
            (Some("a.example.org"), 2),
            (Some("x.b.example.org"), 0),
            (Some("org"), 0),
            (Some("other"), 0),
            (None, 0),
        ] {
            let chosen = names.choose(name, &schemes).unwrap();
            assert!(Arc::ptr_eq(chosen, &all[place]), "{name:?}");
            assert_eq!(names.shown(name), all[place].cert.first(), "{name:?}");
        }
    }

    #[test]
    fn a_client_is_shown_what_it_can_check() {
        let (mut names, all) = names(&[&["a"], &["b"]]);
        let other = certificate(&PKCS_ED25519);
        names.add(Arc::clone(&other), &["a".to_owned()]);
        let choose = |name, scheme| names.choose(name, &[scheme]);
        for name in [Some("a"), None, Some("unknown")] {
            let old = choose(name, SignatureScheme::ECDSA_NISTP256_SHA256).unwrap();
            assert!(Arc::ptr_eq(old, &all[0]));
            let new = choose(name, SignatureScheme::ED25519).unwrap();
            assert!(Arc::ptr_eq(new, &other));
        }
        assert!(choose(Some("b"), SignatureScheme::ED25519).is_none());
    }
}
