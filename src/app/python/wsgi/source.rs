//! What an app returns: an iterable of `bytes`, pulled one by one, and closed once.

use std::collections::VecDeque;

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator};

use super::exchange::{Lease, class};
use crate::app::python::object::{self, Ref};
use crate::app::python::traceback;
use crate::error::AnyError;

/// An app's iterable; its `close()` is called when this is dropped, however the request ends.
pub(super) struct Returned {
    object: Ref,
}

impl Returned {
    pub(super) fn new(object: Ref) -> Self {
        Self { object }
    }

    pub(super) fn object(&self) -> &Ref {
        &self.object
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        let py = self.object.py();
        let closed = match self.object.getattr_opt(intern!(py, "close")) {
            Ok(Some(close)) => close.call0().map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::error!("Error closing a response\n{}", traceback::text(py, &error));
        }
    }
}

/// The chunks of a response still to come.
pub(in crate::app::python) struct Source {
    iterator: Bound<'static, PyIterator>,
    /// Pulled, and not given out yet.
    ready: VecDeque<Bytes>,
    /// The iterator has said that nothing more comes, or raised.
    ended: bool,
    produced: u64,
    /// `Content-Length`, if the app gave one.
    declared: Option<u64>,
    /// What the log calls the request.
    pub(super) title: String,
    /// Dropped before the lease: `close()` may use `start_response`.
    _returned: Returned,
    pub(super) lease: Lease,
}

impl Source {
    pub(super) fn new(
        iterator: Bound<'static, PyIterator>,
        returned: Returned,
        lease: Lease,
    ) -> Self {
        Self {
            iterator,
            ready: VecDeque::new(),
            ended: false,
            produced: 0,
            declared: None,
            title: String::new(),
            _returned: returned,
            lease,
        }
    }

    /// Pulls the first chunk, which the head waits for: an app may call `start_response` as late as that.
    ///
    /// # Errors
    /// What the app raised.
    pub(super) fn prime(&mut self) -> PyResult<()> {
        if let Some(chunk) = self.pull()? {
            self.produced += length(&chunk);
            self.ready.push_back(chunk);
            if !self.ended && object::is_exhausted(&self.iterator) {
                self.ended = true;
            }
        }
        Ok(())
    }

    /// What `write()` gathered comes before everything else.
    pub(super) fn prepend(&mut self, written: Vec<Bytes>) {
        for chunk in written.into_iter().rev() {
            self.produced += length(&chunk);
            self.ready.push_front(chunk);
        }
    }

    /// Tells how long the body is to be.
    ///
    /// # Errors
    /// What the app raised after its last chunk.
    pub(super) fn declare(&mut self, declared: Option<u64>) -> PyResult<()> {
        self.declared = declared;
        self.finish_if_whole()
    }

    /// All chunks as one, if none is to come.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        match (self.ended, self.ready.len()) {
            (true, 0) => Some(Bytes::new()),
            (true, 1) => self.ready.pop_front(),
            (true, _) => Some(Bytes::from(self.ready.drain(..).collect::<Vec<_>>().concat())),
            (false, _) => None,
        }
    }

    /// The next chunk, never an empty one.
    pub(in crate::app::python) fn next(&mut self) -> Option<PyResult<Bytes>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Some(Ok(chunk));
        }
        let chunk = match self.pull() {
            Ok(chunk) => chunk?,
            Err(error) => return Some(Err(error)),
        };
        self.produced += length(&chunk);
        match self.finish_if_whole() {
            Ok(()) => Some(Ok(chunk)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Logs what `next` gave.
    pub(in crate::app::python) fn failed(&self, error: &PyErr) -> AnyError {
        super::failed(self.iterator.py(), &self.title, error)
    }

    /// Whether `next` has nothing more to give.
    pub(in crate::app::python) fn is_done(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// Once the body is as long as it was said to be, nobody asks for more of it: what an app does after its last chunk
    /// has to be done now.
    fn finish_if_whole(&mut self) -> PyResult<()> {
        if self.declared.is_none_or(|declared| self.produced < declared) {
            return Ok(());
        }
        if let Some(excess) = self.pull()? {
            self.produced += length(&excess);
            self.ready.push_back(excess);
        }
        Ok(())
    }

    fn pull(&mut self) -> PyResult<Option<Bytes>> {
        while !self.ended {
            let chunk = match self.iterator.next() {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                None => {
                    self.ended = true;
                    break;
                }
            };
            let Ok(chunk) = chunk.cast::<PyBytes>() else {
                self.ended = true;
                return Err(not_bytes(&chunk));
            };
            let chunk = object::contents(chunk);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

fn not_bytes(chunk: &Ref) -> PyErr {
    PyTypeError::new_err(format!("a response's chunks must be bytes, not {}", class(chunk)))
}

fn length(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}
