//! What a certificate says, as text.

use std::time::{SystemTime, UNIX_EPOCH};

use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Who has less time than this, in seconds, may have forgotten to renew it: those that are renewed by themselves have more.
const SOON: u64 = 5 * 86_400;

/// The facts of a certificate that people and apps ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Whom it is for, as RFC 4514 writes it: `CN=alice,O=Example`.
    pub(crate) subject: String,
    /// Who has signed it.
    pub(crate) issuer: String,
    /// Its number, in hexadecimal digits.
    pub(crate) serial: String,
    /// From when and until when it is good, in seconds since 1970.
    valid: (u64, u64),
}

impl Described {
    /// Of a certificate in DER; `None` if it is none.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let validity = certificate.validity;
        let serial = certificate.serial_number.as_bytes();
        // A zero in front of a number whose first bit is set is not part of it.
        let serial = match serial {
            [0, rest @ ..] if !rest.is_empty() => rest,
            whole => whole,
        };
        Some(Self {
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            serial: hex(serial),
            valid: (
                validity.not_before.to_unix_duration().as_secs(),
                validity.not_after.to_unix_duration().as_secs(),
            ),
        })
    }

    /// What keeps it from being good at this time.
    pub(super) fn problem(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let (from, until) = self.valid;
        if now > until {
            Some(format!("it has expired on {}", date(until)))
        } else if now < from {
            Some(format!("it is not good before {}", date(from)))
        } else if until - now < SOON {
            Some(format!("it expires on {}", date(until)))
        } else {
            None
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn date(second: u64) -> String {
    i64::try_from(second)
        .ok()
        .and_then(|second| jiff::Timestamp::from_second(second).ok())
        .map_or_else(String::new, |time| {
            time.strftime("%Y-%m-%d %H:%M UTC").to_string()
        })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_is_described_as_people_write_it() {
        let mut parameters = CertificateParams::new(["a.example".to_owned()]).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "Ex, Inc.");
        name.push(DnType::CommonName, "alice");
        parameters.serial_number = Some(SerialNumber::from_slice(&[0x0A, 0xFF]));
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2021, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let told = Described::of(certificate.der()).unwrap();
        assert_eq!(told.subject, "CN=alice,O=Ex\\, Inc.,C=DE");
        assert_eq!(told.issuer, told.subject);
        assert_eq!(told.serial, "0AFF");
        let problem =
            |seconds| told.problem(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert!(problem(0).unwrap().contains("not good before 2020-01-01"));
        assert_eq!(problem(1_590_000_000), None);
        let soon = problem(1_609_459_200 - 86_400).unwrap();
        assert!(soon.contains("expires on 2021-01-01 00:00 UTC"), "{soon}");
        assert!(
            problem(1_700_000_000)
                .unwrap()
                .contains("expired on 2021-01-01")
        );
        assert_eq!(Described::of(b"no"), None);
    }
}
