//! The Autobahn suite's cases 1 to 10, frame by frame: 247, and 54 with large messages and many round trips. Its compressed
//! messages are in `deflate.rs`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::harness::{Rgun, Server, root, venv};

/// Nothing is promised of these: an end that follows a message at once, and close codes that nobody has given a meaning.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

/// The cases of each verdict. Who takes no longer than `wait` seconds to see that a text is broken, before it is whole, is strict.
fn verdicts(server: &Server, wait: &str) -> BTreeMap<String, Vec<String>> {
    let output = Command::new(venv().join("bin/python3"))
        .arg(root().join("tests/it/websocket_frames.py"))
        .args([&format!("ws://127.0.0.1:{}/echo", server.port()), wait])
        .stdin(Stdio::null())
        .output()
        .expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let verdicts: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verdicts.get("FAILED"), None, "{errors}");
    let cases = verdicts.values().map(Vec::len).sum::<usize>();
    assert_eq!(cases, 247 + 54, "{verdicts:?}");
    assert_eq!(verdicts["INFORMATIONAL"], INFORMATIONAL);
    verdicts
}

/// Every end has its close frame, with its code; broken text is refused at its first wrong byte.
#[track_caller]
fn asgi_keeps_the_rules(asgi_loop: &str) {
    let server = Rgun::app("websocket:app")
        .args(["-k", "asgi", "--asgi-loop", asgi_loop])
        .start();
    let verdicts = verdicts(&server, "60");
    assert_eq!(verdicts.get("SILENT"), None);
    // A message, and a broken frame right behind it: the connection fails before the app has had its turn.
    let behind = [
        "3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15",
    ];
    assert_eq!(verdicts["NON-STRICT"], behind);
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

#[test]
fn asgi_keeps_the_rules_on_asyncio() {
    asgi_keeps_the_rules("asyncio");
}

#[test]
fn asgi_keeps_the_rules_on_uvloop() {
    asgi_keeps_the_rules("uvloop");
}

/// How it answers is axum's own affair, or tungstenite's: who breaks a rule is left without a close frame, and broken text
/// is seen at the end of a frame. Ours is that every byte gets there and back.
#[test]
fn axum_keeps_the_rules() {
    let server = Rgun::example("axum_ws").start();
    let verdicts = verdicts(&server, "2");
    assert_eq!(verdicts["NON-STRICT"], ["6.4.3", "6.4.4"]);
    assert_eq!(server.count_lines("Panic"), 0);
}
