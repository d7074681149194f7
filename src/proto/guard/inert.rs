//! Field lines that were found to be in order and to mean nothing to the guard.
//!
//! Most lines of a head are those of other heads, of the same client or of its kind. A whole line that is, byte by byte, one
//! that has passed under the same rules and told the guard nothing passes again: it need only be compared. The lines are a
//! memory of what has been found out, and no state: they change no verdict.

use std::cell::RefCell;

/// The lines, each at the place in its head that it had.
#[derive(Clone, Debug, Default)]
pub(super) struct Inert(RefCell<[Vec<u8>; Inert::LINES]>);

impl Inert {
    /// Later fields of a head are looked at each time.
    const LINES: usize = 24;
    /// Longer lines, line end included, are looked at each time.
    const LONGEST: usize = 256;

    /// The length, line end included, of the line that `bytes` begin with, if it is the known one of that place.
    #[inline]
    pub(super) fn known(&self, place: usize, bytes: &[u8]) -> Option<usize> {
        let lines = self.0.borrow();
        let line = lines.get(place)?;
        (!line.is_empty() && bytes.starts_with(line)).then_some(line.len())
    }

    /// Keeps a line, with its line end.
    pub(super) fn keep(&self, place: usize, line: &[u8]) {
        let mut lines = self.0.borrow_mut();
        if let Some(kept) = lines.get_mut(place) {
            kept.clear();
            if line.len() <= Self::LONGEST && !is_secret(line) {
                kept.extend_from_slice(line);
            }
        }
    }
}

/// Whether the line's value is for nobody but its sender and the app.
fn is_secret(line: &[u8]) -> bool {
    [&b"cookie:"[..], b"authorization:", b"proxy-authorization:"]
        .iter()
        .any(|name| {
            line.get(..name.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        })
}
