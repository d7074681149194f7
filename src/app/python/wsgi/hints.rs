//! The fields of early hints, from what an app hands over.
//!
//! Checked like those of a response. What says how long a body is or concerns one hop is left out: an interim response has
//! no body (RFC 9110, section 15.2).

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence, PyString};

use super::exchange::{not_a_pair, repr};
use super::head::{self, Role};

/// The fields of `headers`, pairs of `str` or, as in Gunicorn, `bytes`.
///
/// # Errors
/// `ValueError` where one is no header field, `TypeError` where it is something else.
pub(super) fn fields(headers: &Bound<'_, PyAny>) -> PyResult<HeaderMap> {
    let mut fields = HeaderMap::new();
    for header in headers.try_iter()? {
        let header = header?;
        let pair = header
            .cast::<PySequence>()
            .map_err(|_| not_a_pair(&header))?
            .to_tuple()?;
        if pair.len() != 2 {
            return Err(not_a_pair(&header));
        }
        let (name, value) = (pair.get_item(0)?, pair.get_item(1)?);
        let invalid =
            |what: &str| PyValueError::new_err(format!("Invalid {what} {}", repr(&name)));
        let known = HeaderName::from_bytes(&bytes(&name)?.unwrap_or_default());
        let known = known.map_err(|_| invalid("header name"))?;
        // The name only: the value may be a secret.
        let value = bytes(&value)?
            .and_then(|bytes| HeaderValue::from_bytes(head::trimmed(&bytes)).ok());
        let value = value.ok_or_else(|| invalid("value of header"))?;
        match Role::of(&known) {
            Role::Send => {
                fields.append(known, value);
            }
            Role::Length | Role::Omit => {}
        }
    }
    Ok(fields)
}

/// The bytes that a `str` or `bytes` stands for; `None` if it stands for none.
fn bytes<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Option<Cow<'a, [u8]>>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Some(Cow::Borrowed(bytes.as_bytes())));
    }
    let text = object
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err(format!("{} is not a string", repr(object))))?;
    Ok(head::latin1(text.to_str()?))
}
