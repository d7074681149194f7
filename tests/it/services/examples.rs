//! The example of services in Python, as its readers would run it.

use crate::asgi::LOOPS;
use crate::harness::{Address, Client, Rgun, Server, patience, root};

use super::{answer, line};

/// `examples/python/rpc.py` with two of its services; the addresses of HTTP, lines and frames.
fn example(app: &str, args: &[&str], lines: &str, frames: &str) -> (Server, [Address; 3]) {
    let server = Rgun::app(app)
        .args(args)
        .args([
            "--chdir",
            &root().join("examples/python").display().to_string(),
        ])
        .bind("127.0.0.1:0")
        .bind(format!("tcp://127.0.0.1:0=rpc:{lines}"))
        .bind(format!("tcp://127.0.0.1:0=rpc:{frames}"))
        .start();
    let addresses = server.addresses().try_into().expect("three");
    (server, addresses)
}

fn frame(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("it is short");
    [&length.to_be_bytes()[..], text].concat()
}

/// What the services are to do, however they are written.
fn try_out((server, [http, lines, frames]): (Server, [Address; 3])) {
    let mut client = Client::connect(&lines);
    assert_eq!(line(&mut client, "add 1 2 39"), "42");
    assert_eq!(line(&mut client, "add one"), "error: add NUMBERS");
    assert_eq!(line(&mut client, "\u{e9}"), "error: add NUMBERS");
    // Two at once, and one in pieces.
    client.send("add 1\nadd 2\nadd");
    assert_eq!(answer(&mut client), "1");
    assert_eq!(answer(&mut client), "2");
    client.send(" 3\n");
    assert_eq!(answer(&mut client), "3");

    let mut client = Client::connect(&frames);
    let long = vec![b'x'; 65_536];
    for text in [&b"abc"[..], b"", &long] {
        let backwards: Vec<u8> = text.iter().rev().copied().collect();
        for byte in frame(text).chunks(30_000) {
            client.send(byte);
        }
        assert_eq!(client.exactly(4 + text.len()), Ok(frame(&backwards)));
    }
    // A client that leaves within a frame is nobody's mistake.
    client.send([0, 0, 0, 9, 1]);
    client.half_close();
    assert_eq!(client.until_end(), b"");
    assert_eq!(server.count_lines("Error in the service"), 0);
    // One that sends what cannot be is told of, and costs its own connection.
    let mut client = Client::connect(&frames);
    client.send([0xff; 4]);
    assert_eq!(client.until_end(), b"");
    server.wait_for_line("ValueError: a frame of 4294967295 bytes");
    assert_eq!(line(&mut Client::connect(&lines), "add 4"), "4");

    assert_eq!(Client::connect(&http).get("/").text(), "hello");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.assert_exits(0).within(patience());
}

#[test]
fn the_coroutines_of_the_example_serve() {
    for event_loop in LOOPS {
        let args = ["-k", "asgi", "--asgi-loop", event_loop];
        try_out(example("rpc:app", &args, "lines", "frames"));
    }
}

#[test]
fn the_blocking_functions_of_the_example_serve() {
    let args = ["-k", "gevent"];
    let (server, addresses) = example("rpc:wsgi", &args, "lines_blocking", "frames_blocking");
    let mut client = Client::connect(&addresses[1]);
    let port = client.port();
    assert_eq!(line(&mut client, "who"), format!("127.0.0.1:{port}"));
    try_out((server, addresses));
}
