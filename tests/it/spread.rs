//! Connections spread evenly also after reloads, with more or fewer workers, and where they stay for long.

use nix::sys::signal::Signal;

use crate::harness::frames::HANDSHAKE;
use crate::harness::{Client, Rgun, Server, quiet};
use crate::limits::spreads_evenly;

/// `count` connections that were answered and stay.
fn kept(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send_get("/hello");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    clients
}

/// So many clients of the `WebSocket` app.
fn websockets(server: &Server, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = server.connect();
            client.send(format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}\r\n"));
            client.wait_for_bytes("101 Switching Protocols");
            client
        })
        .collect()
}

#[test]
fn after_a_reload_the_new_workers_hold_even_shares() {
    let _quiet = quiet();
    for (app, driver) in [
        ("builtin:hello", &[][..]),
        ("wsgi:app", &["-k", "gevent"]),
        ("asgi:app", &["-k", "asgi"]),
    ] {
        let server = Rgun::app(app)
            .args(driver)
            .workers(4)
            .args(["--keep-alive", "60"])
            .start();
        drop(kept(&server, 100));
        for reload in 1..=2 {
            server.signal(Signal::SIGHUP);
            server.wait_ready(4 * (reload + 1));
            server.wait_for_workers(4);
            let how = format!("{app} after reload {reload}");
            drop(spreads_evenly(&how, &server, 0, || kept(&server, 400)));
        }
    }
}

#[test]
fn workers_that_are_added_get_their_share_of_what_comes() {
    let _quiet = quiet();
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .args(["--keep-alive", "60"])
        .start();
    let first = spreads_evenly("two workers", &server, 0, || kept(&server, 80));
    for more in 0..2 {
        server.signal(Signal::SIGTTIN);
        server.wait_ready(3 + more);
    }
    server.wait_for_workers(4);
    // Four workers, who are to hold 40 each in the end: what comes goes to the new ones until they have as many.
    let second = spreads_evenly("four workers", &server, 80, || kept(&server, 80));
    // One leaves, and the others share what it had.
    drop((first, second));
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(3);
    drop(spreads_evenly("three workers", &server, 0, || {
        kept(&server, 300)
    }));
}

#[test]
fn websockets_spread_evenly_before_and_after_a_reload() {
    let _quiet = quiet();
    for event_loop in crate::asgi::LOOPS {
        let server = Rgun::app("websocket:app")
            .args(["-k", "asgi", "--asgi-loop", event_loop])
            .workers(3)
            .start();
        server.wait_for_workers(3);
        let before = spreads_evenly("before", &server, 0, || websockets(&server, 90));
        server.signal(Signal::SIGHUP);
        server.wait_ready(6);
        drop(before);
        server.wait_for_workers(3);
        let after = spreads_evenly("after", &server, 0, || websockets(&server, 90));
        // They stay, and one worker more takes its share of the next.
        server.signal(Signal::SIGTTIN);
        server.wait_ready(7);
        server.wait_for_workers(4);
        let more = || websockets(&server, 30);
        drop(spreads_evenly("four workers", &server, 90, more));
        drop(after);
    }
}

/// Server-sent events: answers without end.
#[test]
fn streams_without_end_spread_evenly() {
    let _quiet = quiet();
    let server = Rgun::app("faulty:asgi")
        .args(["-k", "asgi"])
        .workers(3)
        .start();
    server.wait_for_workers(3);
    let streams = || -> Vec<Client> {
        (0..90)
            .map(|_| {
                let mut client = server.connect();
                client.send_get("/events");
                client.wait_for_bytes("data: begun");
                client
            })
            .collect()
    };
    drop(spreads_evenly("streams", &server, 0, streams));
}
