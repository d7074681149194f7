//! What holds for every protocol, in one server that speaks them all: the access log, the cap, recycling, the drain.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

use nix::sys::signal::Signal;

use super::speech::Speech;
use super::wire::{Door, Wire};
use super::{apps_of, assert_served};
use crate::harness::{Rgun, patience, until};

/// What the access log says of a door's ordinary request: host, request line, status, bytes.
fn line(door: &Door) -> String {
    let host = if door.header.is_empty() {
        "127.0.0.1"
    } else {
        "192.0.2.7"
    };
    let told = match door.speech {
        Speech::Http1 | Speech::Uwsgi => "GET / HTTP/1.1 200 12",
        Speech::Http2 => "GET / HTTP/2.0 200 12",
        // Its frame has two bytes more.
        Speech::WebSocket => "GET / HTTP/1.1 101 14",
        Speech::Lines => "TCP /hostile:lines - 13",
        Speech::Frames => "TCP /frames - 16",
    };
    format!("{host} {told}")
}

#[test]
fn each_protocol_has_its_line_in_the_access_log() {
    let (server, doors) = apps_of(|rgun| {
        rgun.args(["--access-logfile", "-"])
            .args(["--access-logformat", "%(h)s %(r)s %(s)s %(b)s"])
    });
    for (number, door) in doors.iter().enumerate() {
        let line = line(door);
        let before = |other: &&Door| self::line(other) == line;
        let times = doors[..=number].iter().filter(before).count();
        assert_served(door);
        server.wait_for_output(&line, times);
    }
}

/// Neither a WebSocket nor a service is ever idle, so nobody can be shed for those who come later.
#[test]
fn connections_of_each_protocol_count_for_the_cap_and_those_past_it_are_told() {
    let (server, doors) = apps_of(|rgun| {
        rgun.args(["--worker-connections", "3", "--overload-timeout", "0.5"])
            .args(["--websocket-ping-interval", "0"])
    });
    let by_name = |name: &str| {
        doors
            .iter()
            .find(|door| door.name == name)
            .expect("it is there")
    };
    let mut inside: Vec<_> = ["WebSocket", "WebSocket by TLS", "a Python service"]
        .map(|name| {
            let door = by_name(name);
            let mut wire = Wire::open(door).expect("there is room");
            door.speech.ask(&mut wire).expect("it is served");
            wire
        })
        .into();
    for name in ["http", "https behind PROXY v2", "uwsgi", "h2c", "h2 by TLS"] {
        let door = by_name(name);
        let status = Wire::open(door)
            .and_then(|mut wire| door.speech.status(&mut wire))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(status, 503, "{name}");
    }
    // A service has no words for it: who comes waits for room.
    let door = by_name("a Python service");
    let mut waiting = Wire::open(door).expect("the kernel accepts");
    waiting.send(&door.speech.request());
    drop(inside.pop());
    let mut answer = [0; 13];
    waiting
        .read_exact(&mut answer)
        .expect("there is room again");
    assert_eq!(&answer, b"hello world!\n");
    drop(waiting);
    for door in &doors {
        drop(inside.pop());
        assert_served(door);
    }
    assert_eq!(server.booted().len(), 1);
}

#[test]
fn requests_of_each_protocol_count_for_max_requests() {
    let (server, doors) = apps_of(|rgun| rgun.args(["--max-requests", "5"]));
    let mut workers: BTreeSet<_> = server.worker_pids().into_iter().collect();
    for door in doors.iter().filter(|door| door.header.is_empty()) {
        // With one request for each, a worker that came in between may have answered some.
        let before = workers.len();
        until("the worker is replaced", patience(), || {
            let answered = Wire::open(door).and_then(|mut wire| door.speech.ask(&mut wire));
            if let Err(error) = answered {
                // A WebSocket that meets a worker about to leave is told to come again (1012).
                let told = error.to_string();
                let again = door.speech == Speech::WebSocket && told.contains(r"\\x03\\xf4");
                assert!(again, "{}: {told}", door.name);
            }
            workers.extend(server.booted());
            workers.len() > before
        });
    }
}

#[test]
fn a_drain_tells_clients_of_each_protocol() {
    let (server, doors) = apps_of(|rgun| rgun.args(["--keep-alive", "60"]));
    let mut open: Vec<_> = doors
        .iter()
        .filter(|door| {
            matches!(
                door.speech,
                Speech::Http2 | Speech::WebSocket | Speech::Lines
            )
        })
        .map(|door| {
            let mut wire = Wire::open(door).expect("the server accepts");
            door.speech.ask(&mut wire).expect("it is served");
            (door, wire)
        })
        .collect();
    let busy = &doors[0];
    let mut half = Wire::open(busy).expect("the server accepts");
    let request = busy.speech.request();
    half.send(&request[..request.len() / 2]);
    server.signal(Signal::SIGTERM);
    for (door, wire) in &mut open {
        // GOAWAY, or a close frame that says that the server goes or comes again, or the end.
        let mut rest = vec![0; 64];
        let read = wire
            .read(&mut rest)
            .unwrap_or_else(|error| panic!("{}: {error}", door.name));
        rest.truncate(read);
        let told = match door.speech {
            Speech::Http2 => rest.get(3) == Some(&7),
            Speech::WebSocket => matches!(rest[..], [0x88, _, 3, 0xE9 | 0xF4, ..]),
            Speech::Lines => rest.is_empty(),
            Speech::Http1 | Speech::Uwsgi | Speech::Frames => unreachable!("not opened"),
        };
        assert!(told, "{}: {rest:x?}", door.name);
        if door.speech == Speech::WebSocket {
            let _ = wire.write_all(&crate::harness::frames::frame(0x88, [3, 0xE9]));
        }
        assert!(wire.is_ended(), "{}", door.name);
    }
    // What had begun is answered.
    half.send(&request[request.len() / 2..]);
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.assert_exits(0).within(patience());
    assert_eq!(server.count_lines("Cutting"), 0);
}

#[test]
fn each_limit_is_on_unless_somebody_switches_it_off() {
    let server = Rgun::app("builtin:hello").arg("--print-config").spawn();
    server.assert_exits(0).within(patience());
    for setting in [
        "worker_connections",
        "overload_timeout",
        "keepalive",
        "header_timeout",
        "body_timeout",
        "write_timeout",
        "min_rate",
        "limit_request_line",
        "limit_request_fields",
        "limit_request_field_size",
        "limit_request_body",
        "tls_handshake_timeout",
        "tls_handshakes",
        "http2_max_concurrent_streams",
        "http2_max_header_list_size",
        "websocket_max_message_size",
        "websocket_ping_interval",
        "websocket_ping_timeout",
    ] {
        let line = server
            .wait_for_output(&format!("{setting} = "), 1)
            .swap_remove(0);
        assert!(line.ends_with("  # default"), "{line}");
        let value = line.trim_start_matches(setting).trim_start_matches(" = ");
        assert!(
            !value.starts_with("0  #") && !value.starts_with("\"0"),
            "{line}"
        );
    }
}
