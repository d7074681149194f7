//! The header names that apps have used, and what each was last time.
//!
//! An app's header names are nearly always literals of its code, so the same objects (`str` in WSGI, `bytes` in ASGI) come
//! with each response: they are known by address, and kept alive so that an address keeps its meaning. Many values are
//! literals as well, and most of the others are what they were the last time.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use http::header::{HeaderName, HeaderValue, SET_COOKIE};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

/// The names; of each, what `R` says of it.
pub(super) struct Names<R> {
    known: FxHashMap<usize, Known<R>>,
    /// The last one that was not kept, once [`Names::CAP`] are.
    passing: Option<Known<R>>,
}

/// A name.
pub(super) struct Known<R> {
    #[expect(dead_code, reason = "keeps the address taken")]
    object: Option<Py<PyAny>>,
    pub(super) name: HeaderName,
    pub(super) role: R,
    last: Option<Last>,
}

/// A header's value, and the object it came as.
struct Last {
    object: Py<PyAny>,
    value: HeaderValue,
}

impl<R> Default for Names<R> {
    fn default() -> Self {
        Self {
            known: FxHashMap::default(),
            passing: None,
        }
    }
}

impl<R> Names<R> {
    const CAP: usize = 512;

    /// The header name that `object` is, which `spelt` tells the bytes of; `None` if they are none. `object` is immutable.
    pub(super) fn find<'a>(
        &mut self,
        object: &Bound<'_, PyAny>,
        spelt: impl FnOnce() -> PyResult<&'a [u8]>,
        role: impl FnOnce(&HeaderName) -> R,
    ) -> PyResult<Option<&mut Known<R>>> {
        let room = self.known.len() < Self::CAP;
        let vacant = match self.known.entry(object.as_ptr().addr()) {
            Entry::Occupied(known) => return Ok(Some(known.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let Ok(name) = HeaderName::from_bytes(spelt()?) else {
            return Ok(None);
        };
        let known = Known {
            object: room.then(|| object.clone().unbind()),
            role: role(&name),
            name,
            last: None,
        };
        Ok(Some(if room {
            vacant.insert(known)
        } else {
            self.passing.insert(known)
        }))
    }
}

impl<R> Known<R> {
    /// Longer values are not worth the comparison.
    const LONGEST: usize = 128;

    /// `object` as a value of this header, shared with the last response's where it is the same; `None` if it cannot be one.
    /// `bytes` tells what it stands for. It is kept only where it is `plain`: an object of a subclass could run code when
    /// it is given up.
    pub(super) fn value<'a>(
        &mut self,
        object: &Bound<'_, PyAny>,
        plain: bool,
        bytes: impl FnOnce() -> PyResult<Option<Cow<'a, [u8]>>>,
    ) -> PyResult<Option<HeaderValue>> {
        if let Some(last) = &self.last
            && last.object.is(object)
        {
            return Ok(Some(last.value.clone()));
        }
        let Some(bytes) = bytes()? else {
            return Ok(None);
        };
        let value = match &self.last {
            Some(last) if last.value.as_bytes() == &*bytes => last.value.clone(),
            Some(_) | None => match HeaderValue::from_bytes(&bytes) {
                Ok(value) => value,
                Err(_) => return Ok(None),
            },
        };
        if plain && bytes.len() <= Self::LONGEST && self.name != SET_COOKIE {
            self.last = Some(Last {
                object: object.clone().unbind(),
                value: value.clone(),
            });
        }
        Ok(Some(value))
    }
}
