//! The system calls of files that are served, for rooms that do not know `os`.

#[cfg(feature = "static")]
pub(crate) use crate::os::below::{Links, Patience, open_below, open_directory};
pub(crate) use crate::os::file::{read_cached, send};
