//! Compressed WebSocket messages: every case of the Autobahn suite's families 12 and 13, with a real client.

use std::process::{Command, Stdio};

use crate::harness::{Rgun, root, venv};

/// Plays a family of cases to the echo on this loop; the client tells how many there were.
#[track_caller]
fn play(family: &str, asgi_loop: &str, cases: usize) {
    let server = Rgun::app("websocket:app")
        .args(["-k", "asgi", "--asgi-loop", asgi_loop])
        .start();
    let output = Command::new(venv().join("bin/python3"))
        .arg(root().join("tests/it/websocket_cases.py"))
        .args([family, &format!("ws://127.0.0.1:{}/echo", server.port())])
        .stdin(Stdio::null())
        .output()
        .expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let played = String::from_utf8_lossy(&output.stdout);
    assert_eq!(played.trim(), cases.to_string());
    server.wait_for_output("\"code\": 1000", cases);
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

/// 12: text, pictures, pages and what is packed already, in messages of 16 bytes to 128 KiB, whole and in fragments.
#[test]
fn messages_of_every_kind_and_size_are_echoed() {
    play("12", "asyncio", 90);
}

/// 13: the same sizes, with what a client may ask of the server's window.
#[test]
fn messages_are_echoed_whatever_was_agreed() {
    play("13", "uvloop", 126);
}
