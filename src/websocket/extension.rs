//! The negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1).

use std::fmt;

/// The window of either side, where it can be chosen: 4 KiB hold what messages of one connection have in common, and a
/// connection that keeps them stays small.
const CHOSEN_BITS: u8 = 12;
const LARGEST_BITS: u8 = 15;
/// The smallest window that deflate libraries make.
const SMALLEST_BITS: u8 = 9;

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "parameters of the RFC, each by itself"
)]
pub struct Agreement {
    /// The window of what the server sends, as a power of two.
    pub server_bits: u8,
    /// The window of what the client sends.
    pub client_bits: u8,
    /// Each message of the server's stands alone.
    pub server_no_context_takeover: bool,
    /// Each message of the client's stands alone.
    pub client_no_context_takeover: bool,
    /// The client wants to be told the server's window.
    pub(super) server_bits_asked: bool,
    /// The client can be told its window.
    pub(super) client_bits_asked: bool,
}

impl Agreement {
    /// What the server answers to the first offer it can live with among those of `Sec-WebSocket-Extensions`; `None`
    /// if there is none.
    pub fn to_offers<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        let offers = fields.flat_map(|field| split(field, ','));
        offers.into_iter().find_map(Self::to_offer)
    }

    fn to_offer(offer: &str) -> Option<Self> {
        let mut parts = split(offer, ';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut agreement = Self {
            server_bits: CHOSEN_BITS,
            client_bits: LARGEST_BITS,
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_bits_asked: false,
            client_bits_asked: false,
        };
        // A parameter that is unknown, comes twice, or has a value it must not have declines the offer (section 7.1).
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
                None => (part, None),
            };
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let flag = |flag: &mut bool| (!std::mem::replace(flag, true)).then_some(());
            if is("server_no_context_takeover") && value.is_none() {
                flag(&mut agreement.server_no_context_takeover)?;
            } else if is("client_no_context_takeover") && value.is_none() {
                flag(&mut agreement.client_no_context_takeover)?;
            } else if is("server_max_window_bits") {
                flag(&mut agreement.server_bits_asked)?;
                let bits = bits(value?)?;
                if bits < SMALLEST_BITS {
                    return None;
                }
                agreement.server_bits = bits.min(CHOSEN_BITS);
            } else if is("client_max_window_bits") {
                flag(&mut agreement.client_bits_asked)?;
                let most = value.map_or(Some(LARGEST_BITS), bits)?;
                agreement.client_bits = most.min(CHOSEN_BITS);
            } else {
                return None;
            }
        }
        if !agreement.client_bits_asked {
            // Its window cannot be kept small, so it is not kept (section 7.1.1.2).
            agreement.client_no_context_takeover = true;
        }
        Some(agreement)
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate")?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.server_bits_asked {
            write!(f, "; server_max_window_bits={}", self.server_bits)?;
        }
        if self.client_bits_asked {
            write!(f, "; client_max_window_bits={}", self.client_bits)?;
        }
        Ok(())
    }
}

/// Splits at `separator`, but not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// A token, or what stands within quotes.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// A number from 8 to 15 without leading zeros.
fn bits(value: &str) -> Option<u8> {
    if value.starts_with('0') || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|bits| (8..=15).contains(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offers: &str) -> Option<String> {
        Agreement::to_offers([offers].into_iter()).map(|agreement| agreement.to_string())
    }

    #[test]
    fn offers_and_their_answers() {
        for (offer, expected) in [
            // What Chrome offers, and what Firefox does.
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_max_window_bits=12",
            ),
            (
                "permessage-deflate",
                "permessage-deflate; client_no_context_takeover",
            ),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                "permessage-deflate; client_max_window_bits=\"10\"; server_max_window_bits = 15",
                "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
            ),
            (
                "x-webkit-deflate-frame, PERMESSAGE-DEFLATE;server_max_window_bits=9",
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; \
                 client_max_window_bits=8",
                "permessage-deflate; client_max_window_bits=8",
            ),
        ] {
            assert_eq!(answer(offer).as_deref(), Some(expected), "{offer}");
        }
    }

    #[test]
    fn what_nobody_can_agree_to() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=012",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; surprise",
            "permessage-deflate;",
        ] {
            assert_eq!(answer(offer), None, "{offer}");
        }
    }
}
