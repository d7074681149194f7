//! The values of settings about TLS.

use std::fmt;
use std::str::FromStr;

use super::value::{did_you_mean, nearest};

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    #[default]
    V12,
    /// 1.3 (RFC 8446).
    V13,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        let number = word.strip_prefix("tls").unwrap_or(&word);
        let number = number.strip_prefix('v').unwrap_or(number);
        match number {
            "1.2" | "1_2" => Ok(Self::V12),
            "1.3" | "1_3" => Ok(Self::V13),
            "1" | "1.0" | "1_0" | "1.1" | "1_1" => {
                Err("must be 1.2 or 1.3; older ones are not safe (RFC 8996)".to_owned())
            }
            _ => Err("must be 1.2 or 1.3".to_owned()),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        })
    }
}

/// Whether files are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsWatch {
    /// They are.
    #[default]
    On,
    /// They are not.
    Off,
}

impl FromStr for TlsWatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("must be on or off".to_owned()),
        }
    }
}

impl fmt::Display for TlsWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// What OpenSSL calls a cipher suite of TLS 1.2 (RFC 5289, RFC 7905), and the classes that it is in.
#[derive(Debug)]
pub struct Suite {
    /// `ECDHE-RSA-AES128-GCM-SHA256`.
    pub openssl: &'static str,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
    pub iana: &'static str,
    /// Its number.
    pub number: u16,
    classes: &'static [&'static str],
}

/// The suites of TLS 1.2 that are served: those with forward secrecy and authenticated encryption. The best first.
pub static SUITES: [Suite; 6] = [
    Suite {
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        number: 0xC02C,
        classes: &["ECDSA", "AESGCM", "AES256", "AES", "SHA384"],
    },
    Suite {
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        number: 0xC02B,
        classes: &["ECDSA", "AESGCM", "AES128", "AES", "SHA256"],
    },
    Suite {
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        number: 0xCCA9,
        classes: &["ECDSA", "CHACHA20", "SHA256"],
    },
    Suite {
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        number: 0xC030,
        classes: &["RSA", "AESGCM", "AES256", "AES", "SHA384"],
    },
    Suite {
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        number: 0xC02F,
        classes: &["RSA", "AESGCM", "AES128", "AES", "SHA256"],
    },
    Suite {
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        number: 0xCCA8,
        classes: &["RSA", "CHACHA20", "SHA256"],
    },
];

impl Suite {
    /// Whether a word of an OpenSSL cipher list means it (ciphers(1)).
    fn is(&self, word: &str) -> bool {
        if word == self.openssl || word == self.iana {
            return true;
        }
        word.split('+').all(|class| match class {
            "ALL"
            | "DEFAULT"
            | "COMPLEMENTOFDEFAULT"
            | "HIGH"
            | "ECDHE"
            | "EECDH"
            | "kECDHE"
            | "kEECDH"
            | "ECDH"
            | "TLSv1.2" => class != "COMPLEMENTOFDEFAULT",
            "aECDSA" => self.classes.contains(&"ECDSA"),
            "aRSA" => self.classes.contains(&"RSA"),
            class => class != "RSA" && self.classes.contains(&class),
        })
    }
}

/// The cipher suites of TLS 1.2 that an OpenSSL cipher list chooses of those that are served (Gunicorn's `ciphers`). As with
/// OpenSSL, those of TLS 1.3 are not concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherList {
    text: String,
    numbers: Vec<u16>,
}

impl CipherList {
    /// The suites' numbers, the preferred first.
    #[must_use]
    pub fn numbers(&self) -> &[u16] {
        &self.numbers
    }
}

impl FromStr for CipherList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chosen: Vec<&Suite> = Vec::new();
        let mut killed: Vec<&str> = Vec::new();
        let mut strangers = Vec::new();
        let words = text.split([':', ',', ' ']).filter(|word| !word.is_empty());
        for word in words {
            let meant = |word: &str| SUITES.iter().filter(|suite| suite.is(word)).collect();
            if let Some(word) = word.strip_prefix('!') {
                chosen.retain(|suite| !suite.is(word));
                killed.push(word);
            } else if let Some(word) = word.strip_prefix('-') {
                chosen.retain(|suite| !suite.is(word));
            } else if let Some(word) = word.strip_prefix('+') {
                // Moved to the end.
                chosen.sort_by_key(|suite| suite.is(word));
            } else if !word.starts_with('@') {
                let meant: Vec<&Suite> = meant(word);
                if meant.is_empty() {
                    strangers.push(word);
                }
                for suite in meant {
                    let is_there = chosen.iter().any(|one| one.number == suite.number);
                    if !is_there && !killed.iter().any(|word| suite.is(word)) {
                        chosen.push(suite);
                    }
                }
            }
        }
        if chosen.is_empty() {
            let names = SUITES.each_ref().map(|suite| suite.openssl);
            let near = strangers
                .first()
                .and_then(|stranger| nearest(stranger, names.iter().copied()));
            return Err(format!(
                "leaves no cipher suite of those that are served for TLS 1.2{}; there are {}",
                did_you_mean(near),
                names.join(", ")
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            numbers: chosen.iter().map(|suite| suite.number).collect(),
        })
    }
}

impl fmt::Display for CipherList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let list: CipherList = list.parse().unwrap();
        let name = |number: &u16| SUITES.iter().find(|suite| suite.number == *number);
        list.numbers()
            .iter()
            .map(|number| name(number).unwrap().openssl)
            .collect()
    }

    #[test]
    fn versions_are_read_however_they_are_written() {
        for text in ["1.3", "TLSv1.3", "tls1.3", "TLSv1_3", " v1.3 "] {
            assert_eq!(text.parse(), Ok(TlsVersion::V13), "{text}");
        }
        assert_eq!("TLSv1_2".parse(), Ok(TlsVersion::V12));
        assert!(
            "TLSv1"
                .parse::<TlsVersion>()
                .unwrap_err()
                .contains("not safe")
        );
        assert!("SSLv3".parse::<TlsVersion>().is_err());
    }

    #[test]
    fn cipher_lists_choose_as_in_openssl() {
        let two = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256";
        assert_eq!(
            names(two),
            [
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES128-GCM-SHA256"
            ]
        );
        assert_eq!(names("HIGH:!aNULL:!MD5").len(), 6);
        assert_eq!(
            names("ECDHE+AESGCM:!AES128"),
            [
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384"
            ]
        );
        assert_eq!(
            names("ECDHE+aRSA:+CHACHA20:-AES256:AES128-SHA"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]
        );
        assert_eq!(
            names("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            ["ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(names("!CHACHA20:ALL").len(), 4);
    }

    #[test]
    fn a_list_that_leaves_nothing_says_what_there_is() {
        for text in ["RC4-SHA", "", "AES128-SHA:RSA", "kRSA"] {
            let told = text.parse::<CipherList>().unwrap_err();
            assert!(told.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{told}");
        }
        let told = "ECDHE-RSA-AES128-GCM-SHA265".parse::<CipherList>();
        assert!(told.unwrap_err().contains("did you mean"));
    }
}
