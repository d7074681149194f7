//! The end of a server that loses nothing: what waits, what runs, what is kept alive, and what is told before.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Client, Rgun, Server, millis, patience, process, quiet, secs, until};

/// A server whose app is `tests/apps/draining.py` under `driver`.
fn on(driver: &str) -> Rgun {
    let (app, class) = match driver {
        "builtin" => return Rgun::app("builtin:hello"),
        "asgi" => ("draining:asgi", "asgi"),
        wsgi => ("draining:app", wsgi),
    };
    let rgun = Rgun::app(app).args(["-k", class]);
    if driver == "gthread" {
        rgun.args(["--threads", "60"])
    } else {
        rgun
    }
}

/// Puts `count` requests for `path` into the kernel's queue of a server with one worker, and the signal behind them:
/// the worker, which was stopped for it, finds both at once.
fn queue_then_term(server: &Server, path: &str, count: usize) -> Vec<Client> {
    let worker = server.wait_for_workers(1)[0];
    process::signal(worker, Signal::SIGSTOP);
    let clients = (0..count)
        .map(|_| {
            let mut client = server.connect();
            client.send_get(path);
            client
        })
        .collect();
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    process::signal(worker, Signal::SIGCONT);
    clients
}

#[test]
fn fifty_queued_requests_of_a_second_get_fifty_answers() {
    for driver in ["gevent", "gthread", "asgi"] {
        let server = on(driver).start();
        let began = Instant::now();
        let mut clients = queue_then_term(&server, "/sleep?ms=1000", 50);
        for client in &mut clients {
            let answer = client.response();
            assert_eq!(answer.status(), 200, "{driver}");
            assert!(answer.says_close(), "{driver}");
        }
        eprintln!("{driver}: 50 answers after {:?}", began.elapsed());
        server.assert_exits(0).within(patience());
        assert_eq!(server.count_lines("Cutting"), 0, "{driver}");
    }
}

#[test]
fn a_sync_worker_answers_all_that_are_queued_one_after_the_other() {
    let server = on("sync").args(["--graceful-timeout", "60"]).start();
    // More than the worker's runtime takes in one go, longer than a new connection's patience.
    let mut clients = queue_then_term(&server, "/sleep?ms=20", 150);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    server.assert_exits(0).within(patience());
}

#[test]
fn a_queue_longer_than_the_cap_is_emptied_as_connections_end() {
    for driver in ["gevent", "asgi", "sync"] {
        for cap in ["1", "5"] {
            let server = on(driver).args(["--worker-connections", cap]).start();
            let mut clients = queue_then_term(&server, "/sleep?ms=20", 50);
            for client in &mut clients {
                assert_eq!(client.response().status(), 200, "{driver}, cap {cap}");
            }
            server.assert_exits(0).within(patience());
        }
    }
}

#[test]
fn each_of_several_sockets_has_its_queue_emptied() {
    let server = on("sync").workers(3).arg("--reuse-port").start();
    let workers = server.wait_for_workers(3);
    for &pid in &workers {
        process::signal(pid, Signal::SIGSTOP);
    }
    let mut clients: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/sleep?ms=5");
            client
        })
        .collect();
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    for &pid in &workers {
        process::signal(pid, Signal::SIGCONT);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    server.assert_exits(0).within(patience());
}

#[test]
fn what_is_queued_while_the_first_worker_boots_is_answered_after_term() {
    let rgun = Rgun::app("booting:app");
    let gate = rgun.directory().join("gate");
    let code = format!(
        "import os, time\nprint('importing', flush=True)\nwhile not os.path.exists({:?}):\n    time.sleep(0.01)\n\n\n\
         def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'at last']\n",
        gate.display()
    );
    rgun.write("booting.py", &code);
    let directory = rgun.directory();
    let server = rgun.chdir(directory).spawn();
    server.wait_for_output("importing", 1);
    let mut clients: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/");
            client
        })
        .collect();
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    std::fs::write(&gate, "").expect("the directory takes files");
    for client in &mut clients {
        assert_eq!(client.response().text(), "at last");
    }
    server.assert_exits(0).within(patience());
}

#[test]
fn a_worker_that_boots_for_nobody_is_not_waited_for() {
    let rgun = Rgun::app("booting:app");
    rgun.write(
        "booting.py",
        "import time\nprint('importing', flush=True)\ntime.sleep(600)\n",
    );
    let directory = rgun.directory();
    let server = rgun.chdir(directory).workers(2).spawn();
    server.wait_for_output("importing", 2);
    server.signal(Signal::SIGTERM);
    // Far from the graceful timeout.
    server.assert_exits(0).within(secs(10));
}

/// Whether TERM does not end this process by itself: it is blocked, or has a handler.
fn heeds_term(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let term = 1_u64 << 14;
    ["SigBlk:", "SigCgt:"].iter().any(|key| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & term != 0)
    })
}

#[test]
fn term_at_any_moment_of_the_start_ends_the_server_with_zero() {
    for driver in ["builtin", "sync", "asgi"] {
        for moment in 0..16 {
            let server = on(driver).workers(2).spawn();
            let begun = Instant::now();
            until("the program has begun", patience(), || {
                heeds_term(server.pid())
            });
            // Ever later: before it listens, before there is a worker, before one is ready, after that.
            let delay = Duration::from_millis(moment * moment);
            std::thread::sleep(delay.saturating_sub(begun.elapsed()));
            server.signal(Signal::SIGTERM);
            server.assert_exits(0).within(patience());
            until("no worker is left", patience(), || {
                server.worker_pids().is_empty()
            });
        }
    }
}

#[test]
fn term_to_the_whole_group_while_workers_boot_is_no_failure_to_boot() {
    let rgun = Rgun::app("booting:app");
    rgun.write(
        "booting.py",
        "import time\nprint('importing', flush=True)\ntime.sleep(600)\n",
    );
    let directory = rgun.directory();
    let server = rgun.chdir(directory).workers(5).spawn();
    server.wait_for_output("importing", 5);
    for pid in server.booted() {
        process::signal(pid, Signal::SIGTERM);
    }
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
}

#[test]
fn an_idle_server_stops_at_once() {
    let _quiet = quiet();
    for driver in ["builtin", "sync", "gevent", "gthread", "asgi"] {
        let server = on(driver).workers(2).start();
        // One has been asked something, and one has kept its connection.
        assert_eq!(server.get("/").response().status(), 200);
        let mut kept = server.connect();
        assert_eq!(kept.get("/").status(), 200);
        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        until("the server ends", patience(), || !server.is_running());
        let took = began.elapsed();
        eprintln!("{driver}: an idle server stopped after {took:?}");
        assert!(took < secs(3), "{driver}: {took:?}");
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn a_kept_connection_whose_next_request_crosses_the_drain_is_answered() {
    for driver in ["builtin", "sync", "gevent", "gthread", "asgi"] {
        let server = on(driver).start();
        let worker = server.wait_for_workers(1)[0];
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").status(), 200);
        }
        // The order to drain is in the worker's hands before the requests are.
        process::signal(worker, Signal::SIGSTOP);
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Handling signal: term");
        for client in &mut clients {
            client.send_get("/");
        }
        process::signal(worker, Signal::SIGCONT);
        for client in &mut clients {
            let answer = client.response();
            assert_eq!(answer.status(), 200, "{driver}");
            // Whether it says so or not: what woke the worker first is chance.
            assert!(client.closes_within(patience()), "{driver}");
        }
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn long_answers_are_finished_and_endless_ones_cut_at_the_graceful_timeout() {
    for driver in ["gevent", "gthread", "asgi"] {
        let server = on(driver).args(["--graceful-timeout", "4"]).start();
        let finite = server.get("/events?count=20&ms=50").in_background();
        let mut endless = server.connect();
        endless.send_get("/events?count=1000000&ms=50");
        endless.wait_for_bytes("data: 3");
        server.signal(Signal::SIGTERM);
        let answer = finite.response();
        assert!(answer.text().ends_with("data: 19\n\n"), "{driver}");
        let line = server.wait_for_line(
            "Cutting request GET /events?count=1000000&ms=50 from 127.0.0.1 after ",
        );
        assert!(line.ends_with(" ms"), "{line}");
        server.assert_exits(0).within(patience());
        assert_eq!(server.count_lines("Cutting request"), 1, "{driver}");
        endless.until_end();
    }
}

#[test]
fn a_request_that_a_worker_is_stuck_in_is_logged_when_it_is_cut() {
    let server = on("sync").args(["--graceful-timeout", "1"]).start();
    let stuck = server.get("/stuck?ms=600000").in_background();
    server.wait_for_output("in the app", 1);
    server.signal(Signal::SIGTERM);
    server.wait_for_line("did not leave in time: aborted");
    server.assert_exits(0).within(patience());
    server.wait_for_line("Requests in flight: 1");
    server.wait_for_line("GET /stuck?ms=600000 from 127.0.0.1, for ");
    assert!(stuck.try_response().is_err());
}

fn readiness(server: &Server) -> (u16, String) {
    let answer = server.get("/ready").response();
    (answer.status(), answer.text())
}

#[test]
fn the_readiness_path_is_the_servers_own() {
    for driver in ["builtin", "sync", "gevent", "gthread", "asgi"] {
        let server = on(driver).args(["--readiness-path", "/ready"]).start();
        let mut client = server.connect();
        let ready = client.get("/ready?probe=1");
        assert_eq!((ready.status(), ready.text().as_str()), (200, "ready\n"));
        assert_eq!(ready.header("content-type"), Some("text/plain"));
        assert_eq!(ready.header("cache-control"), Some("no-store"));
        assert!(!ready.says_close());
        client.send("HEAD /ready HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = client.response_to("HEAD");
        assert_eq!(
            (head.status(), head.header("content-length")),
            (200, Some("6"))
        );
        // The rest is the app's.
        for path in ["/", "/ready/", "/Ready"] {
            assert_ne!(client.get(path).text(), "ready\n", "{driver} {path}");
        }
        let post =
            client.ask("POST /ready HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_ne!(post.text(), "ready\n", "{driver}");
    }
    let server = on("builtin").start();
    assert_eq!(server.get("/ready").response().text(), "hello world!");
}

#[test]
fn a_drain_delay_tells_everybody_first_and_goes_on_accepting() {
    for driver in ["builtin", "sync", "gevent", "gthread", "asgi"] {
        let server = on(driver)
            .workers(2)
            .args(["--drain-delay", "600", "--readiness-path", "/ready"])
            .start();
        let mut kept = server.connect();
        assert!(!kept.get("/").says_close());
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Draining in 600 s (--drain-delay)");
        until("both workers say that they drain", patience(), || {
            (0..8).all(|_| readiness(&server) == (503, "draining\n".to_owned()))
        });
        let last = kept.get("/");
        assert_eq!((last.status(), last.says_close()), (200, true), "{driver}");
        assert!(kept.closes_within(patience()));
        // Who dies is replaced, and its successor knows.
        let workers = server.wait_for_workers(2);
        process::signal(workers[0], Signal::SIGKILL);
        server.wait_ready(3);
        for _ in 0..8 {
            assert_eq!(readiness(&server).0, 503, "{driver}");
            assert!(server.get("/").response().says_close(), "{driver}");
        }
        for signal in [
            Signal::SIGHUP,
            Signal::SIGUSR2,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ] {
            server.signal(signal);
        }
        server.wait_for_lines("Ignored: the server is stopping.", 4);
        assert_eq!(server.wait_for_workers(2).len(), 2);
        // A second TERM ends the wait.
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn a_drain_delay_ends_by_itself_and_loses_nobody_meanwhile() {
    let server = on("sync")
        .workers(2)
        .args(["--drain-delay", "1", "--graceful-timeout", "60"])
        .start();
    let began = Instant::now();
    server.signal(Signal::SIGTERM);
    let mut answered = 0;
    // New connections are welcome until nobody listens any more.
    while let Ok(mut client) = Client::try_connect(&server.address()) {
        match client.try_get("/sleep?ms=1") {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(error) if began.elapsed() < Duration::from_secs(1) => panic!("{error}"),
            Err(_) => break,
        }
        answered += 1;
    }
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(answered > 10, "{answered}");
    server.assert_exits(0).within(patience());
}

#[test]
fn int_does_not_wait_for_a_drain_delay() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let server = on("builtin").args(["--drain-delay", "600"]).start();
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Draining in");
        server.signal(signal);
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn a_drain_delay_ends_a_reload_that_is_under_way() {
    let rgun = Rgun::app("changing:app").args(["--drain-delay", "600"]);
    let code = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'old']\n";
    let file = rgun.write("changing.py", code);
    let directory = rgun.directory();
    let server = rgun.chdir(directory).start();
    std::fs::write(
        file,
        "import time\nprint('importing', flush=True)\ntime.sleep(600)\n",
    )
    .expect("it can be written");
    server.signal(Signal::SIGHUP);
    server.wait_for_output("importing", 1);
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Reload abandoned");
    server.wait_for_workers(1);
    assert_eq!(server.get("/").response().text(), "old");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    until("nobody is left", millis(5000), || {
        server.worker_pids().is_empty()
    });
}
