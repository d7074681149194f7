//! What an app does after its last chunk, and its `close()`: only once the response is on its way.
//!
//! Both may take long (a session is committed, a log written). They never run while a connection is being served, but
//! in a task of their own, in the request's context.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::Waker;

use super::source::{Returned, Source};
use crate::app::python::object::Context;

/// What is left of requests.
#[derive(Default)]
pub(in crate::app::python) struct Later {
    queue: RefCell<VecDeque<(Rest, Context)>>,
    task: RefCell<Option<Waker>>,
}

/// What is left of one request.
pub(in crate::app::python) enum Rest {
    /// An iterable, to the end or not.
    Source(Source),
    /// A file's wrapper.
    File(Returned),
}

impl Later {
    /// The task that does it.
    pub(in crate::app::python) fn done_by(&self, task: &Waker) {
        if self.task.borrow().is_none() {
            self.task.replace(Some(task.clone()));
        }
    }

    /// Leaves `rest` for later.
    pub(in crate::app::python) fn leave(&self, rest: Rest, context: Context) {
        self.queue.borrow_mut().push_back((rest, context));
        self.wake();
    }

    /// Wakes the task.
    pub(in crate::app::python) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// How much there is.
    pub(in crate::app::python) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Does the first of it.
    pub(in crate::app::python) fn do_one(&self) {
        let first = self.queue.borrow_mut().pop_front();
        if let Some((rest, context)) = first {
            // Should the context be entered already, the rest is dropped all the same.
            let _ = context.run(|| match rest {
                Rest::Source(source) => source.finish(),
                Rest::File(returned) => drop(returned),
            });
        }
    }
}
