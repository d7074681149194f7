//! Header fields as an environ has them: RFC 3875, section 4.1.18.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::Text;
use crate::app::python::last::Last;
use crate::app::python::object;

/// A header name that came before.
pub(super) struct Header {
    pub(super) key: Text,
    last: Last<Text>,
    /// What is a secret, or different each time, is not kept.
    pub(super) keep: bool,
}

impl Header {
    /// How many names are kept: a client may send any.
    pub(super) const KEPT: usize = 1024;

    pub(super) fn new(py: Python<'static>, name: &HeaderName) -> Self {
        let key = PyString::intern(py, &key(name));
        let keep = *name != COOKIE && *name != AUTHORIZATION && *name != CONTENT_LENGTH;
        Self {
            key,
            last: Last::default(),
            keep,
        }
    }

    pub(super) fn text(&mut self, py: Python<'static>, raw: &[u8]) -> PyResult<Text> {
        if self.keep {
            self.last.get(raw, |raw| object::latin1(py, raw))
        } else {
            object::latin1(py, raw)
        }
    }
}

/// The environ's key for a header.
pub(super) fn key(name: &HeaderName) -> String {
    let upper = name.as_str().replace('-', "_").to_ascii_uppercase();
    if *name == CONTENT_TYPE || *name == CONTENT_LENGTH {
        upper
    } else {
        format!("HTTP_{upper}")
    }
}

/// All lines of a field as one value. RFC 9110, section 5.3; cookies by RFC 9113, section 8.2.3.
pub(super) fn join(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    let mut joined = Vec::new();
    for (index, value) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            joined.extend_from_slice(separator);
        }
        joined.extend_from_slice(value.as_bytes());
    }
    joined
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn keys_are_those_of_cgi() {
        assert_eq!(key(&CONTENT_TYPE), "CONTENT_TYPE");
        assert_eq!(key(&CONTENT_LENGTH), "CONTENT_LENGTH");
        assert_eq!(key(&HeaderName::from_static("x-real-ip")), "HTTP_X_REAL_IP");
    }

    #[test]
    fn lines_of_one_field_are_joined() {
        let mut headers = HeaderMap::new();
        for value in ["a", "b"] {
            headers.append(COOKIE, HeaderValue::from_static(value));
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        assert_eq!(join(&headers, &COOKIE), b"a; b");
        assert_eq!(
            join(&headers, &HeaderName::from_static("x-forwarded-for")),
            b"a,b"
        );
    }
}
