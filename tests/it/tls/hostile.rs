//! Clients that stall, lie or speak something else: each costs one connection.

use std::time::Instant;

use serde_json::json;

use super::{NAME, https};
use crate::harness::tls::Peer;
use crate::harness::{Rgun, millis, patience, until};

/// The beginning of a record that is to hold 512 bytes.
const BEGINNING: &[u8] = &[22, 3, 1, 2, 0, 1, 0];

#[test]
fn a_plain_request_is_answered_in_plain() {
    let (server, _pki) = https(Rgun::app("builtin:hello"), "");
    let mut client = server.connect();
    let answer = client.get("/");
    assert_eq!(answer.status(), 400);
    assert!(
        answer
            .text()
            .contains("plain HTTP request was sent to an HTTPS port"),
        "{}",
        answer.text()
    );
    assert!(client.closes_within(patience()));
    server.wait_for_line("Invalid request from ip=127.0.0.1: The plain HTTP request was sent");
}

#[test]
fn garbage_and_silence_cost_one_connection_each() {
    let (server, pki) = https(Rgun::app("builtin:hello"), "");
    let peer = Peer::new(&pki, server.port());
    peer.connect(1, NAME);
    for garbage in [
        &b"\x00\x01\x02garbage"[..],
        b"SSH",
        b"\xff",
        b"\x16\x03\x01\x00\x05hello",
    ] {
        let mut client = server.connect();
        client.send(garbage);
        client.half_close();
        assert!(client.closes_within(patience()), "{garbage:?}");
    }
    server.wait_for_line("failed: it does not speak TLS");
    // A load balancer that looks whether anybody listens is no failure.
    drop(server.connect());
    peer.get(1, "/");
    peer.connect(2, NAME);
    peer.get(2, "/");
    assert!(server.log().iter().all(|line| !line.contains("panic")));
}

#[test]
fn a_stalled_handshake_is_cut_and_harms_nobody() {
    let rgun = Rgun::app("builtin:hello").args(["--tls-handshake-timeout", "1"]);
    let (server, pki) = https(rgun, "");
    let mut stalled: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut stalled {
        client.send(BEGINNING);
    }
    let mut silent = server.connect();
    let peer = Peer::new(&pki, server.port());
    peer.connect(1, NAME);
    peer.get(1, "/");
    for client in &mut stalled {
        assert!(client.closes_within(patience()));
    }
    assert!(silent.closes_within(patience()));
    server.wait_for_line("failed: it took too long");
    peer.connect(2, NAME);
    peer.get(2, "/");
}

/// Two may shake hands at once, and two do so for ever: the third comes through long before their deadline.
#[test]
fn who_is_silent_in_a_handshake_makes_room_for_others() {
    let rgun = Rgun::app("builtin:hello").args([
        "--tls-handshakes",
        "2",
        "--tls-handshake-timeout",
        "300",
    ]);
    let (server, pki) = https(rgun, "");
    let mut stalled: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut stalled {
        client.send(BEGINNING);
    }
    let peer = Peer::new(&pki, server.port());
    let begun = Instant::now();
    peer.connect(1, NAME);
    peer.get(1, "/");
    assert!(begun.elapsed() < millis(100_000), "{:?}", begun.elapsed());
    let closed = stalled
        .iter_mut()
        .filter_map(|client| client.closes_within(millis(100)).then_some(()))
        .count();
    assert!(closed >= 1);
}

#[test]
fn a_client_that_does_not_read_is_cut_and_a_slow_one_is_not() {
    let rgun = Rgun::app("tls_facts:wsgi").args([
        "-k",
        "gthread",
        "--threads",
        "4",
        "--write-timeout",
        "1",
        "--min-rate",
        "100",
    ]);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    peer.connect(1, NAME);
    peer.tell(json!({"do": "send", "id": 1, "bytes": "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"}));
    server.wait_for_line("does not read its response");
    let end = peer.ask(json!({"do": "read_end", "id": 1}));
    assert!(
        end["clean"] == json!(false) || end.get("error").is_some(),
        "cut, and not ended"
    );
    let slow = super::curl(
        &server,
        &pki,
        &[
            "--limit-rate",
            "8M",
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}",
            "URL/long",
        ],
    );
    assert_eq!(slow, "20971520");
}

#[test]
fn a_connection_that_ends_without_tls_saying_so_is_no_trouble() {
    for word in ["true", "false"] {
        let rgun = Rgun::app("builtin:echo");
        let file = rgun.write("conf.toml", &format!("suppress_ragged_eofs = {word}\n"));
        let (server, pki) = https(rgun.arg("-c").arg(file), "");
        let peer = Peer::new(&pki, server.port());
        peer.connect(1, NAME);
        peer.get(1, "/");
        peer.tell(json!({"do": "drop", "id": 1}));
        if word == "false" {
            server.wait_for_line("A TLS connection is broken off: peer closed connection without sending TLS close_notify");
        }
        peer.connect(2, NAME);
        peer.get(2, "/");
    }
}

#[test]
fn the_cap_counts_handshakes_and_makes_room_among_them() {
    let rgun = Rgun::app("builtin:hello").args([
        "--worker-connections",
        "4",
        "--overload-timeout",
        "20",
    ]);
    let (server, pki) = https(rgun, "");
    let mut stalled: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut stalled {
        client.send(BEGINNING);
    }
    let peer = Peer::new(&pki, server.port());
    until("somebody has made room", patience(), || {
        peer.ask(json!({"do": "connect", "id": 1, "name": NAME}))
            .get("error")
            .is_none()
    });
    peer.get(1, "/");
}
