/// placeholder
use std::ffi::OsString;
pub(crate) fn exec(_a: &[OsString]) -> String { String::from("no python yet") }
