//! Starting this program anew, in the same process: where a preloaded app turned out to be of another kind than its source
//! showed, and the interpreter was made ready for that one.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Given;
use crate::channel::Interface;
use crate::master::OldMaster;
use crate::os::process::set_env;

/// Tells the new start what the app is.
const KIND: &str = "RGUN_APP_IS";
/// Names the process that the socket manager's variables are meant for.
const LISTEN_PID: &str = "LISTEN_PID";

/// Variables that were taken at the start, to be put back.
pub(super) type Variables = Vec<(&'static str, OsString)>;

/// What an earlier start of this process has found the app to be.
#[cfg(feature = "python")]
pub(crate) fn told() -> Option<Interface> {
    let told = std::env::var(KIND).ok()?;
    crate::os::process::unset_env(KIND);
    [Interface::Wsgi, Interface::Asgi]
        .into_iter()
        .find(|interface| interface.to_string() == told)
}

/// Executes `command` in `directory`, with the sockets and variables that this start got. Returns only if that fails.
pub(super) fn start(
    interface: Interface,
    command: &[OsString],
    directory: &Path,
    (given, old): (&Given, Option<&OldMaster>),
    variables: Variables,
) -> io::Error {
    tracing::info!("The app is {interface}, which its source did not show: starting anew.");
    let Some((program, arguments)) = command.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Err(error) = given.sockets().keep_on_exec() {
        return error;
    }
    if let Some(Err(error)) = old.map(OldMaster::keep_on_exec) {
        return error;
    }
    for (name, value) in variables {
        set_env(name, value);
        if name == LISTEN_PID {
            // A daemon's is another one by now.
            set_env(name, std::process::id().to_string());
        }
    }
    set_env(KIND, interface.to_string());
    if let Err(error) = crate::os::signal::keep_term_for_exec() {
        return error;
    }
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .exec()
}
