//! What a worker was doing when it was ended for its silence, or crashed: it writes that into a file without a name, and the
//! master logs it in one piece when the worker is gone. So a report that was cut short by KILL is not lost, and no log that a
//! stuck worker may hold is in the way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::os::abort;
pub(crate) use crate::os::abort::{PATIENCE, tell_by};
#[cfg(feature = "python")]
pub(crate) use crate::os::abort::{
    ask_by, begin, dump, dump_by_handler_of, end, report, take, write,
};

/// So much of it is logged.
const LOGGED: usize = 256 * 1024;

/// The file, open in the worker and in the master.
#[derive(Debug)]
pub(crate) struct LastWords(File);

impl LastWords {
    /// An empty one.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`.
    pub(crate) fn create() -> io::Result<Self> {
        let file = memfd_create(c"rgun-async-last-words", MFdFlags::MFD_CLOEXEC)?;
        Ok(Self(file.into()))
    }

    /// A second handle on the same file.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// In the worker: ABRT is answered by a report in this file, as long as the process lives.
    ///
    /// # Errors
    /// Those of `timer_create(2)` and sigaction(2).
    pub(crate) fn expect_abort(self) -> io::Result<()> {
        abort::answer_in(self.0.into())
    }

    /// In the master: what the worker has written, fit for the log. Empty where all was well.
    pub(crate) fn read(&self) -> String {
        let mut bytes = vec![0; LOGGED];
        let mut length = 0;
        while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
            let offset = u64::try_from(length).unwrap_or(u64::MAX);
            match self.0.read_at(room, offset) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let mut fit = String::with_capacity(text.len());
        for c in text.trim_end().chars() {
            if c.is_control() && c != '\n' {
                fit.extend(c.escape_default());
            } else {
                fit.push(c);
            }
        }
        fit
    }
}
