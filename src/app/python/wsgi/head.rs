//! The head of a response, from the strings an app hands over.
//!
//! PEP 3333 carries bytes in `str`, one code point a byte. The rules are Gunicorn's (`gunicorn/http/wsgi.py`): strict
//! about syntax, since a line end in a value would let the app's user write headers; hop-by-hop headers, and those that
//! are the server's to send, are left out in silence.

use std::borrow::Cow;

use http::header::HeaderName;
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::app::FileRange;

/// A response's head, checked.
#[derive(Debug)]
pub(in crate::app::python) struct Head {
    pub(super) status: StatusCode,
    /// Only where it is not the code's usual phrase.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) headers: HeaderMap,
    /// `Content-Length`, where the app gave one.
    pub(super) length: Option<u64>,
}

impl Head {
    /// The response of this head and `body`.
    pub(in crate::app::python) fn with<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }

    /// The response whose body is part of a file, which the server may take from there.
    pub(in crate::app::python) fn with_file<B>(self, body: B, range: FileRange) -> Response<B> {
        let mut response = self.with(body);
        response.extensions_mut().insert(range);
        response
    }

    /// 204 has no body, and says nothing of its length (RFC 9110, section 8.6).
    pub(super) fn forbids_length(&self) -> bool {
        self.status == StatusCode::NO_CONTENT
    }
}

/// What happens to a header of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is sent.
    Send,
    /// It is sent, and says how long the body is.
    Length,
    /// It concerns one hop, or is ours to send: it is left out.
    Omit,
}

impl Role {
    /// Gunicorn: `gunicorn/util.py`, `hop_headers`.
    pub(super) fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "content-length" => Self::Length,
            "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "trailers"
            | "transfer-encoding"
            | "upgrade"
            | "server"
            | "date" => Self::Omit,
            _ => Self::Send,
        }
    }
}

/// `"NNN"` or `"NNN reason"`. An interim status (1xx) is not an app's to send.
pub(super) fn status(text: &str) -> Option<(StatusCode, Option<ReasonPhrase>)> {
    let code = text.get(..3)?;
    let status = StatusCode::from_bytes(code.as_bytes()).ok()?;
    if status.is_informational() {
        return None;
    }
    let reason = match text.get(3..)? {
        "" => "",
        rest => rest.strip_prefix(' ')?,
    };
    if status.canonical_reason() == Some(reason) {
        return Some((status, None));
    }
    let reason = ReasonPhrase::try_from(latin1(reason)?.as_ref()).ok()?;
    Some((status, Some(reason)))
}

/// The bytes that `text` stands for, without blanks at its ends; `None` if it stands for none.
pub(super) fn value(text: &str) -> Option<Cow<'_, [u8]>> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    if blank(bytes.first()) || blank(bytes.last()) {
        return latin1(text.trim_matches([' ', '\t']));
    }
    latin1(text)
}

/// `bytes` without blanks at its ends.
pub(super) fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The value of a `Content-Length`: digits, and nothing else.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        let number = number.checked_mul(10)?.checked_add(digit.into())?;
        (digit < 10).then_some(number)
    })
}

/// The bytes that `text` stands for; `None` if it stands for none.
pub(super) fn latin1(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    text.chars()
        .map(|point| u8::try_from(point).ok())
        .collect::<Option<Vec<u8>>>()
        .map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<Vec<u8>> {
        status(text)
            .unwrap()
            .1
            .map(|reason| reason.as_bytes().to_vec())
    }

    #[test]
    fn a_usual_phrase_is_not_kept() {
        let (code, reason) = status("200 OK").unwrap();
        assert_eq!(code, StatusCode::OK);
        assert!(reason.is_none());
    }

    #[test]
    fn an_unusual_phrase_is_kept() {
        assert_eq!(reason("200 Fine"), Some(b"Fine".to_vec()));
        assert_eq!(reason("299 "), Some(Vec::new()));
        assert_eq!(reason("404"), Some(Vec::new()));
        assert_eq!(reason("200 \u{e9}"), Some(vec![0xe9]));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for text in [
            "",
            "20",
            "abc",
            "2000",
            "200OK",
            "99 Low",
            "100 Continue",
            "101 Switching Protocols",
            "200 OK\r\nX: y",
            "200 \u{20ac}",
            "2\u{b9}0 OK",
            " 200 OK",
        ] {
            assert!(status(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn values_are_latin1_without_blanks_around() {
        assert_eq!(value(" \ta b\t ").unwrap().as_ref(), b"a b");
        assert_eq!(value("\u{fc}").unwrap().as_ref(), [0xfc]);
        assert!(value("\u{20ac}").is_none());
        assert_eq!(
            value("a\r\nb").unwrap().as_ref(),
            b"a\r\nb",
            "left to HeaderValue"
        );
    }

    #[test]
    fn blanks_at_the_ends_are_trimmed() {
        for (bytes, trimmed) in [(" \ta b\t ", "a b"), ("a", "a"), (" \t", ""), ("\n", "\n")] {
            assert_eq!(super::trimmed(bytes.as_bytes()), trimmed.as_bytes());
        }
    }

    #[test]
    fn a_length_is_digits() {
        assert_eq!(length(b"12"), Some(12));
        for bad in [
            &b""[..],
            b"+1",
            b"-1",
            b"1,1",
            b"0x1",
            b"99999999999999999999",
        ] {
            assert_eq!(length(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hop_by_hop_headers_are_omitted() {
        assert_eq!(Role::of(&http::header::CONNECTION), Role::Omit);
        assert_eq!(Role::of(&http::header::DATE), Role::Omit);
        assert_eq!(Role::of(&http::header::CONTENT_LENGTH), Role::Length);
        assert_eq!(Role::of(&http::header::SET_COOKIE), Role::Send);
    }
}
