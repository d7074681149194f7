//! Values that other threads may hold but only their own may use, for rooms that do not know `os`.

pub(crate) use crate::os::resident::Resident;
