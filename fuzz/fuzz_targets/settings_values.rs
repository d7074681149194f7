//! Whatever text a setting is given: it is a value or a mistake, never a panic; and a value, written out as
//! `--print-config` writes it, is the same value again.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use rgun_async::config::{AllowList, AppPath, Bind, HeaderMapping, LogLevel, LogTarget, WorkerClass};

fn again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{written:?}");
    }
}

fuzz_target!(|text: &str| {
    again::<Bind>(text);
    again::<AppPath>(text);
    again::<AllowList>(text);
    again::<LogTarget>(text);
    again::<WorkerClass>(text);
    again::<HeaderMapping>(text);
    again::<LogLevel>(text);
});
