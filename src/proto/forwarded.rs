//! What a proxy tells of the client: whom to believe, the scheme, and field names with an underscore.

use http::{HeaderMap, HeaderName};

use crate::app::{Address, Scheme};
use crate::config::{AllowList, HeaderMapping};

/// The settings `forwarded_allow_ips`, `secure_scheme_headers`, `forwarder_headers`, `header_map`.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    trusted: AllowList,
    /// Field names, and the values that mean https.
    secure: Vec<(HeaderName, Vec<u8>)>,
    /// Lower case.
    forwarders: Vec<String>,
    mapping: HeaderMapping,
}

/// Two fields of a trusted proxy contradict each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contradiction;

/// A field name has an underscore, and `header_map` is `refuse`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Underscore;

impl Forwarded {
    pub(crate) fn new(
        trusted: AllowList,
        secure: &[(String, String)],
        forwarders: &[String],
        mapping: HeaderMapping,
    ) -> Self {
        let secure = secure
            .iter()
            .filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, value.as_bytes().to_vec()))
            })
            .collect();
        let forwarders = forwarders
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        Self {
            trusted,
            secure,
            forwarders,
            mapping,
        }
    }

    /// What `peer` forwards may be believed. Unix peers always are: the socket's permissions have let them in.
    pub(crate) fn trusts(&self, peer: &Address) -> bool {
        match peer {
            Address::Tcp(address) => self.trusted.allows_socket(address),
            Address::Unix(_) => true,
        }
    }

    /// The scheme that a trusted peer's fields tell; without them the connection's `own`.
    ///
    /// # Errors
    /// [`Contradiction`] if one says https and another does not.
    pub(crate) fn scheme(
        &self,
        headers: &HeaderMap,
        own: Scheme,
    ) -> Result<Scheme, Contradiction> {
        let mut told = None;
        for (name, secure) in &self.secure {
            for value in headers.get_all(name) {
                let scheme = if value.as_bytes() == secure {
                    Scheme::Https
                } else {
                    Scheme::Http
                };
                if told.is_some_and(|told| told != scheme) {
                    return Err(Contradiction);
                }
                told = Some(scheme);
            }
        }
        Ok(told.unwrap_or(own))
    }

    /// Does with names that have an underscore what `header_map` says. `-` and `_` are one to a CGI environment, so such
    /// a name could pass for another's; a trusted peer may send those of `forwarder_headers`.
    ///
    /// # Errors
    /// [`Underscore`] if it says to refuse them.
    pub(crate) fn underscores(
        &self,
        headers: &mut HeaderMap,
        trusted: bool,
    ) -> Result<(), Underscore> {
        let allowed = |name: &HeaderName| {
            !name.as_str().contains('_')
                || (trusted && self.forwarders.iter().any(|known| known == name.as_str()))
        };
        match self.mapping {
            HeaderMapping::Dangerous => Ok(()),
            HeaderMapping::Refuse if headers.keys().all(allowed) => Ok(()),
            HeaderMapping::Refuse => Err(Underscore),
            HeaderMapping::Drop => {
                let dropped: Vec<HeaderName> = headers
                    .keys()
                    .filter(|name| !allowed(name))
                    .cloned()
                    .collect();
                for name in dropped {
                    headers.remove(name);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn forwarded(mapping: HeaderMapping) -> Forwarded {
        let pairs = [
            ("X-FORWARDED-PROTOCOL", "ssl"),
            ("X-FORWARDED-PROTO", "https"),
            ("X-FORWARDED-SSL", "on"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let nets = vec!["10.0.0.0/8".parse().expect("a network")];
        let forwarders = ["SCRIPT_NAME".to_owned(), "PATH_INFO".to_owned()];
        Forwarded::new(AllowList::These(nets), &pairs, &forwarders, mapping)
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn peers_are_trusted_by_network_and_unix_peers_always() {
        let forwarded = forwarded(HeaderMapping::Drop);
        let tcp = |text: &str| Address::Tcp(text.parse().expect("an address"));
        assert!(forwarded.trusts(&tcp("10.1.2.3:4")));
        assert!(!forwarded.trusts(&tcp("11.1.2.3:4")));
        assert!(forwarded.trusts(&Address::Unix(None)));
    }

    #[test]
    fn the_scheme_is_what_the_fields_agree_on() {
        let forwarded = forwarded(HeaderMapping::Drop);
        let scheme = |fields: &[(&'static str, &'static str)]| {
            forwarded.scheme(&headers(fields), Scheme::Http)
        };
        assert_eq!(scheme(&[]), Ok(Scheme::Http));
        let inside = |fields: &[(&'static str, &'static str)]| {
            forwarded.scheme(&headers(fields), Scheme::Https)
        };
        assert_eq!(inside(&[]), Ok(Scheme::Https));
        assert_eq!(inside(&[("x-forwarded-proto", "http")]), Ok(Scheme::Http));
        assert_eq!(scheme(&[("x-forwarded-proto", "https")]), Ok(Scheme::Https));
        assert_eq!(scheme(&[("x-forwarded-proto", "http")]), Ok(Scheme::Http));
        let both = [("x-forwarded-proto", "https"), ("x-forwarded-ssl", "on")];
        assert_eq!(scheme(&both), Ok(Scheme::Https));
        let quarrel = [("x-forwarded-proto", "https"), ("x-forwarded-ssl", "off")];
        assert_eq!(scheme(&quarrel), Err(Contradiction));
        let twice = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(scheme(&twice), Err(Contradiction));
    }

    #[test]
    fn underscores_are_dropped_refused_or_let_through() {
        let fields = [("x_a", "1"), ("x-b", "2"), ("script_name", "/x")];
        let mut some = headers(&fields);
        assert_eq!(
            forwarded(HeaderMapping::Drop).underscores(&mut some, false),
            Ok(())
        );
        assert_eq!(some.len(), 1);
        let mut some = headers(&fields);
        assert_eq!(
            forwarded(HeaderMapping::Drop).underscores(&mut some, true),
            Ok(())
        );
        assert_eq!(some.len(), 2);
        assert!(some.contains_key("script_name"));
        let refuse = forwarded(HeaderMapping::Refuse);
        assert_eq!(
            refuse.underscores(&mut headers(&fields), true),
            Err(Underscore)
        );
        assert_eq!(
            refuse.underscores(&mut headers(&[("script_name", "/x")]), true),
            Ok(())
        );
        assert_eq!(
            refuse.underscores(&mut headers(&[("script_name", "/x")]), false),
            Err(Underscore)
        );
        let mut some = headers(&fields);
        assert_eq!(
            forwarded(HeaderMapping::Dangerous).underscores(&mut some, false),
            Ok(())
        );
        assert_eq!(some.len(), 3);
    }
}
