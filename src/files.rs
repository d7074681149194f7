//! The system calls of files that are served, for rooms that do not know `os`.

#[cfg(feature = "static")]
pub(crate) use crate::os::below::{Links, Patience, open_below, open_directory};
#[cfg(feature = "static")]
pub(crate) use crate::os::file::Standing;
pub(crate) use crate::os::file::{append_cached, read_cached, send};
