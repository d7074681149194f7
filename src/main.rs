//! The `rgun-async` binary: a built-in app is served by this process, a Python app by the interpreter that it becomes.

use std::process::ExitCode;

fn main() -> ExitCode {
    rgun_async::binary().into()
}
