//! A connection's reads where a front end speaks uwsgi.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode, Version, request, response};
use hyper::rt::ReadBufCursor;

use super::{Front, Told};
use crate::proto::guard::Refusal;
use crate::proto::io::{SCRATCH, Wire};

impl Wire {
    /// What [`Wire::poll_read`] is to a client's connection.
    pub(in crate::proto) fn poll_read_uwsgi(
        &self,
        front: &RefCell<Front>,
        cx: &mut Context<'_>,
        to: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let rules = &self.shared.rules;
        let inlet = &mut *self.inlet.borrow_mut();
        let front = &mut *front.borrow_mut();
        loop {
            let mut begun = false;
            let clear = inlet.take(rules, |head, repeated| {
                self.begin(head, repeated);
                begun = true;
            });
            let taken = clear.len().min(to.remaining());
            to.put_slice(clear.get(..taken).unwrap_or_default());
            inlet.consume(taken);
            if begun {
                front.begin(inlet.facts().framing);
            }
            if taken > 0 {
                return Poll::Ready(Ok(()));
            }
            if inlet.refusal().is_some() {
                self.seal(inlet);
                return Poll::Ready(Ok(()));
            }
            match front.next() {
                Ok(Some(bytes)) => {
                    inlet.hold(&bytes);
                    continue;
                }
                Ok(None) => {}
                Err(refusal) => {
                    inlet.refuse(refusal);
                    continue;
                }
            }
            if self.ended.get() {
                if front.held() > 0 {
                    let status = StatusCode::BAD_REQUEST;
                    inlet.refuse(Refusal::new(status, "incomplete uwsgi packet"));
                }
                self.seal(inlet);
                return Poll::Ready(Ok(()));
            }
            let body = inlet.in_body();
            let room = if body {
                front.room(to.remaining())
            } else {
                SCRATCH
            };
            let mut read = 0;
            let received = self.poll_receive(cx, room, |bytes| {
                read = bytes.len();
                if body {
                    // The guard has nothing to say about a body whose length is known and not reached.
                    let pass = inlet.offer(rules, bytes, |_, _| ());
                    to.put_slice(bytes.get(..pass).unwrap_or_default());
                    front.passed(read);
                } else {
                    front.hold(bytes);
                }
            });
            match received {
                Poll::Ready(Ok(())) if body && read > 0 => {
                    self.watch().received(read);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.ended.set(true);
                    self.seal(inlet);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => ready!(self.wait(inlet, front.held() > 0)),
            }
        }
    }

    /// What the front end says of the request being served, whose head it completes; once.
    #[inline]
    pub(in crate::proto) fn told(&self, parts: &mut request::Parts) -> Option<Told> {
        let front = self.front.as_ref()?;
        front.borrow_mut().tell(parts, self.watch().ends())
    }

    /// Makes an answer one that a front end understands: in no transfer coding, which front ends pass on as it is, and
    /// with a word on whether the connection is kept. `delimited` if the answer tells its own length.
    #[inline]
    pub(in crate::proto) fn speak_uwsgi(&self, parts: &mut response::Parts, delimited: bool) {
        let Some(front) = &self.front else { return };
        parts.version = Version::HTTP_10;
        let connection = if delimited && front.borrow().is_kept() {
            HeaderValue::from_static("keep-alive")
        } else {
            HeaderValue::from_static("close")
        };
        if !parts.headers.contains_key(CONNECTION) {
            parts.headers.insert(CONNECTION, connection);
        }
    }
}
