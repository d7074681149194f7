//! Where it can listen, and what becomes of the sockets.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Rgun, patience, process, until};

fn hello(address: &Address) {
    let answer = Client::connect(address).get("/");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "hello world!")
    );
}

#[test]
fn ipv6() {
    let server = Rgun::app("builtin:hello").bind("[::1]:0").start();
    let Address::Tcp(address) = server.address() else {
        panic!("no TCP address")
    };
    assert!(address.is_ipv6());
    hello(&server.address());
}

#[test]
fn several_at_once() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let socket = rgun.directory().join("server.sock");
    let server = rgun
        .bind("127.0.0.1:0")
        .bind("[::1]:0")
        .bind(format!("unix:{}", socket.display()))
        .bind(format!("unix:@rgun-test-several-{}", std::process::id()))
        .start();
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    assert_eq!(addresses[2], Address::Unix(socket));
    for address in &addresses {
        hello(address);
    }
}

#[test]
fn a_unix_socket_has_the_mode_of_the_umask_and_goes_with_the_server() {
    for (umask, mode) in [("0", 0o777), ("0o007", 0o770), ("0117", 0o660)] {
        let rgun = Rgun::app("builtin:hello");
        let socket = rgun.directory().join("server.sock");
        let server = rgun
            .bind(format!("unix:{}", socket.display()))
            .args(["--umask", umask])
            .start();
        hello(&server.address());
        let meta = fs::metadata(&socket).expect("the socket");
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, mode, "--umask {umask}");
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
        assert!(!socket.exists(), "it is removed at the end");
    }
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let rgun = Rgun::app("builtin:hello");
    let socket = rgun.directory().join("server.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    assert!(socket.exists(), "a closed listener leaves its file");
    let server = rgun.bind(format!("unix:{}", socket.display())).start();
    hello(&server.address());
}

#[test]
fn a_live_unix_socket_is_refused_and_left_alone() {
    let first = Rgun::app("builtin:hello");
    let socket = first.directory().join("server.sock");
    let first = first.bind(format!("unix:{}", socket.display())).start();
    let second = Rgun::app("builtin:hello")
        .bind(format!("unix:{}", socket.display()))
        .spawn();
    second.assert_exits(1).within(patience());
    second.wait_for_line("Connection in use: ");
    hello(&first.address());
}

#[test]
fn a_file_that_is_no_socket_is_refused_and_left_alone() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.write("precious", "data");
    let server = rgun.bind(format!("unix:{}", file.display())).spawn();
    server.assert_exits(1).within(patience());
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "data");
}

#[test]
fn an_inherited_descriptor_is_served_and_stays_open() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = Rgun::app("builtin:hello")
        .bind("fd://3")
        .stdin(OwnedFd::from(listener))
        .wrapped(["sh", "-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
        .start();
    assert_eq!(server.port(), port);
    hello(&server.address());
}

#[test]
fn a_descriptor_that_is_no_socket_is_refused() {
    let server = Rgun::app("builtin:hello").bind("fd://17").spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("17");
}

#[test]
fn a_bad_address_is_refused() {
    for address in [
        "127.0.0.1:port",
        "unix:",
        "fd://x",
        "127.0.0.1:99999",
        "[::1",
    ] {
        let server = Rgun::app("builtin:hello").bind(address).spawn();
        server.assert_exits(1).within(patience());
        assert_eq!(server.count_lines("Booting worker"), 0, "{address}");
    }
}

#[test]
fn reuse_port_sockets_are_the_masters_one_for_each_worker() {
    let server = Rgun::app("builtin:hello")
        .workers(3)
        .arg("--reuse-port")
        .start();
    let sockets = process::listening(server.port());
    assert_eq!(sockets.len(), 3);
    assert_eq!(
        process::holds(server.pid(), &sockets),
        3,
        "the master keeps them"
    );
    for worker in server.worker_pids() {
        assert_eq!(
            process::holds(worker, &sockets),
            1,
            "a worker has its own alone"
        );
    }
}

#[test]
fn with_reuse_port_no_workers_end_loses_a_queue() {
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .arg("--reuse-port")
        .start();
    let workers = server.wait_for_workers(2);
    // Stopped, they accept nothing: all of these wait in the two queues.
    for &pid in &workers {
        process::signal(pid, Signal::SIGSTOP);
    }
    let mut clients: Vec<Client> = (0..30)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/");
            client
        })
        .collect();
    for &pid in &workers {
        process::signal(pid, Signal::SIGKILL);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn a_killed_workers_queue_is_the_others_on_a_shared_listener() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let stopped = server.wait_for_workers(2)[0];
    process::signal(stopped, Signal::SIGSTOP);
    // A stopped worker must not hold new connections up.
    for _ in 0..30 {
        assert_eq!(server.get("/").response().status(), 200);
    }
    process::signal(stopped, Signal::SIGKILL);
    until("it is gone", patience(), || !process::alive(stopped));
}

#[test]
fn the_backlog_holds_what_comes_while_no_worker_accepts() {
    let server = Rgun::app("builtin:hello")
        .workers(1)
        .args(["--timeout", "0"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    process::signal(worker, Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/");
            client
        })
        .collect();
    process::signal(worker, Signal::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

/// systemd's protocol (`sd_listen_fds(3)`): the sockets come from a socket manager, the configured addresses do not count.
#[test]
fn sockets_of_a_socket_manager_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let server = Rgun::app("builtin:hello")
        .stdin(OwnedFd::from(listener))
        .wrapped(["sh", "-c", script, "sh"])
        .start();
    assert_eq!(server.port(), address.port());
    assert_eq!(server.get("/").response().status(), 200);
}
