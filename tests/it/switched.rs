//! Connections that a plain Rust service switches to a protocol of its own (`hyper::upgrade::on`): they count, are told of a drain
//! and cut like any other.

use nix::sys::signal::Signal;

use crate::harness::{Client, Rgun, Server, patience, secs, until};

const SWITCH: &str = "Host: test\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";

fn shouting(more: &[&str]) -> Server {
    Rgun::example("hyper")
        .args(["--access-logfile", "-"])
        .args(more)
        .start()
}

/// A connection that speaks lines now; `early` came along with the request.
#[track_caller]
fn switched(server: &Server, path: &str, early: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\n{SWITCH}{early}"));
    let answer = client.one_response("GET").expect("an answer");
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("upgrade"), Some("shout"));
    assert_eq!(answer.header("connection"), Some("upgrade"));
    client
}

#[track_caller]
fn hears(client: &mut Client, text: &str) {
    let heard = client.exactly(text.len()).expect("a line");
    assert_eq!(String::from_utf8_lossy(&heard), text);
}

#[test]
fn a_plain_service_has_the_connection_to_itself_and_its_line_in_the_log() {
    let server = shouting(&[]);
    let mut client = switched(&server, "/talk?a", "early\n");
    hears(&mut client, "EARLY\n");
    client.send("GET / HTTP/1.1\r\n\r\n");
    hears(&mut client, "GET / HTTP/1.1\r\n\r\n");
    let long = "x".repeat(100_000);
    client.send(&long);
    hears(&mut client, &long.to_uppercase());
    assert_eq!(server.output(), Vec::<String>::new());
    client.half_close();
    assert_eq!(client.until_end(), b"");
    let bytes = 6 + 18 + 100_000;
    server.wait_for_output(&format!("\"GET /talk?a HTTP/1.1\" 101 {bytes} "), 1);
}

#[test]
fn what_asks_for_another_protocol_is_answered_as_http() {
    let server = shouting(&[]);
    let mut client = server.connect();
    let other = SWITCH.replace("shout", "sing");
    for _ in 0..2 {
        client.send(format!("GET / HTTP/1.1\r\n{other}"));
        assert_eq!(client.one_response("GET").expect("an answer").status(), 200);
    }
    // HTTP/1.0 knows of no other protocol (RFC 9110 section 7.8).
    let old = format!("GET / HTTP/1.0\r\n{SWITCH}");
    assert_eq!(server.connect().ask(&old).status(), 200);
}

/// Each is told, each has the time to say goodbye, and nothing is cut.
#[test]
fn a_drain_is_told_to_who_has_left_http() {
    for (signal, ends) in [(Signal::SIGTERM, true), (Signal::SIGHUP, false)] {
        let server = shouting(&["-w", "2"]);
        let mut clients: Vec<Client> = (0..4)
            .map(|number| switched(&server, &format!("/{number}"), ""))
            .collect();
        clients[0].send("hello\n");
        hears(&mut clients[0], "HELLO\n");
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.until_end(), b"COME AGAIN\n");
        }
        server.wait_for_output("HTTP/1.1\" 101 11 ", 3);
        server.wait_for_output("\"GET /0 HTTP/1.1\" 101 17 ", 1);
        if ends {
            server.assert_exits(0).within(secs(10));
        } else {
            server.wait_ready(4);
            hears(&mut switched(&server, "/", "new\n"), "NEW\n");
        }
        assert_eq!(server.count_lines("Cutting"), 0);
    }
}

#[test]
fn who_has_left_http_counts_as_a_connection_until_it_ends() {
    let server = shouting(&["--worker-connections", "2"]);
    let mut first = switched(&server, "/first", "");
    let second = switched(&server, "/second", "");
    let waiting = server.get("/").in_background();
    first.send("still served\n");
    hears(&mut first, "STILL SERVED\n");
    assert_eq!(server.output(), Vec::<String>::new());
    // It vanishes.
    drop(second);
    assert_eq!(waiting.response().status(), 200);
    server.wait_for_output("\"GET /second HTTP/1.1\" 101 0 ", 1);
    first.send("and on\n");
    hears(&mut first, "AND ON\n");
}

#[test]
fn a_stop_cuts_who_has_left_http() {
    let server = shouting(&[]);
    let mut client = switched(&server, "/", "one\n");
    hears(&mut client, "ONE\n");
    server.signal(Signal::SIGQUIT);
    server.wait_for_line("Cutting upgraded connection GET / from 127.0.0.1 after");
    assert_eq!(client.rest().unwrap_or_default(), b"");
    server.assert_exits(0).within(secs(10));
    until("it is in the access log", patience(), || {
        let lines = server.output();
        matches!(&lines[..], [line] if line.contains("\"GET / HTTP/1.1\" 101 4 "))
    });
}

/// A worker that dies takes its connections along, and no other's.
#[test]
fn a_killed_worker_cuts_its_own_alone() {
    let server = shouting(&["-w", "2"]);
    let mut clients: Vec<Client> = (0..8)
        .map(|number| switched(&server, &format!("/{number}"), "on\n"))
        .collect();
    for client in &mut clients {
        hears(client, "ON\n");
    }
    crate::harness::process::signal(server.worker_pids()[0], Signal::SIGKILL);
    server.wait_ready(3);
    let mut stay = 0;
    for client in &mut clients {
        // The other end may be gone.
        let _ = client.try_send("still\n");
        match client.exactly(6) {
            Ok(line) => {
                assert_eq!(line, b"STILL\n");
                stay += 1;
            }
            Err(_) => assert!(client.closes_within(patience())),
        }
    }
    assert!((1..8).contains(&stay), "{stay} of 8 stay");
    hears(&mut switched(&server, "/", "new\n"), "NEW\n");
}
