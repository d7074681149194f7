//! Who waits in `receive()` and `send()`.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;

use super::super::ClientDisconnected;
use super::super::asyncio::Asyncio;
use super::{Exchange, Presence};
use crate::app::python::awaitable::{Step, Stepped};
use crate::app::python::object::Ref;

/// So many futures are kept before it is asked which of them nobody waits for any more.
const UNASKED: usize = 4;

/// The futures of those who wait for one thing.
#[derive(Default)]
pub(super) struct Waiting(RefCell<Vec<Ref>>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// One more waits.
    pub(super) fn join(&self, asgi: &Asyncio) -> PyResult<Stepped> {
        let future = asgi.future()?;
        let mut futures = self.0.take();
        if futures.len() >= UNASKED {
            // Who has given up has not said so here.
            let done = |future: &Ref| {
                let done = future.call_method0(intern!(asgi.py(), "done"));
                done.and_then(|done| done.is_truthy()).unwrap_or(true)
            };
            futures.retain(|future| !done(future));
        }
        futures.push(future.clone());
        self.0.borrow_mut().append(&mut futures);
        Ok(Stepped::Wait(future))
    }

    /// Lets all of them look again.
    pub(super) fn tell(&self, asgi: &Asyncio) {
        if self.is_empty() {
            return;
        }
        let futures = self.0.take();
        for future in &futures {
            asgi.resolve(future);
        }
    }
}

/// `receive()`, when it is awaited.
pub(super) struct Receive(pub(super) Rc<Exchange>);

impl Step for Receive {
    fn step(&mut self) -> PyResult<Stepped> {
        match self.0.next_message()? {
            Some(message) => Ok(Stepped::Done(Some(message))),
            None => self.0.receivers.join(&self.0.asgi),
        }
    }
}

/// `send()` of a message that does not fit.
pub(super) struct Drained(pub(super) Rc<Exchange>);

impl Step for Drained {
    fn step(&mut self) -> PyResult<Stepped> {
        if self.0.presence.get() == Presence::Gone {
            return Err(ClientDisconnected::new_err("the client has gone"));
        }
        if self.0.output.borrow().has_room() {
            return Ok(Stepped::Done(None));
        }
        self.0.senders.join(&self.0.asgi)
    }
}
