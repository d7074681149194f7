//! HTTP/2 as real clients and a real proxy speak it: curl, nghttp, h2load, the client that httpx has, nginx.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::http2::*;
use crate::harness::tools::free_port;
use crate::harness::{Rgun, Server, patience, root, secs, until, venv};

/// What a program says, which must end well.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (`bash tests/run` installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn curl(arguments: &[&str]) -> String {
    let limit = patience().as_secs().to_string();
    said(
        Command::new("curl")
            .args(["-sS", "-m", &limit])
            .args(arguments),
    )
}

/// Runs a scenario of `http2_client.py`.
#[track_caller]
fn scenario(server: &Server, name: &str, more: &[&str]) {
    said(
        Command::new(venv().join("bin/python3"))
            .arg(root().join("tests/it/http2_client.py"))
            .args([name, "127.0.0.1", &server.port().to_string()])
            .args(more),
    );
}

fn asgi() -> Server {
    cleartext("asgi:app").args(["-k", "asgi"]).start()
}

const VERSION: [&str; 2] = ["-w", " %{http_version} %{http_code}"];

#[test]
fn curl_is_served_in_either_way() {
    let server = cleartext("builtin:echo")
        .args(["--access-logfile", "-"])
        .start();
    for way in ["--http2-prior-knowledge", "--http2"] {
        let url = server.url("/a?b=c");
        let body = curl(&[&VERSION[..], &[way, "-A", "test", &url]].concat());
        assert!(body.ends_with(" 2 200"), "{way}: {body}");
        assert!(
            body.contains(r#""path":"/a","#) && body.contains(r#""version":"HTTP/2.0""#),
            "{body}"
        );
        assert!(!body.contains("upgrade"), "{body}");
    }
    server.wait_for_output(r#""GET /a?b=c HTTP/2.0" 200 "#, 2);
    // A request with a body is not upgraded, as RFC 7540 section 3.2 allows.
    let url = server.url("/");
    let body = curl(&[&VERSION[..], &["--http2", "-d", "body", &url]].concat());
    assert!(body.ends_with(" 1.1 200"), "{body}");
    // HTTP/1.1 is served beside it.
    let body = curl(&[&VERSION[..], &["--http1.1", &url]].concat());
    assert!(body.ends_with(" 1.1 200"), "{body}");
}

#[test]
fn large_bodies_go_both_ways() {
    let server = cleartext("asgi:app").args(["-k", "asgi"]).start();
    let file = server.directory().join("large");
    let bytes: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_be_bytes).collect();
    fs::write(&file, &bytes).expect("the directory takes files");
    let back = server.directory().join("back");
    let body = format!("@{}", file.display());
    let output = back.display().to_string();
    curl(&[
        "--http2-prior-knowledge",
        "--data-binary",
        &body,
        "-o",
        &output,
        &server.url("/echo"),
    ]);
    assert!(
        fs::read(&back).expect("curl has written it") == bytes,
        "not what was sent"
    );
}

#[test]
fn nghttp_upgrades_and_multiplexes() {
    let server = cleartext("builtin:echo").start();
    let urls: Vec<String> = (0..20)
        .map(|number| server.url(&format!("/{number}")))
        .collect();
    for way in [&["-u", "-v"][..], &["-v"]] {
        let text = said(Command::new("nghttp").args(way).args(&urls));
        for number in 0..20 {
            assert!(
                text.contains(&format!(r#""path":"/{number}""#)),
                "{number}: {text}"
            );
        }
        assert_eq!(text.matches(":status: 200").count(), 20);
    }
}

#[test]
fn h2load_gets_all_its_answers() {
    let server = cleartext("builtin:hello").workers(2).start();
    let text = said(
        Command::new("h2load")
            .args(["-n", "20000", "-c", "50", "-m", "20"])
            .arg(server.url("/")),
    );
    assert!(
        text.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{text}"
    );
}

#[test]
fn wsgi_apps_see_the_request_that_http1_would_bring() {
    for driver in ["sync", "gevent", "gthread"] {
        let server = cleartext("wsgi:app").args(["-k", driver]).start();
        scenario(&server, "facts", &[]);
    }
}

#[test]
fn asgi_apps_see_http_2() {
    for event_loop in ["asyncio", "uvloop"] {
        let server = cleartext("asgi:app")
            .args(["-k", "asgi", "--asgi-loop", event_loop])
            .start();
        for name in ["scope", "hints", "trailers", "expect", "dialogue"] {
            scenario(&server, name, &[]);
        }
    }
}

#[test]
fn hints_of_a_busy_wsgi_app_are_sent_at_once() {
    for driver in ["sync", "gevent", "gthread"] {
        let server = cleartext("hints:app").args(["-k", driver]).start();
        let file = server.directory().join("go");
        scenario(&server, "busy_hint", &[&file.display().to_string()]);
    }
}

#[test]
fn requests_of_a_connection_are_served_together() {
    scenario(&asgi(), "together", &[]);
}

#[test]
fn apps_are_told_of_streams_that_are_reset() {
    let server = asgi();
    scenario(&server, "cancel", &[]);
    server.wait_for_line("heard http.disconnect");
    server.wait_for_line("chat ended by");
    server.wait_for_line("cancelled");
}

#[test]
fn peers_that_are_not_trusted_are_served_http1() {
    let server = cleartext("builtin:echo")
        .args(["--forwarded-allow-ips", "10.1.2.3"])
        .start();
    let url = server.url("/");
    let body = curl(&[&VERSION[..], &["--http2", &url]].concat());
    assert!(body.ends_with(" 1.1 200"), "{body}");
    let mut client = server.connect();
    client.send(PREFACE);
    // PRI is a method like any other, HTTP/2.0 is none of HTTP/1's versions.
    assert_eq!(client.one_response("GET").expect("an answer").status(), 505);
}

#[test]
fn each_way_is_there_where_it_is_asked_for() {
    for (way, upgrade, knowledge, http1) in [
        ("off", "1.1 200", 505, "1.1 200"),
        ("upgrade", "2 200", 505, "1.1 200"),
        ("prior-knowledge", "1.1 400", 0, "1.1 400"),
    ] {
        let server = Rgun::app("builtin:echo")
            .args(["--http-protocols", "h2,h1", "--http2-cleartext", way])
            .spawn();
        server.wait_ready(1);
        let url = server.url("/");
        let body = curl(&[&VERSION[..], &["--http2", &url]].concat());
        assert!(body.ends_with(upgrade), "{way}: {body}");
        let body = curl(&[&VERSION[..], &["--http1.1", &url]].concat());
        assert!(body.ends_with(http1), "{way}: {body}");
        if knowledge == 0 {
            let mut client = Http2::connect(&server);
            client.get(1);
            assert_eq!(client.answer(1).0, 200);
        } else {
            let mut client = server.connect();
            client.send(PREFACE);
            let answer = client.one_response("GET").expect("an answer");
            assert_eq!(answer.status(), knowledge, "{way}");
        }
    }
}

#[test]
fn unix_peers_are_trusted() {
    let rgun = cleartext("builtin:echo").args(["--forwarded-allow-ips", "10.1.2.3"]);
    let path = rgun.directory().join("socket");
    let _server = rgun.bind(format!("unix:{}", path.display())).start();
    let socket = path.display().to_string();
    let body = curl(
        &[
            &VERSION[..],
            &[
                "--http2-prior-knowledge",
                "--unix-socket",
                &socket,
                "http://x/",
            ],
        ]
        .concat(),
    );
    assert!(body.ends_with(" 2 200"), "{body}");
}

#[test]
fn the_preface_may_come_in_pieces() {
    let server = cleartext("builtin:echo").start();
    let mut client = Http2::silent(&server);
    let bytes = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, WHOLE, 1, &get()),
    ]
    .concat();
    for byte in bytes {
        client.raw(&[byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.answer(1).0, 200);
    // So may what only begins like it.
    let mut client = server.connect();
    for byte in b"PRINT / HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.one_response("GET").expect("an answer").status(), 200);
}

#[test]
fn limits_of_requests_are_those_of_http1() {
    let server = cleartext("builtin:echo")
        .args([
            "--limit-request-body",
            "1000",
            "--limit-request-fields",
            "10",
        ])
        .args(["--limit-request-line", "50", "--readiness-path", "/ready"])
        .start();
    let mut client = Http2::connect(&server);
    client.send(
        HEADERS,
        WHOLE,
        1,
        &request("GET", &format!("/{}", "a".repeat(60))),
    );
    assert_eq!(client.answer(1).0, 414);
    let many: Vec<u8> = (0..20)
        .flat_map(|n| field(&format!("x-{n}"), "y"))
        .collect();
    client.send(HEADERS, WHOLE, 3, &[get(), many].concat());
    assert_eq!(client.answer(3).0, 431);
    let announced = [post(), field("content-length", "1001")].concat();
    client.send(HEADERS, END_HEADERS, 5, &announced);
    assert_eq!(client.answer(5).0, 413);
    client.send(HEADERS, END_HEADERS, 7, &post());
    client.send(DATA, 0, 7, &[0; 2000]);
    assert_eq!(client.answer(7).0, 413);
    client.send(HEADERS, WHOLE, 9, &request("GET", "/ready"));
    assert_eq!(client.answer(9), (200, b"ready\n".to_vec()));
    client.send(
        HEADERS,
        WHOLE,
        11,
        &[get(), field("expect", "more")].concat(),
    );
    assert_eq!(client.answer(11).0, 417);
}

#[test]
fn a_drain_finishes_what_has_begun() {
    let server = cleartext("wsgi:app")
        .args(["-k", "gthread", "--threads", "4"])
        .start();
    let file = server.directory().join("go");
    let here = server.directory().join("go.here");
    let path = format!("/wait-for-file?{}", file.display());
    let mut idle = Http2::connect(&server);
    let mut client = Http2::connect(&server);
    client.send(HEADERS, WHOLE, 1, &request("GET", &path));
    until("the app has the request", patience(), || here.exists());
    server.signal(Signal::SIGTERM);
    let going = client.find(|frame| frame.kind == GOAWAY).expect("GOAWAY");
    assert_eq!(
        (going.code(), &going.payload[..4]),
        (NO_ERROR, &[0x7F, 0xFF, 0xFF, 0xFF][..])
    );
    // What was sent before the client could know is served (section 6.8).
    client.send(HEADERS, WHOLE, 3, &request("GET", "/hello"));
    let ping = client.find(|frame| frame.kind == PING).expect("a PING");
    client.send(PING, ACK, 0, &ping.payload);
    assert_eq!(client.answer(3).0, 200);
    fs::write(&file, "").expect("the directory takes files");
    assert_eq!(client.answer(1), (200, b"seen".to_vec()));
    while client.next().is_some() {}
    assert_eq!(idle.goodbye(), NO_ERROR);
    server.assert_exits(0).within(secs(10));
}

#[test]
fn a_drain_ends_at_its_time_for_streams_too() {
    let server = cleartext("asgi:app")
        .args(["-k", "asgi", "--graceful-timeout", "1"])
        .start();
    let mut client = Http2::connect(&server);
    client.send(HEADERS, WHOLE, 1, &request("GET", "/deaf"));
    server.wait_for_line("deaf");
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Cutting request GET /deaf from 127.0.0.1");
    server.assert_exits(0).within(secs(20));
}

#[test]
fn a_worker_that_has_answered_enough_is_replaced() {
    let server = cleartext("builtin:hello")
        .args(["--max-requests", "10"])
        .start();
    let first = server.worker_pids();
    let mut client = Http2::connect(&server);
    for number in 0..10 {
        client.get(2 * number + 1);
        assert_eq!(client.answer(2 * number + 1).0, 200);
    }
    assert_eq!(client.goodbye(), NO_ERROR);
    until("another worker serves", patience(), || {
        server.worker_pids() != first
    });
    let mut client = Http2::connect(&server);
    client.get(1);
    assert_eq!(client.answer(1).0, 200);
}

#[test]
fn a_client_that_closes_its_half_gets_no_more_than_it_can_have() {
    let server = asgi();
    let mut client = Http2::connect(&server);
    client.send(HEADERS, WHOLE, 1, &request("GET", "/leave"));
    server.wait_for_line("waiting");
    client.finish();
    server.wait_for_line("heard http.disconnect");
}

/// nginx with one server block, stopped when dropped.
struct Nginx {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Nginx {
    fn start(block: &str) -> Self {
        let directory = TempDir::with_prefix("rgun-nginx-").expect("a temporary directory");
        let port = free_port();
        let place = directory.path().display();
        let conf = directory.path().join("nginx.conf");
        let text = format!(
            "daemon off; error_log stderr; pid {place}/pid; events {{}}\n\
             http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n\
             fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen 127.0.0.1:{port}; {block} }} }}\n"
        );
        fs::write(&conf, text).expect("the directory takes files");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("nginx is installed (`bash tests/run` installs it)");
        until("nginx listens", patience(), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            port,
            _directory: directory,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid fits");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_speaks_it_to_us() {
    let server = cleartext("builtin:echo").start();
    let port = server.port();
    let nginx = Nginx::start(&format!(
        "location / {{ grpc_set_header X-Forwarded-Proto https; grpc_pass grpc://127.0.0.1:{port}; }}"
    ));
    let url = format!("http://127.0.0.1:{}/through?a=b", nginx.port);
    for _ in 0..20 {
        let body = curl(&["-d", "a body", &url]);
        assert!(body.contains(r#""version":"HTTP/2.0""#), "{body}");
        assert!(body.contains(r#""scheme":"https""#), "{body}");
        assert!(
            body.contains(r#""body":"a body""#) && body.contains(r#""query":"a=b""#),
            "{body}"
        );
    }
}
