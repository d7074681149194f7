//! Colours in the error log: on a terminal, and nowhere else.

use std::ffi::OsString;

use crate::harness::{Rgun, Server, patience, until, venv};

/// Gives the program a terminal as its standard error, and copies what comes there to standard output.
const TERMINAL: &str = r"
import os, sys
ours, theirs = os.openpty()
if os.fork() == 0:
    os.close(theirs)
    try:
        while data := os.read(ours, 65536):
            os.write(1, data)
    except OSError:
        pass
    os._exit(0)
os.dup2(theirs, 2)
os.close(ours)
os.close(theirs)
os.execvp(sys.argv[1], sys.argv[1:])
";

fn app() -> Rgun {
    let mut rgun = Rgun::app("bad_import:app");
    for name in ["NO_COLOR", "FORCE_COLOR"] {
        // Not from whoever runs the tests.
        rgun = rgun.env(name, "");
    }
    rgun.env("TERM", "xterm")
}

/// What it writes to a terminal, until it ends.
fn on_a_terminal(rgun: Rgun) -> String {
    let python: OsString = venv().join("bin/python3").into();
    let server = rgun.wrapped([python, "-c".into(), TERMINAL.into()]).spawn();
    server.wait_for_output("Shutting down: Master", 2);
    server.output().join("\n")
}

fn on_a_pipe(rgun: Rgun) -> String {
    let server = rgun.spawn();
    ends(&server);
    server.log().join("\n")
}

fn ends(server: &Server) {
    until("it ends", patience(), || !server.is_running());
    server.wait_for_line("Reason: Worker failed to boot.");
}

#[test]
fn a_terminal_gets_coloured_levels_and_tracebacks() {
    let text = on_a_terminal(app());
    for part in [
        "\x1b[32m[INFO]\x1b[0m Starting",
        "\x1b[31m[ERROR]\x1b[0m Exception in worker process",
        "bad_import.py\"\x1b[0m, line \x1b[35m",
        "\x1b[1;35mModuleNotFoundError\x1b[0m\x1b[35m: ",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_terminal_or_its_user_may_want_none() {
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(app().env(name, value));
        assert!(
            text.contains("[ERROR] Exception in worker process"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{name}: {text}");
    }
}

#[test]
fn a_pipe_gets_none_unless_it_is_forced() {
    assert!(!on_a_pipe(app()).contains('\x1b'));
    let text = on_a_pipe(app().env("FORCE_COLOR", "1"));
    assert!(text.contains("\x1b[31m[ERROR]\x1b[0m Exception"), "{text}");
}

#[test]
fn a_file_never_gets_any() {
    let rgun = app().env("FORCE_COLOR", "1");
    let file = rgun.directory().join("error.log");
    let server = rgun.arg("--error-logfile").arg(&file).spawn();
    until("it ends", patience(), || !server.is_running());
    let text = std::fs::read_to_string(&file).expect("the log");
    assert!(
        text.contains("[ERROR] Exception in worker process"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text}");
}
