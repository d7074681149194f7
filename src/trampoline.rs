//! From the binary to an interpreter: a Python app was named, so this process becomes a Python that serves it.
//!
//! The binary has no Python in it and needs none to be built; whichever `CPython` 3.10 or later is found here, a virtual
//! environment's before the system's, loads our extension module, the shared library that cargo builds beside the binary,
//! and gives it the command line. Same process id, same code.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the interpreter is to do; also says what is wrong with one that is too old.
const BOOTSTRAP: &str = include_str!("../python/bootstrap.py");

/// The extension module's file, as cargo names it.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "librgun_async.dylib"
} else {
    "librgun_async.so"
};

/// Why there is no interpreter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrampolineError {
    /// There is none.
    #[error(
        "a Python app needs Python 3.10 or later: there is no {0}. Activate a virtual environment, or install python3"
    )]
    NoPython(String),
    /// There is one, and it cannot be started.
    #[error("cannot start {python}")]
    Exec {
        python: String,
        #[source]
        source: io::Error,
    },
}

/// Replaces this process by an interpreter that runs the command line `arguments`, the program's own path first; it is also
/// what a later upgrade starts again. Returns only if that fails.
pub(crate) fn exec(arguments: &[OsString]) -> TrampolineError {
    let python = interpreter(std::env::var_os("VIRTUAL_ENV").as_deref());
    let executable = std::env::current_exe().ok();
    let library = executable
        .as_deref()
        .and_then(|executable| library(executable, Path::is_file));
    let source = Command::new(&python)
        .arg("-c")
        .arg(BOOTSTRAP)
        .arg(env!("CARGO_PKG_VERSION"))
        // Without one beside us, the installed package has to do.
        .arg(library.as_deref().map_or(OsStr::new(""), Path::as_os_str))
        .args(arguments)
        .exec();
    let python = python.to_string_lossy().into_owned();
    if source.kind() == io::ErrorKind::NotFound {
        TrampolineError::NoPython(python)
    } else {
        TrampolineError::Exec { python, source }
    }
}

/// The active virtual environment's interpreter, or the one on `PATH`.
fn interpreter(environment: Option<&OsStr>) -> PathBuf {
    match environment {
        Some(environment) if !environment.is_empty() => {
            Path::new(environment).join("bin/python3")
        }
        Some(_) | None => PathBuf::from("python3"),
    }
}

/// The shared library that was built with `executable`: beside it, or for a test or an example, where cargo puts those of
/// the package itself.
fn library(executable: &Path, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let directory = executable.parent()?;
    let of_cargo = directory
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    let above = if of_cargo { directory.parent() } else { None };
    [Some(directory), above]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(LIBRARY))
        .find(|library| exists(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_environment_comes_first() {
        assert_eq!(
            interpreter(Some(OsStr::new("/venv"))),
            Path::new("/venv/bin/python3")
        );
        assert_eq!(interpreter(Some(OsStr::new(""))), Path::new("python3"));
        assert_eq!(interpreter(None), Path::new("python3"));
    }

    #[test]
    fn the_library_is_looked_for_beside_and_above() {
        let found = |executable: &str, there: &str| {
            library(Path::new(executable), |path| {
                path == Path::new(there).join(LIBRARY)
            })
        };
        let debug = Path::new("/t/debug").join(LIBRARY);
        assert_eq!(
            found("/t/debug/rgun-async", "/t/debug"),
            Some(debug.clone())
        );
        assert_eq!(found("/t/debug/examples/axum", "/t/debug"), Some(debug));
        assert_eq!(found("/usr/bin/rgun-async", "/usr"), None);
    }
}
