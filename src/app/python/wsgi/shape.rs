//! Environs of requests that have the same header fields, in the same order, as earlier ones.
//!
//! A client sends the same fields with each request, most of them with the same values, and so do all clients of its kind.
//! So the templates of such environs have the fields too, each with the value that came twice in a row: a request's
//! environ is a copy in which only what differs is set.
//!
//! A value of one request must never be seen in another's environ. What keeps it so is one rule: a field counts as
//! [`settled`](Field::settled) only while the template has the very text that was made of the very bytes that are compared
//! with; what is not settled is set in each environ.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustc_hash::FxHasher;

use super::environ::{Keys, Known, SCRIPT_NAME};
use crate::app::python::object;

type Text = Bound<'static, PyString>;

/// What is known of some shapes, the likelier ones first.
pub(super) struct Shapes {
    kept: RefCell<Vec<Rc<Shape>>>,
    /// Hashes of shapes that came once, each at its own place: a shape that comes again is kept.
    once: RefCell<[u64; Shapes::ONCE]>,
}

impl Default for Shapes {
    fn default() -> Self {
        Self {
            kept: RefCell::default(),
            once: RefCell::new([0; Self::ONCE]),
        }
    }
}

/// A peer on a unix socket has no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Unix,
}

/// The fields of a request whose values are not those of the template, a bit each.
#[derive(Clone, Copy)]
pub(super) struct Changed(u64);

impl Shapes {
    /// How many are kept.
    const KEPT: usize = 16;
    /// How many are remembered as having come once.
    const ONCE: usize = 64;
    /// The most fields of a shape: a bit each.
    const FIELDS: usize = 64;
    /// The most bytes in the names of a shape.
    const NAMES: usize = 2048;

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.kept.borrow().len()
    }

    /// The shape of `headers`, where it is known, and what differs from its template.
    pub(super) fn find(
        &self,
        headers: &HeaderMap,
        transport: Transport,
    ) -> Option<(Rc<Shape>, Changed)> {
        let mut kept = self.kept.borrow_mut();
        for index in 0..kept.len() {
            let shape = kept.get(index)?;
            if let Some(changed) = shape.compare(headers, transport) {
                let shape = Rc::clone(shape);
                if let Some(before) = index.checked_sub(1) {
                    kept.swap(before, index);
                }
                return Some((shape, changed));
            }
        }
        None
    }

    /// Keeps the shape of `headers` if it comes for the second time. `key` tells the environ's keys, of names that are
    /// known.
    pub(super) fn learn(
        &self,
        headers: &HeaderMap,
        transport: Transport,
        base: &Bound<'static, PyDict>,
        host: &Text,
        key: impl Fn(&HeaderName) -> Option<(Text, bool)>,
    ) -> PyResult<()> {
        let fits = headers.len() == headers.keys_len()
            && headers.len() <= Self::FIELDS
            && headers
                .keys()
                .map(|name| name.as_str().len())
                .sum::<usize>()
                <= Self::NAMES;
        if !fits || !self.came_before(headers, transport) {
            return Ok(());
        }
        let Some(keys) = headers.keys().map(key).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        // May collect garbage, and so run any code: nothing is borrowed.
        let template = base.copy()?;
        if !headers.contains_key(HOST) {
            template.del_item(host)?;
        }
        let empty = PyString::new(base.py(), "");
        for (key, _) in &keys {
            template.set_item(key, &empty)?;
        }
        let fields = keys.into_iter().map(|(key, keep)| Field {
            key,
            keep,
            raw: Vec::new(),
            text: empty.clone(),
            settled: false,
        });
        let shape = Rc::new(Shape {
            transport,
            mounted: headers.contains_key(SCRIPT_NAME),
            names: headers.keys().cloned().collect(),
            template,
            version: Cell::new(0),
            fields: RefCell::new(fields.collect()),
            ends: RefCell::new(None),
            latest: Cell::new(0),
        });
        let mut kept = self.kept.borrow_mut();
        let last = if kept.len() < Self::KEPT {
            None
        } else {
            kept.pop()
        };
        kept.push(shape);
        drop(kept);
        drop(last);
        Ok(())
    }

    fn came_before(&self, headers: &HeaderMap, transport: Transport) -> bool {
        let mut hasher = FxHasher::default();
        (transport == Transport::Unix).hash(&mut hasher);
        for name in headers.keys() {
            name.as_str().hash(&mut hasher);
        }
        // Zero is the mark of an empty place.
        let hash = hasher.finish() | 1;
        let place = usize::try_from(hash >> 32).unwrap_or(0) % Self::ONCE;
        let mut once = self.once.borrow_mut();
        once.get_mut(place)
            .is_some_and(|once| std::mem::replace(once, hash) == hash)
    }
}

/// The names of some fields in their order, and what the requests that have them are made of.
pub(super) struct Shape {
    transport: Transport,
    /// One of the fields is `SCRIPT_NAME`.
    pub(super) mounted: bool,
    names: Vec<HeaderName>,
    template: Bound<'static, PyDict>,
    /// Counts the changes to the template.
    version: Cell<u64>,
    fields: RefCell<Vec<Field>>,
    /// The connection whose strings the template has.
    ends: RefCell<Option<Rc<Known>>>,
    /// The address of the connection that came last.
    latest: Cell<usize>,
}

struct Field {
    key: Text,
    /// It is no secret, and not different each time.
    keep: bool,
    /// The last value's bytes, and what was made of them.
    raw: Vec<u8>,
    text: Text,
    /// The template has `text`.
    settled: bool,
}

impl Field {
    /// Longer values are not worth the comparison.
    const LONGEST: usize = 512;
}

impl Shape {
    /// What differs from the template; `None` if the names are others, or come in another order.
    fn compare(&self, headers: &HeaderMap, transport: Transport) -> Option<Changed> {
        let count = self.names.len();
        if headers.len() != count || headers.keys_len() != count || transport != self.transport
        {
            return None;
        }
        let fields = self.fields.borrow();
        let mut changed = 0;
        let mut bit = 1_u64;
        for (((name, value), known), field) in headers.iter().zip(&self.names).zip(&*fields) {
            if name != known {
                return None;
            }
            if !field.settled || field.raw != value.as_bytes() {
                changed |= bit;
            }
            bit <<= 1;
        }
        Some(Changed(changed))
    }

    /// The environ of a request of this shape, on the connection that `known` is of: its fields and its ends.
    pub(super) fn environ(
        &self,
        headers: &HeaderMap,
        changed: Changed,
        keys: &Keys,
        known: &Rc<Known>,
    ) -> PyResult<Bound<'static, PyDict>> {
        let version = self.version.get();
        // May collect garbage, and so run any code, even another request of this shape.
        let environ = self.template.copy()?;
        if self.version.get() != version {
            // What was compared is not what was copied.
            for (value, field) in headers.values().zip(&*self.fields.borrow()) {
                environ
                    .set_item(&field.key, object::latin1(environ.py(), value.as_bytes())?)?;
            }
            known.set(&environ, keys, None)?;
            return Ok(environ);
        }
        let mut left = changed.0;
        if left != 0 {
            let mut fields = self.fields.borrow_mut();
            for (value, field) in headers.values().zip(&mut *fields) {
                if left & 1 != 0 {
                    self.set(&environ, field, value)?;
                }
                left >>= 1;
            }
        }
        self.connect(&environ, keys, known)?;
        Ok(environ)
    }

    /// Sets a field in an environ; in the template as well, where the value came before.
    fn set(
        &self,
        environ: &Bound<'static, PyDict>,
        field: &mut Field,
        value: &HeaderValue,
    ) -> PyResult<()> {
        let py = environ.py();
        let bytes = value.as_bytes();
        if !field.keep || bytes.len() > Field::LONGEST {
            return environ.set_item(&field.key, object::latin1(py, bytes)?);
        }
        if field.raw != bytes {
            // From here on the template's value is an old one.
            field.settled = false;
            field.text = object::latin1(py, bytes)?;
            field.raw.clear();
            field.raw.extend_from_slice(bytes);
            return environ.set_item(&field.key, &field.text);
        }
        if !field.settled {
            self.version.set(self.version.get() + 1);
            self.template.set_item(&field.key, &field.text)?;
            field.settled = true;
        }
        environ.set_item(&field.key, &field.text)
    }

    /// Sets the strings of a connection; in the template as well, where it is the one of the last request.
    fn connect(
        &self,
        environ: &Bound<'static, PyDict>,
        keys: &Keys,
        known: &Rc<Known>,
    ) -> PyResult<()> {
        let has = self.ends.borrow().clone();
        if has.as_ref().is_some_and(|has| Rc::ptr_eq(has, known)) {
            return Ok(());
        }
        known.set(environ, keys, has.as_deref())?;
        let address = Rc::as_ptr(known).addr();
        if self.latest.replace(address) == address {
            self.version.set(self.version.get() + 1);
            // While it is being changed it is nobody's.
            let old = self.ends.take();
            known.set(&self.template, keys, None)?;
            let none = self.ends.replace(Some(Rc::clone(known)));
            drop((old, none));
        }
        Ok(())
    }
}
