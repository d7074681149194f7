//! What one request came on, as its answer sees it: a connection of HTTP/1, or a stream of HTTP/2.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::response;

use super::access::Record;
use super::connections::Watch;
use super::guard::Refusal;
use super::http::Shared;
use super::io::Wire;
use super::sending::{Failed, Sending};
use crate::app::FileRange;

/// What an answer is carried by.
pub(crate) trait Carrier: 'static {
    /// It is a connection: answers may end it, keep it, or make it one of another protocol, and say so in their head
    /// (RFC 9110 section 7.6.1). A stream's may not (RFC 9113 section 8.2.2).
    const IS_CONNECTION: bool;

    /// What all connections of the worker share.
    fn shared(&self) -> &Shared;

    /// Who keeps the deadlines of this request.
    fn watch(&self) -> &Rc<Watch>;

    /// A response body must wait; its task is woken when the client has read enough.
    fn throttle(&self) -> bool;

    /// A response body hands on so many bytes.
    fn hand_on(&self, bytes: usize);

    /// Which turn of its task it is, where it may ask for the same body several times in one.
    fn turn(&self) -> Option<u32>;

    /// Whether the kernel can send files on it.
    fn takes_files(&self) -> bool;

    /// Takes a small file that is in memory, to be sent behind the head; false where that cannot be.
    fn attach(&self, range: &FileRange) -> bool;

    /// Sends a file, once the head before it has been taken.
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<(), Failed>>;

    /// Why the request must not be answered by the app any more.
    fn spoilt(&self) -> Option<Refusal>;

    /// The request's body broke while the app still had it.
    fn spoilt_in_use(&self) -> bool;

    /// The head of an answer as the peer understands it; `delimited` if the answer tells its own length.
    fn settle(&self, parts: &mut response::Parts, delimited: bool);

    /// The answer that is about to be sent makes it a connection of another protocol.
    fn switch(&self, record: Option<Box<Record>>);
}

impl Carrier for Wire {
    const IS_CONNECTION: bool = true;

    #[inline]
    fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    fn watch(&self) -> &Rc<Watch> {
        self.watch()
    }

    #[inline]
    fn throttle(&self) -> bool {
        self.throttle()
    }

    #[inline]
    fn hand_on(&self, bytes: usize) {
        self.hand_on(bytes);
    }

    #[inline]
    fn turn(&self) -> Option<u32> {
        Some(self.turn())
    }

    #[inline]
    fn takes_files(&self) -> bool {
        self.takes_files()
    }

    #[inline]
    fn attach(&self, range: &FileRange) -> bool {
        self.attach(range)
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<(), Failed>> {
        self.poll_send_file(cx, sending)
    }

    #[inline]
    fn spoilt(&self) -> Option<Refusal> {
        self.spoilt()
    }

    #[inline]
    fn spoilt_in_use(&self) -> bool {
        self.spoilt_in_use()
    }

    #[inline]
    fn settle(&self, parts: &mut response::Parts, delimited: bool) {
        self.speak_uwsgi(parts, delimited);
    }

    #[inline]
    fn switch(&self, record: Option<Box<Record>>) {
        self.upgrade.promise(record);
    }
}
