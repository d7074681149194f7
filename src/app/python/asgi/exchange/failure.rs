//! How a request ends whose app has not seen it to its end.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use pyo3::intern;
use pyo3::prelude::*;

use super::super::output::{AsgiBody, Phase};
use super::super::{AsgiFailed, ClientDisconnected};
use super::{Exchange, Presence};
use crate::app::Forsaken;
use crate::app::python::object::Ref;
use crate::app::python::traceback;

impl Exchange {
    /// The app is done; whatever is missing of the response is not coming.
    pub(in super::super) fn conclude(&self, error: Option<&PyErr>) {
        let py = self.asgi.py();
        let dialogue = self.dialogue.as_ref();
        if dialogue.is_some_and(|dialogue| dialogue.conclude(self, error))
            || (self.is_complete() && error.is_none())
        {
            return;
        }
        let gone = self.presence.get() == Presence::Gone;
        let left = self.presence.get() != Presence::Here;
        let failed = match error {
            Some(error) if is_cancelled(py, error) => AsgiFailed::Cancelled,
            Some(error) if left && is_disconnect(py, error) => AsgiFailed::Cancelled,
            Some(error) => AsgiFailed::Raised(traceback::text(py, error)),
            None => match self.output.borrow().phase {
                Phase::Unstarted | Phase::Started(..) => AsgiFailed::Silent,
                Phase::Streaming(_) | Phase::Trailing | Phase::Complete => {
                    AsgiFailed::Unfinished
                }
            },
        };
        // Without a client there is nobody to answer, and no fault in that.
        let forsaken = left && !matches!(failed, AsgiFailed::Raised(_));
        let mut output = self.output.borrow_mut();
        let untold = match output.phase {
            _ if gone => Some(failed),
            Phase::Unstarted | Phase::Started(..) => {
                output.answer = Some(if forsaken {
                    Ok(Box::new(self::forsaken()))
                } else {
                    Err(failed.into())
                });
                None
            }
            // The client has its answer, or takes no more.
            Phase::Complete => Some(failed),
            Phase::Streaming(_) | Phase::Trailing if output.sated => Some(failed),
            Phase::Streaming(_) | Phase::Trailing => {
                output.finish(Err(if forsaken {
                    Forsaken.into()
                } else {
                    failed.into()
                }));
                None
            }
        };
        drop(output);
        match untold {
            Some(failed @ AsgiFailed::Raised(_)) => {
                tracing::error!(
                    "Error in the application after the end of request {}: {failed}",
                    self.name()
                );
            }
            Some(AsgiFailed::Silent | AsgiFailed::Unfinished | AsgiFailed::Cancelled) => {}
            None => self.answered(),
        }
    }
}

/// What a Task that is done raised.
pub(super) fn outcome(task: &Ref) -> Option<PyErr> {
    match task.call_method0(intern!(task.py(), "exception")) {
        Ok(error) if error.is_none() => None,
        Ok(error) => Some(PyErr::from_value(error)),
        // It was cancelled.
        Err(error) => Some(error),
    }
}

pub(super) fn is_cancelled(py: Python<'static>, error: &PyErr) -> bool {
    py.import("asyncio")
        .and_then(|asyncio| asyncio.getattr("CancelledError"))
        .is_ok_and(|kind| error.is_instance(py, &kind))
}

/// Whether it is what our `send()` raises, or was raised because of that.
pub(super) fn is_disconnect(py: Python<'static>, error: &PyErr) -> bool {
    let mut next = Some(error.clone_ref(py));
    for _ in 0..16 {
        let Some(error) = next else { return false };
        if error.is_instance_of::<ClientDisconnected>(py) {
            return true;
        }
        next = error.cause(py).or_else(|| {
            let context = error.value(py).getattr(intern!(py, "__context__")).ok()?;
            (!context.is_none()).then(|| PyErr::from_value(context))
        });
    }
    false
}

/// What a client gets that has closed its half, and for whom the app has done nothing since: nginx's status for that.
fn forsaken() -> Response<AsgiBody> {
    let mut response = Response::new(AsgiBody::whole(Bytes::new()));
    if let Ok(status) = StatusCode::from_u16(499) {
        *response.status_mut() = status;
    }
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
