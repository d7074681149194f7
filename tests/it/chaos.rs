//! Reloads, upgrades and worse under load (`loadtest/chaos`, its short form), and whether its client would see a loss: it is told by
//! servers that fail on purpose, each in one way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BINARY, Rgun, millis, quiet, venv};

/// A program of `loadtest/`, by the Python of the tests.
fn loadtest(program: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest");
    let mut command = Command::new(venv().join("bin/python3"));
    command.arg(path.join(program)).stdin(Stdio::null());
    command
}

/// `loadtest/chaos`, of the binary under test; its verdict is its exit code.
fn chaos(arguments: &[&str]) {
    // The extension module is placed beside the binary.
    drop(Rgun::bare());
    let run = loadtest("chaos")
        .args(["--no-install", "--binary", BINARY])
        .args(arguments)
        .env("RGUN_TEST_VENV", venv())
        .output()
        .expect("python3 runs");
    assert!(
        run.status.success(),
        "loadtest/chaos {arguments:?}:\n{}\n{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn no_operation_loses_a_request() {
    let _quiet = quiet();
    chaos(&["--short"]);
}

#[test]
fn nothing_piles_up_over_sixty_operations() {
    let _quiet = quiet();
    chaos(&["--leak", "60"]);
}

/// A server that does `serve` with each connection, in a thread of its own; its port. Its threads end with the test run.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.expect("a connection"));
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Reads a request of the client's: the number that it asks for, if there is one.
fn hear(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
        }
    }
    let head = String::from_utf8(head).expect("text");
    let target = head.split(' ').nth(1).expect("a target");
    Some(target.trim_start_matches("/users/").to_owned())
}

/// What the client of the chaos test calls the failures that it meets at `port` in a dozen requests; and how many were answered.
fn met(port: u16, kind: &str) -> (Vec<String>, u64) {
    let load = |of: &str| if of == kind { 2 } else { 0 };
    let options = json!({
        "port": port, "new": load("new"), "kept": load("kept"), "slow": 0, "timeout": 0.5, "requests": 12,
    });
    let client = loadtest("chaos_client.py")
        .arg(options.to_string())
        .output()
        .expect("python3 runs");
    let text = String::from_utf8(client.stdout).expect("text");
    let line = text.lines().last().expect("it prints what it has met");
    let windows: Vec<Value> = serde_json::from_str(line).expect("JSON");
    let counts = |of: &str| windows[0][of].as_object().expect("an object").clone();
    let failures = counts("failures");
    let names = failures.iter().filter(|(_, count)| **count != json!(0));
    let answered = counts("answered").values().filter_map(Value::as_u64).sum();
    (names.map(|(name, _)| name.clone()).collect(), answered)
}

#[test]
fn the_chaos_client_tells_refused_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    assert_eq!(met(port, "new"), (vec!["refused".to_owned()], 0));
}

#[test]
fn the_chaos_client_tells_connections_that_end_before_their_answer() {
    // With what was sent unread, the end is a reset; after reading it, an end of file.
    let port = server(drop);
    assert_eq!(met(port, "new"), (vec!["reset before".to_owned()], 0));
    let port = server(|mut stream| drop(hear(&mut stream)));
    assert_eq!(met(port, "new"), (vec!["reset before".to_owned()], 0));
}

#[test]
fn the_chaos_client_tells_answers_that_end_early() {
    let port = server(|mut stream| {
        hear(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nuser");
    });
    assert_eq!(met(port, "new"), (vec!["reset within".to_owned()], 0));
}

#[test]
fn the_chaos_client_tells_what_is_not_answered_in_time() {
    let port = server(|mut stream| while hear(&mut stream).is_some() {});
    assert_eq!(met(port, "new"), (vec!["timeout".to_owned()], 0));
}

#[test]
fn the_chaos_client_tells_answers_to_somebody_else() {
    let port = server(|mut stream| {
        hear(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nuser 0");
    });
    assert_eq!(met(port, "new"), (vec!["bad answer".to_owned()], 0));
}

/// Answers the first request of each connection, and ends it `after` the second one has come.
fn ends_at_the_second(after: Duration) -> u16 {
    server(move |mut stream| {
        let Some(number) = hear(&mut stream) else {
            return;
        };
        let body = format!("user {number}");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        if hear(&mut stream).is_some() {
            thread::sleep(after);
        }
    })
}

#[test]
fn the_chaos_client_calls_a_race_what_ends_at_once_on_a_kept_connection() {
    let (names, answered) = met(ends_at_the_second(Duration::ZERO), "kept");
    assert_eq!(names, ["race"]);
    assert!(answered > 0);
}

#[test]
fn the_chaos_client_calls_lost_what_the_server_had_for_some_time() {
    let (names, answered) = met(ends_at_the_second(millis(150)), "kept");
    assert_eq!(names, ["reset before"]);
    assert!(answered > 0);
}
