//! What is counted of services: their connections are those of HTTP to the caps, the shares and the number of workers.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::asgi::LOOPS;
use crate::harness::{Address, Client, Rgun, Server, millis, patience, quiet, until};
use crate::limits::spreads_evenly;

use super::{answer, line};

/// The example in Rust, and services in Python under each driver that has them; what a line is answered with.
fn servers() -> Vec<(String, Rgun, &'static str)> {
    let mut all = vec![(
        "Rust".to_owned(),
        Rgun::example("rpc").bind("tcp://127.0.0.1:0=lines"),
        "1",
    )];
    for event_loop in LOOPS {
        let rgun = Rgun::app("asgi:app")
            .args(["-k", "asgi", "--asgi-loop", event_loop])
            .bind("tcp://127.0.0.1:0=services:echo");
        all.push((event_loop.to_owned(), rgun, "add 1"));
    }
    let rgun = Rgun::app("wsgi:app")
        .args(["-k", "gevent"])
        .bind("tcp://127.0.0.1:0=services:echo_blocking");
    all.push(("gevent".to_owned(), rgun, "add 1"));
    all
}

/// `count` connections that were answered and stay.
fn held(server: &Server, count: usize, said: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("add 1\n");
    }
    for client in &mut clients {
        let answer = answer(client);
        assert!(answer.ends_with(said), "{answer}");
    }
    clients
}

#[test]
fn long_connections_spread_evenly_over_many_workers_before_and_after_a_reload() {
    let _quiet = quiet();
    for (how, rgun, said) in servers() {
        let server = rgun.workers(5).start();
        server.wait_for_workers(5);
        let connect = || held(&server, 100, said);
        let before = spreads_evenly(&format!("{how}, before"), &server, 0, connect);
        server.signal(Signal::SIGHUP);
        server.wait_ready(10);
        // Those of the old workers are told, and end.
        for mut client in before {
            assert!(client.closes_within(patience()), "{how}");
        }
        server.wait_for_workers(5);
        drop(spreads_evenly(
            &format!("{how}, after"),
            &server,
            0,
            connect,
        ));
        assert_eq!(server.count_lines("Cutting"), 0, "{how}");
    }
}

#[test]
fn connections_count_for_max_requests() {
    for (how, rgun, said) in servers() {
        let server = rgun.args(["--max-requests", "3"]).start();
        let before = server.wait_for_workers(1);
        for _ in 0..3 {
            // Each connection is one, however much is said on it.
            let mut clients = held(&server, 1, said);
            line(&mut clients[0], "add 1");
        }
        server.wait_for_line("Autorestarting worker");
        until("another worker serves", patience(), || {
            let now = server.worker_pids();
            now.len() == 1 && now != before
        });
        drop(held(&server, 1, said));
        assert_eq!(server.count_lines("Cutting"), 0, "{how}");
    }
}

#[test]
fn connections_make_workers_busy() {
    let server = Rgun::example("rpc")
        .bind("tcp://127.0.0.1:0=lines")
        .args(["-w", "1..3", "--worker-connections", "10"])
        .expecting(1)
        .start();
    // Nothing is said on nine of ten: they are there, and that is 90 percent.
    let clients = held(&server, 9, "1");
    server.wait_for_line("more workers: 1 were ");
    server.wait_for_workers(2);
    drop(clients);
}

/// Neither side of one server has places of its own: whoever comes first has them.
#[test]
fn http_and_services_share_one_cap() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "gevent", "--worker-connections", "4"])
        .args(["--overload-timeout", "1"])
        .bind("127.0.0.1:0")
        .bind("tcp://127.0.0.1:0=services:echo_blocking")
        .start();
    let addresses = server.addresses();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&addresses[1])).collect();
    for client in &mut clients {
        assert!(line(client, "in").ends_with("in"));
    }
    let told = Client::connect(&addresses[0]).get("/hello");
    assert_eq!(told.status(), 503);
    // Of a service nobody knows how it would say so: its connection is closed.
    assert!(Client::connect(&addresses[1]).closes_within(patience()));
    clients.pop();
    until("there is a place again", patience(), || {
        Client::connect(&addresses[0]).get("/hello").status() == 200
    });
}

/// A service is on the worker's thread: one that hangs is the worker's own end, and its neighbours come again.
#[test]
fn a_service_that_hangs_is_found_by_the_heartbeat() {
    let server = Rgun::app("asgi:app")
        .args(["-k", "asgi", "--timeout", "2"])
        .bind("tcp://127.0.0.1:0=services:stuck")
        .start();
    let before = server.wait_for_workers(1);
    let mut client = server.connect();
    client.send("now\n");
    server.wait_for_line(&format!("WORKER TIMEOUT (pid:{})", before[0]));
    server.wait_for_line("TCP /services:stuck from 127.0.0.1");
    // Where it stands.
    server.wait_for_line("in stuck");
    assert!(client.closes_within(patience()));
    until("another worker serves", patience(), || {
        let now = server.worker_pids();
        now.len() == 1 && now != before
    });
}

/// A reload under traffic: whoever was answered was answered whole, and whoever comes finds somebody.
#[test]
fn a_reload_loses_no_line() {
    for (how, rgun, said) in servers() {
        let server = rgun.workers(2).start();
        server.wait_for_workers(2);
        let address: Address = server.address();
        for reload in 1..=2 {
            server.signal(Signal::SIGHUP);
            let ready = 2 * (reload + 1);
            let booted = || {
                let log = server.log();
                log.iter().filter(|line| line.ends_with(" ready")).count()
            };
            // Until those from before have left.
            while booted() < ready || server.worker_pids().len() > 2 {
                let begun = Instant::now();
                let mut client = Client::connect(&address);
                client.send("add 1\n");
                // A client that said nothing for longer was idle, and may be told to leave.
                if begun.elapsed() < millis(100) {
                    let answer = answer(&mut client);
                    assert!(answer.ends_with(said), "{how}: {answer}");
                }
            }
        }
        assert_eq!(server.count_lines("Cutting"), 0, "{how}");
    }
}
