//! TCP services: protocols of their own, in Rust and in Python, by the same workers and under the same caps as HTTP.

mod counts;
mod examples;

use std::process::Command;

use nix::sys::signal::Signal;

use crate::asgi::LOOPS;
use crate::harness::{Address, Client, Rgun, Server, patience, process, until, venv};

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

/// The line that this one is answered with.
#[track_caller]
fn line(client: &mut Client, text: &str) -> String {
    client.send(format!("{text}\n"));
    answer(client)
}

#[track_caller]
fn answer(client: &mut Client) -> String {
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        answer.append(&mut client.exactly(1).expect("a line"));
    }
    String::from_utf8(answer)
        .expect("it is text")
        .trim_end()
        .to_owned()
}

/// The example's server, with both its services.
fn rpc() -> Rgun {
    Rgun::example("rpc")
        .bind("tcp://127.0.0.1:0=lines")
        .bind("tcp://127.0.0.1:0=frames")
}

#[test]
fn rust_services_speak_lines_and_frames() {
    let server = rpc().args(["--access-logfile", "-"]).start();
    let [lines, frames] = [0, 1].map(|place| server.addresses()[place].clone());
    let mut client = Client::connect(&lines);
    for _ in 0..3 {
        assert_eq!(line(&mut client, "add 1 2 39"), "42");
    }
    assert_eq!(
        line(&mut client, "who"),
        format!("127.0.0.1:{}", client.port())
    );
    drop(client);
    server.wait_for_output("\"TCP /lines\" - ", 1);
    let mut client = Client::connect(&frames);
    for text in ["abc", "", "0123456789"] {
        let length = u32::try_from(text.len())
            .expect("it is short")
            .to_be_bytes();
        client.send([&length[..], text.as_bytes()].concat());
        let backwards: Vec<u8> = text.bytes().rev().collect();
        let answer = client.exactly(4 + text.len()).expect("a frame");
        assert_eq!(answer, [&length[..], &backwards].concat());
    }
    // One that is too long is the service's error, and costs its connection.
    client.send([0xff; 4]);
    assert_eq!(client.until_end(), b"");
    server.wait_for_line("Error in the service frames (ip=127.0.0.1): ");
    assert_eq!(line(&mut Client::connect(&lines), "add 1"), "1");
}

#[test]
fn a_service_that_is_not_there_is_refused_with_the_nearest_one() {
    let server = Rgun::example("rpc").bind("tcp://127.0.0.1:0=linse").spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("there is no such service; did you mean lines?");
    let server = Rgun::app("builtin:hello")
        .bind("tcp://127.0.0.1:0=services:echo")
        .spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("there is no such service: they come with a Python app");
    let server = Rgun::app("asgi:app")
        .bind("tcp://127.0.0.1:0=lines")
        .spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("there is no such service; Python's are MODULE:CALLABLE");
}

#[test]
fn services_have_the_same_cap_as_http() {
    let server = rpc().args(["--worker-connections", "2"]).start();
    let lines = server.addresses()[0].clone();
    let mut inside: Vec<Client> = (0..2).map(|_| Client::connect(&lines)).collect();
    for client in &mut inside {
        assert_eq!(line(client, "add 1"), "1");
    }
    // With room for two a third one waits until somebody leaves, and is not answered for the overload.
    let mut third = Client::connect(&lines);
    third.send("add 7\n");
    assert!(third.stays_silent_for(crate::harness::millis(100)));
    drop(inside.pop());
    assert_eq!(answer(&mut third), "7");
}

#[test]
fn services_must_be_told_the_client_where_a_proxy_tells_it() {
    let server = Rgun::example("rpc")
        .bind("tcp://127.0.0.1:0=lines?proxy=v1")
        .start();
    let mut client = server.connect();
    client.send(V1);
    assert_eq!(line(&mut client, "who"), "192.0.2.7:4711");
    let mut client = server.connect();
    client.send("who\n");
    assert_eq!(client.until_end(), b"");
    server.wait_for_line("from ip=127.0.0.1: it sent no PROXY header");
}

#[test]
fn long_connections_spread_evenly_and_are_told_of_a_drain() {
    let server = rpc().workers(3).start();
    let lines = server.addresses()[0].clone();
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(&lines)).collect();
    for client in &mut clients {
        assert_eq!(line(client, "add 1"), "1");
    }
    let Address::Tcp(address) = &lines else {
        panic!("a TCP address")
    };
    let held = process::established(address.port());
    for pid in server.wait_for_workers(3) {
        let share = process::holds(pid, &held);
        assert!((8..=12).contains(&share), "{share} of 30");
    }
    server.signal(Signal::SIGTERM);
    for client in &mut clients {
        assert!(client.closes_within(patience()));
    }
    server.assert_exits(0).within(patience());
    assert_eq!(server.count_lines("Cutting"), 0);
}

#[test]
fn what_does_not_end_is_cut_at_the_graceful_timeout() {
    let server = rpc().args(["--graceful-timeout", "1"]).start();
    let mut client = Client::connect(&server.addresses()[1]);
    // Half a frame: its service waits for the rest, drain or not.
    client.send([0, 0, 0, 9, 1]);
    client.stays_silent_for(crate::harness::millis(50));
    server.signal(Signal::SIGTERM);
    assert!(client.closes_within(patience()));
    server.wait_for_line("Cutting request TCP /frames from 127.0.0.1 after ");
    server.assert_exits(0).within(patience());
}

/// A service of `services.py` answers, is told of a drain, and fails by itself.
fn python(args: &[&str], app: &str, echo: &str, broken: &str) {
    let server: Server = Rgun::app(app)
        .args(args)
        .bind("127.0.0.1:0")
        .bind(format!("tcp://127.0.0.1:0=services:{echo}"))
        .bind(format!("tcp://127.0.0.1:0=services:{broken}"))
        .bind(format!("tcp://127.0.0.1:0=services:{echo}?proxy=v1"))
        .args(["--access-logfile", "-", "--access-logformat", "%(r)s %(b)s"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    let addresses = server.addresses();
    let mut client = Client::connect(&addresses[1]);
    for text in ["one", "two"] {
        assert_eq!(
            line(&mut client, text),
            format!("{worker} 127.0.0.1 {text}")
        );
    }
    let mut proxied = Client::connect(&addresses[3]);
    proxied.send(V1);
    assert_eq!(line(&mut proxied, "x"), format!("{worker} 192.0.2.7 x"));
    let mut failing = Client::connect(&addresses[2]);
    failing.send("x\n");
    assert_eq!(failing.until_end(), b"");
    server.wait_for_line(&format!(
        "Error in the service services:{broken} (ip=127.0.0.1)"
    ));
    server.wait_for_line("ValueError: a line too much");
    // HTTP is served beside them.
    assert_eq!(server.get("/hello").response().status(), 200);
    drop(proxied);
    let bytes = format!("{worker} 192.0.2.7 x\n").len();
    // The blocking one says goodbye to whoever leaves.
    let bytes = if echo == "echo" {
        bytes
    } else {
        bytes + "goodbye\n".len()
    };
    server.wait_for_output(&format!("TCP /services:{echo} {bytes}"), 1);
    server.signal(Signal::SIGTERM);
    // What is on its way when the drain begins is answered; then the input ends.
    let rest = String::from_utf8(client.until_end()).expect("it is text");
    assert_eq!(rest, "goodbye\n", "{args:?}");
    server.assert_exits(0).within(patience());
    assert_eq!(server.count_lines("Cutting"), 0, "{args:?}");
}

#[test]
fn python_has_streams_under_asgi() {
    for event_loop in LOOPS {
        let args = ["-k", "asgi", "--asgi-loop", event_loop];
        python(&args, "asgi:app", "echo", "broken");
    }
}

#[test]
fn python_has_blocking_sockets_under_gevent() {
    python(
        &["-k", "gevent"],
        "wsgi:app",
        "echo_blocking",
        "broken_blocking",
    );
}

#[test]
fn a_python_service_that_cannot_be_served_is_refused_at_the_start_and_by_the_check() {
    for (app, args, service, code, said) in [
        (
            "wsgi:app",
            &["-k", "sync"][..],
            "services:echo",
            4,
            "There is no service \"services:echo\" here: Python's are served by --worker-class asgi or gevent.",
        ),
        (
            "wsgi:app",
            &["-k", "gthread", "--threads", "2"],
            "services:echo",
            4,
            "are served by --worker-class asgi or gevent",
        ),
        (
            "asgi:app",
            &["-k", "asgi"],
            "services:echo_blocking",
            4,
            "is no `async def handle(reader, writer)`",
        ),
        (
            "wsgi:app",
            &["-k", "gevent"],
            "services:echo",
            4,
            "is no `def handle(socket, address)`",
        ),
        (
            "asgi:app",
            &["-k", "asgi"],
            "services:ecko",
            4,
            "The service services:ecko: Failed to find attribute 'ecko'",
        ),
        (
            "asgi:app",
            &["-k", "asgi"],
            "sevices:echo",
            3,
            "(for the service sevices:echo)",
        ),
    ] {
        for (check, code) in [(&[][..], code), (&["--check-config"], 1)] {
            let server = Rgun::app(app)
                .args(args)
                .args(check)
                .bind(format!("tcp://127.0.0.1:0={service}"))
                .spawn();
            server.assert_exits(code).within(patience());
            server.wait_for_line(said);
        }
    }
    let server = Rgun::app("asgi:app")
        .args(["-k", "asgi", "--check-config"])
        .bind("tcp://127.0.0.1:0=services:echo")
        .spawn();
    server.assert_exits(0).within(patience());
}

#[test]
fn a_broken_connection_of_the_services_own_is_told() {
    let server = Rgun::app("asgi:app")
        .args(["-k", "asgi"])
        .bind("tcp://127.0.0.1:0=services:backend")
        .start();
    let mut client = server.connect();
    client.send("x\n");
    assert_eq!(client.until_end(), b"");
    server.wait_for_line("ConnectionRefusedError: nobody is there");
}

#[test]
fn thrifts_own_server_code_runs_as_a_service() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "gevent"])
        .workers(2)
        .bind("tcp://127.0.0.1:0=services:calculator")
        .start();
    let asked: Vec<_> = (0..4)
        .map(|_| {
            Command::new(venv().join("bin/python3"))
                .arg(crate::harness::apps().join("calculator_client.py"))
                .args(["127.0.0.1", &server.port().to_string()])
                .output()
                .expect("python runs")
        })
        .collect();
    for output in asked {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "5050\n", "{told}");
    }
    until("nobody is connected any more", patience(), || {
        process::established(server.port()).is_empty()
    });
}
