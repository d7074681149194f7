//! What is known of a connection that came by TLS.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The TLS of a connection, as apps find it: [`Ends::tls`](super::Ends::tls). Made once for a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tls {
    /// The version's number: `0x0303` is TLS 1.2, `0x0304` TLS 1.3.
    pub version: u16,
    /// The cipher suite's number (IANA's TLS registry).
    pub cipher_suite: u16,
    /// The suite's name, as OpenSSL has it: `ECDHE-RSA-AES128-GCM-SHA256`, `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The name that the client asked for (RFC 6066 section 3).
    pub server_name: Option<Box<str>>,
    /// The protocol that both agreed on (RFC 7301), where the client named any.
    pub protocol: Option<Box<[u8]>>,
    /// An earlier session goes on.
    pub resumed: bool,
    /// Our certificate, in DER.
    pub certificate: Arc<[u8]>,
    /// The client's, which has been verified.
    pub client: Option<ClientIdentity>,
}

impl Tls {
    /// The version's name: `TLSv1.3`.
    #[must_use]
    pub const fn version_name(&self) -> &'static str {
        match self.version {
            0x0303 => "TLSv1.2",
            0x0304 => "TLSv1.3",
            _ => "unknown",
        }
    }
}

/// Who a client is by its certificate, which one of the authorities has signed that the listener trusts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientIdentity {
    /// The certificate and those that signed it, as the client sent them, in DER.
    pub chain: Vec<Box<[u8]>>,
    /// Whom it is for, as RFC 4514 writes it: `CN=alice,O=Example`.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// Its number, in hexadecimal digits.
    pub serial: String,
}

/// A certificate as text (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        // Writing to a String does not fail.
        let _ = writeln!(pem, "{line}");
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_becomes_lines_of_64() {
        let text = pem(&[0; 60]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[1].len(), lines[2].len()), (64, 16));
        assert!(text.ends_with("-----END CERTIFICATE-----\n"));
    }
}
