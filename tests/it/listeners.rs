//! Where it can listen, and what becomes of the sockets.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Hammer, Rgun, Server, patience, process, until};

/// How often each operation is done under load.
const OFTEN: usize = 30;

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

/// A server with a socket for each worker, and clients that open a connection for each request.
fn hammered(rgun: Rgun) -> (Server, Hammer) {
    let server = rgun.arg("--reuse-port").start();
    let hammer = Hammer::start(&server, "/", 6);
    (server, hammer)
}

/// There were answers, and nothing else.
#[track_caller]
fn lost_nobody(what: &str, times: usize, hammer: Hammer) {
    let tally = hammer.stop();
    let (good, failures) = (tally.good, tally.failures);
    eprintln!(
        "{what}: {times} times, {good} answers, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{what}: {failures:?}");
    assert!(good > times, "{what}: {good}");
}

/// Each socket at the server's port is held by the master, and by a worker that lives and is not about to leave.
#[track_caller]
fn each_socket_has_a_worker(server: &Server, workers: usize) {
    until("each socket has a worker", patience(), || {
        let workers = server.wait_for_workers(workers);
        process::listening(server.port()).into_iter().all(|socket| {
            let socket = [socket].into();
            process::holds(server.pid(), &socket) == 1
                && workers.iter().any(|pid| process::holds(*pid, &socket) > 0)
        })
    });
}

#[test]
fn with_reuse_port_more_and_fewer_workers_lose_nobody() {
    let (server, hammer) = hammered(Rgun::app("builtin:hello").workers(1));
    let mut ready = 1;
    for count in 0..OFTEN {
        // Up to four and down to one again.
        let (up, steps) = (count % 2 == 0, 3);
        for step in 1..=steps {
            server.signal(if up { Signal::SIGTTIN } else { Signal::SIGTTOU });
            server.wait_for_lines("workers wanted", count * steps + step);
        }
        if up {
            ready += steps;
            server.wait_ready(ready);
        }
        server.wait_for_workers(if up { 4 } else { 1 });
    }
    each_socket_has_a_worker(&server, 1);
    // Never more than there were workers at a time.
    assert_eq!(process::listening(server.port()).len(), 4);
    lost_nobody("TTIN and TTOU", OFTEN, hammer);
}

#[test]
fn with_reuse_port_reloads_to_other_numbers_of_workers_lose_nobody() {
    for strategy in ["all-at-once", "rolling"] {
        let rgun = Rgun::app("builtin:hello").expecting(2);
        let file = rgun.write("rgun.toml", "workers = 2\n");
        let rgun = rgun.arg("-c").arg(&file);
        let (server, hammer) = hammered(rgun.args(["--reload-strategy", strategy]));
        let mut ready = 2;
        for count in 0..OFTEN {
            let workers = [4, 1, 3, 2][count % 4];
            fs::write(&file, format!("workers = {workers}\n")).expect("a file");
            server.signal(Signal::SIGHUP);
            ready += workers;
            server.wait_ready(ready);
            server.wait_for_workers(workers);
        }
        each_socket_has_a_worker(&server, [4, 1, 3, 2][(OFTEN - 1) % 4]);
        lost_nobody(&format!("HUP, {strategy}"), OFTEN, hammer);
    }
}

#[test]
fn with_reuse_port_a_reload_that_is_given_up_leaves_no_socket_alone() {
    let rgun = Rgun::app("changing:app").expecting(2);
    let code = |boot: &str| {
        format!(
            "{boot}\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
        )
    };
    let app = rgun.write("changing.py", &code(""));
    let file = rgun.write("rgun.toml", "workers = 2\n");
    let directory = rgun.directory();
    let rgun = rgun.chdir(directory).arg("-c").arg(&file);
    let (server, hammer) = hammered(rgun);
    // The new workers come up, but for the one with this mark.
    let mark = server.directory().join("mark");
    let boot = format!(
        "import os\ntry:\n    os.close(os.open({:?}, os.O_CREAT | os.O_EXCL))\nexcept FileExistsError:\n    pass\nelse:\n             import time\n    time.sleep(0.2)\n    raise RuntimeError('not this one')\n",
        mark.display()
    );
    fs::write(&app, code(&boot)).expect("a file");
    fs::write(&file, "workers = 4\n").expect("a file");
    for count in 1..=5 {
        let _ = fs::remove_file(&mark);
        server.signal(Signal::SIGHUP);
        server.wait_for_lines("Reload abandoned", count);
        server.wait_for_workers(2);
        each_socket_has_a_worker(&server, 2);
    }
    lost_nobody("HUP, given up", 5, hammer);
}

#[test]
fn with_reuse_port_recycling_loses_nobody() {
    let rgun = Rgun::app("builtin:hello").workers(3);
    let (server, hammer) = hammered(rgun.args(["--max-requests", "20"]));
    // There is a worker less, so that one of those recycled has two sockets.
    server.signal(Signal::SIGTTOU);
    server.wait_for_lines("Autorestarting worker", OFTEN);
    lost_nobody("recycling", OFTEN, hammer);
}

#[test]
fn with_reuse_port_term_of_a_worker_loses_nobody() {
    let (server, hammer) = hammered(Rgun::app("builtin:hello").workers(3));
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(2);
    for count in 0..OFTEN {
        let workers = server.wait_for_workers(2);
        process::signal(workers[count % 2], Signal::SIGTERM);
        server.wait_ready(4 + count);
        until("it is gone", patience(), || {
            !process::alive(workers[count % 2])
        });
    }
    lost_nobody("TERM of a worker", OFTEN, hammer);
}

#[test]
fn a_worker_that_leaves_hands_its_socket_over_before_it_stops() {
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .arg("--reuse-port")
        .start();
    let workers = server.wait_for_workers(2);
    // Who would take it cannot, and so nobody leaves.
    process::signal(workers[0], Signal::SIGSTOP);
    server.signal(Signal::SIGTTOU);
    server.wait_for_line("is given another socket");
    let mut clients: Vec<Client> = (0..30)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/");
            client
        })
        .collect();
    assert!(process::alive(workers[1]));
    assert_eq!(server.count_lines("accepts from another socket"), 0);
    process::signal(workers[0], Signal::SIGCONT);
    server.wait_for_line("accepts from another socket");
    until("it leaves", patience(), || !process::alive(workers[1]));
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(
        process::holds(workers[0], &process::listening(server.port())),
        2
    );
    for _ in 0..30 {
        assert_eq!(server.get("/").response().status(), 200);
    }
}

#[test]
fn kill_of_a_worker_with_an_adopted_socket_loses_nothing_that_is_queued() {
    for class in ["sync", "gevent", "asgi"] {
        let app = if class == "asgi" {
            "draining:asgi"
        } else {
            "draining:app"
        };
        let server = Rgun::app(app)
            .args(["-k", class])
            .workers(4)
            .arg("--reuse-port")
            .start();
        for count in 1..=2 {
            server.signal(Signal::SIGTTOU);
            server.wait_for_lines("workers wanted", count);
        }
        let mut workers = server.wait_for_workers(2);
        each_socket_has_a_worker(&server, 2);
        for _ in 0..5 {
            // Stopped, they accept nothing: all of these wait in the four queues.
            for &pid in &workers {
                process::signal(pid, Signal::SIGSTOP);
            }
            let mut clients: Vec<Client> = (0..40)
                .map(|_| {
                    let mut client = server.connect();
                    client.send_get("/");
                    client
                })
                .collect();
            // The other one lives, and takes over what this one had.
            process::signal(workers[0], Signal::SIGKILL);
            process::signal(workers[1], Signal::SIGCONT);
            for client in &mut clients {
                assert_eq!(client.response().status(), 200, "{class}");
            }
            until("it is gone", patience(), || !process::alive(workers[0]));
            workers = server.wait_for_workers(2);
        }
    }
}

#[test]
fn a_dead_workers_socket_is_served_while_its_successor_boots() {
    let rgun = Rgun::app("gated:app");
    let gate = rgun.write("gate", "");
    let code = format!(
        "import os, time\nwhile not os.path.exists({:?}):\n    time.sleep(0.01)\n\n\n\
         def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n",
        gate.display()
    );
    rgun.write("gated.py", &code);
    let directory = rgun.directory();
    let server = rgun.chdir(directory).workers(3).arg("--reuse-port").start();
    let workers = server.wait_for_workers(3);
    // From now on a worker boots for ever.
    fs::remove_file(&gate).expect("it is there");
    process::signal(workers[0], Signal::SIGKILL);
    process::signal(workers[1], Signal::SIGKILL);
    until("they are gone", patience(), || {
        !process::alive(workers[0]) && !process::alive(workers[1])
    });
    server.wait_for_lines("accepts from another socket", 2);
    for _ in 0..60 {
        assert_eq!(server.get("/").response().text(), "hello");
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
