//! What ten thousand idle WebSocket connections cost two workers: under 4 KiB each above what is the app's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::frames::{HANDSHAKE, frame};
use crate::harness::{Address, Rgun, Server, patience, root, venv};

/// Measured are so many connections,
const IDLE: usize = 10_000;
/// beside some that have made the worker's own memory what it will be.
const FIRST: usize = 500;
const WORKERS: usize = 2;
/// What each may cost, in bytes,
const BOUND: usize = 4096;
/// and what a heap of 40 MB may be larger than what is in it.
const SLACK: usize = 256;

/// What all workers have for themselves, in bytes: proc(5), `smaps_rollup`. Not what they share, whose size goes with who else runs.
fn memory(server: &Server) -> usize {
    let pids = server.worker_pids();
    assert_eq!(pids.len(), WORKERS);
    let of = |pid: &i32| {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).expect("a process of ours");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Private_Dirty:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: usize = kibibytes.expect("a size").trim().parse().expect("a number");
        kibibytes * 1024
    };
    pids.iter().map(of).sum()
}

/// A WebSocket after its first message: one that waits for the next.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(patience()))
        .expect("a timeout");
    let head = format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}\r\n");
    let sent = [head.as_bytes(), &frame(0x81, "Hello")].concat();
    stream.write_all(&sent).expect("the server reads");
    let (mut came, mut length) = ([0; 1024], 0);
    while !came[..length].ends_with(b"\r\n\r\n\x81\x05Hello") {
        let read = stream.read(&mut came[length..]);
        let read = read.unwrap_or_else(|error| panic!("after {length} bytes: {error}"));
        let so_far = came[..length].escape_ascii();
        assert!(read > 0, "the end, after {so_far}");
        length += read;
    }
    stream
}

/// So many, by some threads.
fn open_many(server: &Server, count: usize) -> Vec<TcpStream> {
    const THREADS: usize = 4;
    let Address::Tcp(address) = server.address() else {
        panic!("the port is one of TCP");
    };
    thread::scope(|scope| {
        let some = || (0..count / THREADS).map(|_| open(address)).collect();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(some)).collect();
        let opened = threads
            .into_iter()
            .flat_map(|one| -> Vec<_> { one.join().expect("all are served") });
        opened.collect()
    })
}

/// Bytes for each idle WebSocket.
fn cost(rgun: Rgun) -> usize {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let wanted = u64::try_from(IDLE + FIRST + 1000).expect("it fits");
    assert!(most >= wanted, "the hard limit of open files is {most}");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("the soft limit may be raised");
    let server = rgun
        .workers(WORKERS)
        .args(["--worker-connections", "20000"])
        // None of the clients answers.
        .args(["--websocket-ping-interval", "3600"])
        .start();
    let first = open_many(&server, FIRST);
    let before = memory(&server);
    let idle = open_many(&server, IDLE);
    let after = memory(&server);
    assert_eq!((first.len(), idle.len()), (FIRST, IDLE));
    after.saturating_sub(before) / IDLE
}

/// What the same app costs by itself: its Tasks, their frames, scopes and messages.
fn own_cost() -> usize {
    let output = Command::new(venv().join("bin/python3"))
        .arg(root().join("tests/it/idle_own.py"))
        .arg(IDLE.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a number")
}

#[test]
fn idle_websockets_of_asgi_apps_cost_little() {
    let own = own_cost();
    for asgi_loop in ["asyncio", "uvloop"] {
        let rgun = Rgun::app("websocket:app").args(["-k", "asgi", "--asgi-loop", asgi_loop]);
        let all = cost(rgun);
        assert!(
            all < own + BOUND + SLACK,
            "{asgi_loop}: {all} bytes each, of which {own} are the app's"
        );
    }
}

/// Here the app's own is taken for nothing but the buffer that it has chosen: `READ_BUFFER` in `examples/axum_ws.rs`. Its
/// Task and tungstenite's state are within the bound as well.
#[test]
fn idle_websockets_of_axum_cost_little() {
    const READ_BUFFER: usize = 4096;
    let all = cost(Rgun::example("axum_ws"));
    assert!(all < READ_BUFFER + BOUND + SLACK, "{all} bytes each");
}
