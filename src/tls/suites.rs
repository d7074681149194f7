//! The cryptography of one listener: *ring*'s, less the cipher suites that `--ciphers` leaves out.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

use crate::config::CipherList;

/// All suites of TLS 1.3, and those of TLS 1.2 that `list` chooses, in its order.
pub(super) fn provider(list: Option<&CipherList>) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if let Some(list) = list {
        let all = std::mem::take(&mut provider.cipher_suites);
        let (modern, old): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|suite| suite.tls13().is_some());
        let chosen = list.numbers().iter().filter_map(|number| {
            let mut old = old.iter();
            old.find(|suite| u16::from(suite.suite()) == *number)
                .copied()
        });
        provider.cipher_suites = modern.into_iter().chain(chosen).collect();
    }
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use rustls::SupportedCipherSuite;

    use super::*;
    use crate::config::SUITES;

    #[test]
    fn the_suites_that_can_be_named_are_those_there_are() {
        let all = provider(None);
        let old = all
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none());
        let mut there: Vec<_> = old.map(|suite| u16::from(suite.suite())).collect();
        let mut named: Vec<_> = SUITES.iter().map(|suite| suite.number).collect();
        there.sort_unstable();
        named.sort_unstable();
        assert_eq!(there, named);
        for suite in &SUITES {
            let mut suites = all.cipher_suites.iter().map(SupportedCipherSuite::suite);
            assert!(
                suites.any(|there| u16::from(there) == suite.number
                    && there.as_str() == Some(suite.iana))
            );
        }
    }

    #[test]
    fn a_list_leaves_out_and_keeps_its_order() {
        let list = "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256"
            .parse()
            .unwrap();
        let provider = provider(Some(&list));
        let old: Vec<_> = provider
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| u16::from(suite.suite()))
            .collect();
        assert_eq!(old, [0xCCA8, 0xC02F]);
        assert_eq!(provider.cipher_suites.len(), 5);
    }
}
