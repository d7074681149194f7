//! A small file that leaves with the head before it, in one piece, which is read where it is sent from.
//!
//! The HTTP library is told of so many bytes that it need not write ([`Piece::Sent`](super::sending::Piece)); it then writes
//! the head, and the file is sent behind that. Nothing can come between the two: until the file is on its way the library
//! gets no byte of the next request, so it has nothing to say to that.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll};

use super::io::Wire;
use super::sending::COPIED;
use crate::app::FileRange;
use crate::files::append_cached;

/// Room for the head before the file.
const HEAD: usize = 1024;

/// A file that waits for its head.
#[derive(Debug, Default)]
pub(super) struct Attached {
    waits: Cell<bool>,
    /// [`HEAD`] bytes, and the file.
    bytes: RefCell<Vec<u8>>,
}

impl Attached {
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.waits.get()
    }
}

impl Wire {
    /// Takes a file that is small and in memory, for the library's next write; false where it is not so.
    pub(super) fn attach(&self, range: &FileRange) -> bool {
        if self.attached.waits() || range.left() > COPIED {
            return false;
        }
        let Ok(length) = usize::try_from(range.left()) else {
            return false;
        };
        let mut bytes = self.shared.spare.take();
        bytes.resize(HEAD, 0);
        let read = append_cached(range.file(), &mut bytes, length, range.next());
        let whole = matches!(read, Ok(read) if read == length);
        if whole {
            *self.attached.bytes.borrow_mut() = bytes;
            self.attached.waits.set(true);
        } else {
            self.shared.spare.replace(bytes);
        }
        whole
    }

    /// Takes what the library writes, the head of the file that waits at its end, and sends both.
    #[inline(never)]
    pub(super) fn poll_send_attached(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = self.attached.bytes.take();
        self.attached.waits.set(false);
        let start = HEAD.checked_sub(head.len());
        let before = start.and_then(|start| bytes.get_mut(start..HEAD));
        let result = match (start, before) {
            (Some(start), Some(before)) if self.out.borrow().is_empty() => {
                before.copy_from_slice(head);
                let mut sent = start;
                let polled = self.poll_send(cx, &bytes, &mut sent);
                let rest = bytes.get(sent..).unwrap_or_default();
                self.out.borrow_mut().extend_from_slice(rest);
                polled
            }
            _ => {
                let file = bytes.get(HEAD..).unwrap_or_default();
                let mut out = self.out.borrow_mut();
                out.reserve(head.len() + file.len());
                out.extend_from_slice(head);
                out.extend_from_slice(file);
                drop(out);
                self.poll_flush(cx)
            }
        };
        self.shared.spare.replace(bytes);
        match result {
            // What the socket has not taken yet is held here.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(head.len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// The file that waits has a head that was written before: it comes behind what is gathered.
    #[cold]
    pub(super) fn detach(&self) {
        let bytes = self.attached.bytes.take();
        self.attached.waits.set(false);
        let file = bytes.get(HEAD..).unwrap_or_default();
        self.out.borrow_mut().extend_from_slice(file);
        self.shared.spare.replace(bytes);
    }
}
