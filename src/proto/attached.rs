//! A small file that leaves with the head before it, in one piece, which is read where it is sent from.
//!
//! The HTTP library is told of so many bytes that it need not write ([`Piece::Sent`](super::sending::Piece)); it then writes
//! the head, and the file is sent behind that. Nothing can come between the two: until the file is on its way the library
//! gets no byte of the next request, so it has nothing to say to that.
//!
//! What was read last is kept: requests of one turn that share a file share its bytes.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use super::io::Wire;
use super::sending::COPIED;
use crate::app::FileRange;
use crate::files::append_cached;

/// Room for the head before the file.
const HEAD: usize = 1024;

/// Part of a file, with room before it.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// [`HEAD`] bytes, and the file's.
    bytes: Vec<u8>,
    /// What they are of. A file is opened anew in each turn, so this one is no other.
    file: Weak<File>,
    from: u64,
}

impl Block {
    /// Takes all of `range`, as far as it is in memory; false where it is not.
    fn read(&mut self, range: &FileRange, length: usize) -> bool {
        let is_same = std::ptr::eq(self.file.as_ptr(), Arc::as_ptr(range.file()))
            && self.from == range.next()
            && self.bytes.len() == HEAD + length;
        if is_same {
            return true;
        }
        self.file = Weak::new();
        self.bytes.resize(HEAD, 0);
        let read = append_cached(range.file(), &mut self.bytes, length, range.next());
        let whole = matches!(read, Ok(read) if read == length);
        if whole {
            self.file = Arc::downgrade(range.file());
            self.from = range.next();
        }
        whole
    }
}

/// A file that waits for its head.
#[derive(Debug, Default)]
pub(super) struct Attached {
    waits: Cell<bool>,
    block: RefCell<Block>,
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
        let mut block = self.shared.spare.take();
        let whole = block.read(range, length);
        if whole {
            *self.attached.block.borrow_mut() = block;
            self.attached.waits.set(true);
        } else {
            self.shared.spare.replace(block);
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
        let mut block = self.attached.block.take();
        let bytes = &mut block.bytes;
        self.attached.waits.set(false);
        let start = HEAD.checked_sub(head.len());
        let before = start.and_then(|start| bytes.get_mut(start..HEAD));
        let result = match (start, before) {
            (Some(start), Some(before)) if self.out.borrow().is_empty() => {
                before.copy_from_slice(head);
                let mut sent = start;
                let polled = self.poll_send(cx, bytes, &mut sent);
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
        self.shared.spare.replace(block);
        match result {
            // What the socket has not taken yet is held here.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(head.len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// The file that waits has a head that was written before: it comes behind what is gathered.
    #[cold]
    pub(super) fn detach(&self) {
        let block = self.attached.block.take();
        self.attached.waits.set(false);
        let file = block.bytes.get(HEAD..).unwrap_or_default();
        self.out.borrow_mut().extend_from_slice(file);
        self.shared.spare.replace(block);
    }
}
