//! The access log.

/// Where lines of the access log are gathered.
pub(crate) trait Sink {
    /// Takes a line with its line end; to be written later, with others.
    fn append(&self, line: &[u8]);
}
