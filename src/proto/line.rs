//! What a connection does for an app besides the answer: it sees the client leave, and sends interim responses.

use std::rc::Weak;
use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};

use super::connections::Phase;
use super::io::Wire;
use crate::app::{Client, Connection};

/// So much of what a client sends behind a request is read while the app has that.
const MOST_HELD: usize = 64 * 1024;

impl Wire {
    /// While the app has the request: sees whether the client leaves, where the app minds. The library does not look, as
    /// a client may close its sending half and wait for the answer; what it sends meanwhile is held. True if the
    /// connection is broken.
    pub(super) fn poll_departure(&self, cx: &mut Context<'_>) -> bool {
        if self.client.borrow().is_none()
            || self.ended.get()
            || self.watch().phase() != Phase::Handling
        {
            return false;
        }
        let mut inlet = self.inlet.borrow_mut();
        if inlet.in_body() || inlet.refusal().is_some() {
            return false;
        }
        let mut front = self.front.as_ref().map(|front| front.borrow_mut());
        let mut held = front.as_ref().map_or(inlet.held(), |front| front.held());
        while held < MOST_HELD {
            let before = held;
            let read = self.poll_receive(cx, MOST_HELD, |bytes| {
                held += bytes.len();
                match &mut front {
                    Some(front) => front.hold(bytes),
                    None => inlet.hold(bytes),
                }
            });
            match read {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if held > before => {}
                Poll::Ready(end) => {
                    self.ended.set(true);
                    drop((inlet, front));
                    let client = self.client.borrow_mut().take();
                    if let Some(client) = client.and_then(|client| client.upgrade()) {
                        client.left();
                    }
                    return end.is_err();
                }
            }
        }
        false
    }
}

impl Connection for Wire {
    fn mind(&self, client: Weak<dyn Client>) {
        *self.client.borrow_mut() = Some(client);
    }

    /// Not while the library has part of an earlier answer still to write: this would come into the midst of it. Nor to a
    /// front end that speaks uwsgi, which takes the first head for the answer's.
    fn inform(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.stalled.get() || self.front.is_some() {
            return false;
        }
        let mut out = self.out.borrow_mut();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        for (name, value) in headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        drop(out);
        // At once: its task may not have a turn before the app has done its work.
        self.send_now();
        true
    }
}
