//! Certificates and keys from PEM (RFC 7468), with an answer for what people put into such files by mistake.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{Role, TlsError};

/// The certificates of a file, in their order: at least one.
///
/// # Errors
/// There is none, or it is not well formed.
pub(super) fn certificates(
    role: Role,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(role, path, &error))?;
    if found.is_empty() {
        return Err(TlsError::unusable(
            role,
            path,
            format!("there is no certificate in it{}", instead(text)),
        ));
    }
    Ok(found)
}

/// The first private key of a file, which may have certificates beside it.
///
/// # Errors
/// There is none that can be read without a password, or it is not well formed.
pub(super) fn private_key(
    path: &Path,
    text: &[u8],
) -> Result<PrivateKeyDer<'static>, TlsError> {
    if is_encrypted(text) {
        return Err(encrypted(path));
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::unusable(
            Role::Key,
            path,
            format!("there is no private key in it{}", instead(text)),
        )),
        Err(error) => Err(broken(Role::Key, path, &error)),
    }
}

fn encrypted(path: &Path) -> TlsError {
    TlsError::unusable(
        Role::Key,
        path,
        "it is encrypted, and nobody is there to be asked for the password; `openssl pkey -in FILE -out FILE` decrypts it",
    )
}

/// PKCS #8 says it in the label, older ones in a header line (RFC 1421).
fn is_encrypted(text: &[u8]) -> bool {
    has(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(text, b"Proc-Type: 4,ENCRYPTED")
}

/// What it is instead of what was looked for.
fn instead(text: &[u8]) -> &'static str {
    if text.trim_ascii().is_empty() {
        ": it is empty"
    } else if text.first() == Some(&0x30) && !text.is_ascii() {
        ": it is binary (DER or PKCS #12), and must be PEM"
    } else if !has(text, b"-----BEGIN ") {
        ": it is not PEM"
    } else if has(text, b"-----BEGIN CERTIFICATE REQUEST-----") {
        ", but the request for one"
    } else if has(text, b"PRIVATE KEY-----") {
        ", but a private key"
    } else if has(text, b"-----BEGIN CERTIFICATE-----") {
        ", but certificates"
    } else {
        ""
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn broken(role: Role, path: &Path, error: &pem::Error) -> TlsError {
    TlsError::unusable(role, path, format!("it is not well formed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: &TlsError) -> String {
        error.to_string()
    }

    #[test]
    fn what_is_there_instead_is_said() {
        let path = Path::new("x.pem");
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (cert, key) = (
            certificate.cert.pem(),
            certificate.signing_key.serialize_pem(),
        );
        let both = format!("{key}{cert}");
        assert!(private_key(path, both.as_bytes()).is_ok());
        let found = certificates(Role::Certificate, path, both.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        for (text, expected) in [
            (key.as_bytes(), "no certificate in it, but a private key"),
            (&b""[..], "it is empty"),
            (b"hello", "it is not PEM"),
            (certificate.cert.der(), "it is binary (DER or PKCS #12)"),
            (
                b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
                "the request for one",
            ),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "not well formed"),
            (
                b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
                "not well formed",
            ),
        ] {
            let told = problem(&certificates(Role::Certificate, path, text).unwrap_err());
            assert!(
                told.contains(expected) && told.starts_with("TLS certificate \"x.pem\": "),
                "{told}"
            );
        }
        for (text, expected) in [
            (cert.as_str(), "no private key in it, but certificates"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "it is encrypted",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                "it is encrypted",
            ),
        ] {
            let told = problem(&private_key(path, text.as_bytes()).unwrap_err());
            assert!(
                told.contains(expected) && told.starts_with("TLS private key "),
                "{told}"
            );
        }
    }
}
