//! The WebSocket, of ASGI apps and of Rust apps, with a real client and with one that breaks every rule.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::frames::{Frames, HANDSHAKE, frame};
use crate::harness::{Rgun, Server, patience, root, secs, until, venv};

const LOOPS: [&str; 2] = ["asyncio", "uvloop"];

fn websockets(more: &[&str]) -> Server {
    Rgun::app("websocket:app")
        .args(["-k", "asgi"])
        .args(more)
        .start()
}

fn on(asgi_loop: &str) -> Server {
    websockets(&["--asgi-loop", asgi_loop])
}

/// The real client doing `scenario`.
fn client(scenario: &str, url: &str) -> Command {
    let mut command = Command::new(venv().join("bin/python3"));
    command
        .arg(root().join("tests/it/websocket_client.py"))
        .args([scenario, url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn url(server: &Server) -> String {
    format!("ws://127.0.0.1:{}", server.port())
}

/// Runs the real client to its end, which must be a good one.
#[track_caller]
fn play(server: &Server, scenario: &str) {
    let output = client(scenario, &url(server))
        .output()
        .expect("python starts");
    assert!(
        output.status.success(),
        "{scenario}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A real client that stays until the server closes.
struct Guest {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Guest {
    fn at(server: &Server, path: &str) -> Self {
        let mut child = client("stay", &format!("{}{path}", url(server)))
            .spawn()
            .expect("python starts");
        let output = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(line, "connected");
        Self { child, lines }
    }

    /// The code that it was closed with.
    fn code(mut self) -> String {
        let line = self.lines.next().expect("a line").expect("text");
        assert!(self.child.wait().expect("it ends").success());
        line
    }
}

#[test]
fn a_real_client_talks_in_every_way() {
    for asgi_loop in LOOPS {
        let server = on(asgi_loop);
        play(&server, "talk");
        let told = "told: {\"code\": 4321, \"reason\": \"enough\"}";
        server.wait_for_output(told, 2);
        play(&server, "crowd");
        play(&server, "choose");
        assert_eq!(server.count_lines("[ERROR]"), 0);
    }
}

#[test]
fn compression_can_be_switched_off() {
    let server = websockets(&["--websocket-compression", "off"]);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut frames, answer) = Frames::open_with(&server, "/echo", offer);
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    frames.send(frame(0xC1, "says that it is compressed"));
    frames.is_closed(1002);
}

#[test]
fn compressed_frames_of_the_rfc_are_understood() {
    let server = on("asyncio");
    let offer = "Sec-WebSocket-Extensions: x-unknown, permessage-deflate; \
                 server_no_context_takeover; client_max_window_bits=10\r\n";
    let (mut frames, answer) = Frames::open_with(&server, "/echo", offer);
    assert_eq!(
        answer.header("sec-websocket-extensions"),
        Some("permessage-deflate; server_no_context_takeover; client_max_window_bits=10")
    );
    // RFC 7692 section 7.2.3: "Hello", then again by what went before, then in two frames.
    frames.send(frame(0xC1, [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]));
    frames.hears("Hello");
    frames.send(frame(0xC1, [0xF2, 0x00, 0x11, 0x00, 0x00]));
    frames.hears("Hello");
    frames.send(frame(0x41, [0xF2, 0x48, 0xCD]));
    frames.send(frame(0x89, "between"));
    frames.send(frame(0x80, [0xC9, 0xC9, 0x07, 0x00]));
    assert_eq!(frames.next(), (0x8A, b"between".to_vec()));
    frames.hears("Hello");
    frames.send(frame(0xC1, [0xFF, 0xFF]));
    frames.is_closed(1007);
}

#[test]
fn the_scope_is_what_the_specification_asks_for() {
    for asgi_loop in LOOPS {
        let server = websockets(&["--asgi-loop", asgi_loop, "--root-path", "/show/root"]);
        let offer = "Sec-WebSocket-Protocol: chat, superchat\r\nX-Forwarded-Proto: https\r\n";
        let (mut frames, answer) = Frames::open_with(&server, "/show/root", offer);
        assert_eq!(answer.header("sec-websocket-protocol"), None);
        assert_eq!(answer.header("connection"), Some("upgrade"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        let (first, payload) = frames.next();
        assert_eq!(first, 0x81);
        let scope: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
        assert_eq!(scope["type"], "websocket");
        assert_eq!(scope["asgi"]["spec_version"], "2.5");
        assert_eq!(scope["http_version"], "1.1");
        assert_eq!(scope["scheme"], "wss");
        assert_eq!(scope["root_path"], "/show/root");
        assert_eq!(
            scope["subprotocols"],
            serde_json::json!(["chat", "superchat"])
        );
        assert!(scope.get("method").is_none(), "{scope}");
        assert_eq!(scope["server"][1], server.port());
        assert!(
            scope["headers"]
                .as_array()
                .is_some_and(|fields| fields.contains(&serde_json::json!(["host", "test"]))),
            "{scope}"
        );
        let (first, close) = frames.next();
        assert_eq!((first, &close[..]), (0x88, &b"\x0F\xA1shown"[..]));
        frames.send(frame(0x88, close));
        server.wait_for_output("told: {\"code\": 4001}", 1);
    }
}

#[test]
fn every_end_of_an_app_has_its_answer() {
    for asgi_loop in LOOPS {
        let server = on(asgi_loop);
        play(&server, "ends");
        let refused = "told: {\"type\": \"websocket.disconnect\", \"code\": 1006}";
        server.wait_for_output(refused, 2);
        server.wait_for_lines("RuntimeError: it went wrong", 2);
        server.wait_for_line("Error handling WebSocket /fail/accepted:");
        server.wait_for_line("the application returned without a response");
        assert_eq!(server.get("/").response().text(), "plain");
    }
}

#[test]
fn what_an_app_must_not_send_raises_there() {
    let server = on("asyncio");
    let mut frames = Frames::open(&server, "/foreign");
    assert_eq!(frames.next(), (0x82, b"alive".to_vec()));
    frames.is_closed(1000);
    let errors = [
        "ValueError",
        "ValueError",
        "TypeError",
        "RuntimeError",
        "ValueError",
        "TypeError",
        "ValueError",
        "RuntimeError",
        "RuntimeError",
        "KeyError",
        "TypeError",
    ];
    let told = server.wait_for_output("told: {\"error\"", errors.len());
    let expected = errors.map(|error| format!("told: {{\"error\": \"{error}\"}}"));
    assert_eq!(told, expected);
    server.wait_for_output("told: {\"late\": \"Unexpected ASGI message", 1);
}

#[test]
fn a_wrong_handshake_does_not_reach_the_app() {
    let server = on("asyncio");
    let without = |name: &str| {
        let lines = HANDSHAKE.split_inclusive("\r\n");
        lines
            .filter(|line| !line.starts_with(name))
            .collect::<String>()
    };
    let version = without("Sec-WebSocket-Version");
    let key = without("Sec-WebSocket-Key");
    for (request, status) in [
        (format!("GET /echo HTTP/1.1\r\n{version}\r\n"), 400),
        (format!("GET /echo HTTP/1.1\r\n{key}\r\n"), 400),
        (format!("POST /echo HTTP/1.1\r\n{HANDSHAKE}\r\n"), 400),
        (
            format!("GET /echo HTTP/1.1\r\n{key}Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n"),
            400,
        ),
        (
            format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}Sec-WebSocket-Version: 13\r\n\r\n"),
            400,
        ),
        (
            format!("GET /echo HTTP/1.1\r\n{}\r\n", without("Host")),
            400,
        ),
        (
            format!("GET /echo HTTP/1.1\r\n{version}Sec-WebSocket-Version: 8\r\n\r\n"),
            426,
        ),
        // Not asked for: plain requests.
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", without("Connection")),
            200,
        ),
        (format!("GET / HTTP/1.0\r\n{HANDSHAKE}\r\n"), 200),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
                .to_owned(),
            200,
        ),
    ] {
        let answer = server.connect().ask(&request);
        assert_eq!(answer.status(), status, "{request}");
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    // The connection goes on after a refusal.
    let mut client = server.connect();
    let request = format!("GET /echo?refused HTTP/1.1\r\n{key}\r\n");
    assert_eq!(client.ask(&request).status(), 400);
    server.wait_for_line("Invalid WebSocket handshake of GET /echo?refused: ");
    assert_eq!(client.get("/").text(), "plain");
    client.send(format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}\r\n"));
    assert_eq!(client.one_response("GET").expect("an answer").status(), 101);
}

#[test]
fn broken_frames_are_answered_with_their_code() {
    let server = websockets(&["--websocket-max-message-size", "64k"]);
    let half = &"ß".as_bytes()[..1];
    for (what, bytes, code) in [
        ("no mask", b"\x81\x05Hello".to_vec(), 1002),
        ("a reserved bit", frame(0xA1, "x"), 1002),
        ("a bit of an extension", frame(0xC1, "x"), 1002),
        ("a reserved opcode", frame(0x83, ""), 1002),
        ("a reserved control opcode", frame(0x8B, ""), 1002),
        ("a fragmented ping", frame(0x09, "x"), 1002),
        ("a long ping", frame(0x89, [0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, "x"), 1002),
        (
            "a message within a message",
            [frame(0x01, "a"), frame(0x81, "b")].concat(),
            1002,
        ),
        ("half a close code", frame(0x88, [3]), 1002),
        ("a close code of nobody", frame(0x88, [3, 237]), 1002),
        ("a close code too small", frame(0x88, [0, 0]), 1002),
        (
            "a close reason that is no text",
            frame(0x88, [&[3, 232][..], half].concat()),
            1007,
        ),
        ("half a character", frame(0x81, half), 1007),
        ("a surrogate", frame(0x81, [0xED, 0xA0, 0x80]), 1007),
        (
            "broken text that goes on",
            frame(0x01, [0x61, 0xFF, 0x61]),
            1007,
        ),
        ("too much", frame(0x82, vec![0; 65_537]), 1009),
        (
            "too much in parts",
            [frame(0x02, vec![0; 65_536]), frame(0x80, "x")].concat(),
            1009,
        ),
        (
            "far too much, announced",
            vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            1009,
        ),
    ] {
        let mut frames = Frames::open(&server, "/echo");
        frames.say(what);
        frames.hears(what);
        frames.send(bytes);
        frames.is_closed(code);
        server.wait_for_output(&format!("\"code\": {code},"), 1);
    }
    play(&server, "bomb");
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

#[test]
fn control_frames_come_between_the_parts_of_a_message() {
    let server = on("uvloop");
    let mut frames = Frames::open(&server, "/echo");
    frames.send(frame(0x01, "one "));
    frames.send(frame(0x89, "first"));
    frames.send(frame(0x8A, "unasked"));
    frames.send(frame(0x00, "two "));
    frames.send(frame(0x89, ""));
    frames.send(frame(0x80, "three"));
    assert_eq!(frames.next(), (0x8A, b"first".to_vec()));
    assert_eq!(frames.next(), (0x8A, Vec::new()));
    frames.hears("one two three");
    // Byte by byte.
    for byte in frame(0x81, "slowly") {
        frames.send([byte]);
    }
    frames.hears("slowly");
    // A close with no code, and with the largest payload.
    frames.send(frame(0x88, ""));
    assert_eq!(frames.next(), (0x88, Vec::new()));
    server.wait_for_output("told: {\"code\": 1005, \"reason\": \"\"}", 1);
    let mut frames = Frames::open(&server, "/echo");
    let reason = "r".repeat(123);
    frames.send(frame(0x88, [b"\x0F\xA0", reason.as_bytes()].concat()));
    frames.is_closed(4000);
    server.wait_for_output(&format!("\"code\": 4000, \"reason\": \"{reason}\""), 1);
}

#[test]
fn frames_behind_the_handshake_are_not_lost() {
    let server = on("asyncio");
    let mut client = server.connect();
    let early = frame(0x81, "early");
    let request = format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}\r\n");
    client.send([request.as_bytes(), &early, &early].concat());
    let answer = client.one_response("GET").expect("an answer");
    assert_eq!(answer.status(), 101);
    assert_eq!(
        client.exactly(14).expect("two echoes"),
        b"\x81\x05early\x81\x05early"
    );
}

#[test]
fn a_client_that_does_not_read_holds_the_app_back() {
    for asgi_loop in LOOPS {
        let server = on(asgi_loop);
        let go = server.directory().join("go");
        let mut reader = client("flood", &url(&server));
        let mut reader = reader.env("GO", &go).spawn().expect("python starts");
        let waits = server.wait_for_output("told: {\"waits\"", 1).swap_remove(0);
        assert_eq!(server.get("/").response().text(), "plain", "others go on");
        std::fs::write(&go, "").expect("a file");
        server.wait_for_output("told: {\"sent\": 400}", 1);
        assert!(reader.wait().expect("it ends").success(), "{waits}");
    }
}

#[test]
fn an_app_that_does_not_read_holds_the_client_back() {
    for asgi_loop in LOOPS {
        let server = on(asgi_loop);
        play(&server, "press");
        server.wait_for_output("told: {\"count\": 400}", 1);
    }
}

#[test]
fn the_servers_end_is_told_to_both_sides() {
    for asgi_loop in LOOPS {
        let server = on(asgi_loop);
        let guests: Vec<Guest> = (0..3).map(|_| Guest::at(&server, "/echo")).collect();
        server.signal(Signal::SIGTERM);
        for guest in guests {
            assert_eq!(guest.code(), "1001");
        }
        server.wait_for_output("told: {\"code\": 1001, \"reason\": \"\"}", 3);
        // Long before the graceful timeout.
        server.assert_exits(0).within(secs(10));
        assert_eq!(server.count_lines("Cutting"), 0);
    }
}

#[test]
fn a_reload_moves_clients_to_the_new_worker() {
    let server = on("asyncio");
    let guest = Guest::at(&server, "/echo");
    server.signal(Signal::SIGHUP);
    assert_eq!(guest.code(), "1012");
    server.wait_ready(2);
    play(&server, "choose");
}

#[test]
fn an_upgrade_moves_clients_to_the_new_master() {
    let server = on("asyncio");
    let guest = Guest::at(&server, "/echo");
    server.signal(Signal::SIGUSR2);
    server.wait_ready(2);
    // The old master has to know it, to tell its clients so.
    server.wait_for_line(") is ready.");
    server.signal(Signal::SIGTERM);
    assert_eq!(guest.code(), "1012");
    server.assert_exits(0).within(secs(10));
    play(&server, "choose");
}

#[test]
fn a_drain_does_not_wait_for_a_client_that_does_not_answer() {
    let server = websockets(&["--graceful-timeout", "2"]);
    let mut frames = Frames::open(&server, "/echo");
    server.signal(Signal::SIGTERM);
    assert_eq!(frames.next(), (0x88, vec![3, 233]));
    server.wait_for_output("told: {\"code\": 1001", 1);
    server.wait_for_line("Cutting upgraded connection GET /echo from 127.0.0.1");
    server.assert_exits(0).within(secs(10));
}

#[test]
fn a_client_that_vanishes_is_1006_and_sending_to_it_raises() {
    for asgi_loop in LOOPS {
        let server = websockets(&[
            "--asgi-loop",
            asgi_loop,
            "--asgi-disconnect-grace-period",
            "1",
        ]);
        Frames::open(&server, "/echo").cut();
        server.wait_for_output("told: {\"code\": 1006", 1);
        Frames::open(&server, "/deaf").cut();
        server.wait_for_output("told: {\"gone\": \"ClientDisconnected\"}", 1);
        // It never looks: its time is limited.
        Frames::open(&server, "/stuck").cut();
        server.wait_for_output("told: {\"cancelled\": true}", 1);
        // Before it was accepted.
        let mut client = server.connect();
        client.send(format!("GET /wait HTTP/1.1\r\n{HANDSHAKE}\r\n"));
        drop(client);
        let told = "told: {\"type\": \"websocket.disconnect\", \"code\": 1006}";
        server.wait_for_output(told, 1);
        server.wait_for_output("told: {\"gone\": \"ClientDisconnected\"}", 2);
        assert_eq!(server.count_lines("Traceback"), 0);
    }
}

#[test]
fn clients_are_pinged_and_cut_when_they_are_dead() {
    let beat = [
        "--websocket-ping-interval",
        "0.3",
        "--websocket-ping-timeout",
        "0.3",
    ];
    let server = websockets(&beat);
    let mut frames = Frames::open(&server, "/echo");
    for _ in 0..3 {
        assert_eq!(frames.next(), (0x89, Vec::new()));
        frames.send(frame(0x8A, ""));
    }
    // Any bytes are a sign of life.
    for _ in 0..2 {
        assert_eq!(frames.next(), (0x89, Vec::new()));
        frames.say("no pong");
        frames.hears("no pong");
    }
    assert_eq!(frames.next(), (0x89, Vec::new()));
    frames.is_closed(1011);
    let told = "told: {\"code\": 1006, \"reason\": \"keepalive ping timeout\"}";
    server.wait_for_output(told, 1);
    // A real client stays as long as it likes.
    let guest = Guest::at(&server, "/echo");
    std::thread::sleep(secs(1));
    server.signal(Signal::SIGTERM);
    assert_eq!(guest.code(), "1001");
}

#[test]
fn websockets_count_as_connections_and_have_their_line_in_the_access_log() {
    let server = websockets(&["--worker-connections", "2", "--access-logfile", "-"]);
    let mut first = Frames::open(&server, "/echo");
    let second = Frames::open(&server, "/echo");
    let waiting = server.get("/").in_background();
    first.say("still served");
    first.hears("still served");
    assert_eq!(
        server
            .output()
            .iter()
            .filter(|line| line.contains("/echo"))
            .count(),
        0
    );
    first.send(frame(0x88, [3, 232]));
    first.is_closed(1000);
    // Two bytes of header and twelve of text, then the close.
    server.wait_for_output("\"GET /echo HTTP/1.1\" 101 18 ", 1);
    assert_eq!(waiting.response().status(), 200);
    second.cut();
    server.wait_for_output("\"GET /echo HTTP/1.1\" 101 0 ", 1);
}

#[test]
fn a_wsgi_app_sees_a_plain_request() {
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("hello").args(["-k", driver]).start();
        let mut client = server.connect();
        let request = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n");
        for _ in 0..2 {
            assert_eq!(client.ask(&request).status(), 200);
        }
        assert_eq!(client.get("/").status(), 200);
    }
}

#[test]
fn axum_serves_websockets_and_learns_of_the_drain() {
    let server = Rgun::example("axum_ws").start();
    let mut frames = Frames::open(&server, "/echo");
    frames.say("through axum");
    frames.hears("through axum");
    frames.send([frame(0x01, "in "), frame(0x89, "p"), frame(0x80, "parts")].concat());
    assert_eq!(frames.next(), (0x8A, b"p".to_vec()));
    frames.hears("in parts");
    let guest = Guest::at(&server, "/echo");
    assert_eq!(server.get("/").response().text(), "hello world!");
    server.signal(Signal::SIGTERM);
    assert_eq!(guest.code(), "1012");
    assert_eq!(frames.next(), (0x88, b"\x03\xF4come again".to_vec()));
    frames.send(frame(0x88, [3, 244]));
    server.assert_exits(0).within(secs(10));
    assert_eq!(server.count_lines("Cutting"), 0);
}

#[test]
fn an_upgraded_connection_that_does_not_end_is_cut_at_the_graceful_timeout() {
    let server = Rgun::example("axum_ws")
        .args(["--graceful-timeout", "1", "--access-logfile", "-"])
        .start();
    let _deaf = Frames::open(&server, "/deaf");
    let _other = Frames::open(&server, "/deaf?again");
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Cutting upgraded connection GET /deaf from 127.0.0.1 after");
    server.wait_for_line("Cutting upgraded connection GET /deaf?again from 127.0.0.1 after");
    server.assert_exits(0).within(secs(10));
    server.wait_for_output("\"GET /deaf HTTP/1.1\" 101 0 ", 1);
    until("both are in the access log", patience(), || {
        server.output().len() == 2
    });
}
