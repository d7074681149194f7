//! What an app returns: an iterable of `bytes`, pulled one by one, and closed once.

use std::collections::VecDeque;

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyTuple};

use super::exchange::{Lease, class};
use crate::app::python::named::Named;
use crate::app::python::object::{self, Ref};
use crate::app::python::shared::Away;
use crate::app::python::traceback;

/// An app's iterable; its `close()` is called when this is dropped, however the request ends.
pub(in crate::app::python) struct Returned {
    object: Ref,
    request: Named,
    /// It is on its way to the thread that will close it.
    gone: bool,
}

impl Returned {
    pub(super) fn new(object: Ref, request: Named) -> Self {
        Self {
            object,
            request,
            gone: false,
        }
    }

    /// On its way to another thread.
    pub(in crate::app::python) fn into_away(mut self) -> (Away, Named) {
        self.gone = true;
        (Away::new(self.object.clone()), self.request.clone())
    }

    /// Back from there.
    pub(in crate::app::python) fn of(
        (object, request): (Away, Named),
        py: Python<'static>,
    ) -> Self {
        Self::new(object.home(py), request)
    }

    pub(super) fn object(&self) -> &Ref {
        &self.object
    }

    /// The request that it answers.
    pub(super) fn request(&self) -> &Named {
        &self.request
    }

    fn close(&self) -> PyResult<()> {
        match self
            .object
            .getattr_opt(intern!(self.object.py(), "close"))?
        {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        if let Err(error) = self.close() {
            let text = traceback::text(self.object.py(), &error);
            tracing::error!("Error closing a response: {}\n{text}", self.request);
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
    /// Dropped before the lease: `close()` may use `start_response`.
    returned: Returned,
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
            returned,
            lease,
        }
    }

    /// Pulls the first chunk, which the head waits for: an app may call `start_response` as late as that.
    ///
    /// # Errors
    /// What the app raised.
    pub(super) fn prime(&mut self) -> PyResult<()> {
        if let Some(chunk) = self.pull()? {
            self.ready.push_back(chunk);
            self.ended |= object::is_exhausted(&self.iterator);
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

    /// How long the body is to be, if the app has said so.
    pub(super) fn declare(&mut self, declared: Option<u64>) {
        self.declared = declared;
    }

    /// The whole body, if it is here: the server need not wait for what the app does afterwards, which is
    /// [`finish`](Self::finish)'s.
    pub(in crate::app::python) fn take_whole(&mut self) -> Option<Bytes> {
        if !self.ended && !self.is_complete() {
            return None;
        }
        let mut ready = self.ready.drain(..);
        let (first, second) = (ready.next(), ready.next());
        match (first, second) {
            (None, _) => Some(Bytes::new()),
            (Some(only), None) => Some(only),
            (Some(first), Some(second)) => {
                let mut whole = Vec::from(first);
                whole.extend_from_slice(&second);
                ready.for_each(|chunk| whole.extend_from_slice(&chunk));
                Some(whole.into())
            }
        }
    }

    /// A chunk that was pulled already.
    pub(in crate::app::python) fn take_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether all of it is in memory, so that nothing is made by pulling it.
    pub(in crate::app::python) fn is_at_hand(&self) -> bool {
        let object = self.returned.object();
        object.cast_exact::<PyList>().is_ok() || object.cast_exact::<PyTuple>().is_ok()
    }

    /// The next chunk, never an empty one, and none beyond what the app announced: that is for [`finish`](Self::finish).
    pub(in crate::app::python) fn next(&mut self) -> Option<PyResult<Bytes>> {
        match self.ready.pop_front() {
            Some(chunk) => Some(Ok(chunk)),
            None if self.is_complete() => None,
            None => self.pull().transpose(),
        }
    }

    /// Whether as much was pulled as the app has announced.
    fn is_complete(&self) -> bool {
        self.declared
            .is_some_and(|declared| self.produced >= declared)
    }

    /// The request that it answers.
    pub(in crate::app::python) fn request(&self) -> &Named {
        self.returned.request()
    }

    pub(super) fn py(&self) -> Python<'static> {
        self.iterator.py()
    }

    /// Lets the app do what it does after the last chunk of a body that was sent whole, then closes.
    pub(in crate::app::python) fn finish(mut self) {
        if !self.is_complete() {
            // Cut short: nobody wants the rest.
            return;
        }
        match self.pull() {
            Ok(None) => {}
            Ok(Some(_)) => {
                tracing::error!(
                    "An application's body is longer than its Content-Length: {}",
                    self.request()
                );
            }
            Err(error) => {
                let text = traceback::text(self.iterator.py(), &error);
                tracing::error!(
                    "Error after the end of a response: {}\n{text}",
                    self.request()
                );
            }
        }
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
                self.produced += length(&chunk);
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

fn not_bytes(chunk: &Ref) -> PyErr {
    PyTypeError::new_err(format!(
        "a response's chunks must be bytes, not {}",
        class(chunk)
    ))
}

fn length(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}
