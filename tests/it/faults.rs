//! Real faults: killed workers, a killed master, no more file descriptors, requests that end in the middle.

use nix::sys::signal::Signal;

use crate::harness::{Client, Hammer, Rgun, Server, patience, process, secs, until};

#[test]
fn a_killed_worker_is_told_of_and_replaced() {
    for app in ["builtin:hello", "wsgi:app"] {
        let server = Rgun::app(app).workers(2).start();
        let killed = server.wait_for_workers(2)[0];
        process::signal(killed, Signal::SIGKILL);
        let line = server.wait_for_line(&format!("Worker (pid:{killed}) was sent SIGKILL!"));
        assert!(line.ends_with("Perhaps out of memory?"), "{line}");
        server.wait_ready(3);
        server.wait_for_workers(2);
        assert_eq!(server.get("/hello").response().status(), 200);
    }
}

#[test]
fn killing_worker_after_worker_costs_only_the_requests_inside() {
    let server = Rgun::app("builtin:hello").workers(4).start();
    let hammer = Hammer::start(&server, "/", 4);
    for round in 0..8 {
        let pids = server.wait_for_workers(4);
        process::signal(pids[round % 4], Signal::SIGKILL);
        server.wait_ready(5 + round);
    }
    let tally = hammer.stop();
    // A connection that the dead worker had accepted is lost with it: at most the one of each client, each time.
    assert!(tally.failures.len() <= 8 * 4, "{:?}", tally.failures);
    assert!(tally.good > 0, "{tally:?}");
    assert!(tally.longest < secs(10), "{tally:?}");
    server.wait_for_workers(4);
}

#[test]
fn an_app_that_ends_its_process_is_replaced() {
    let server = Rgun::app("wsgi:app").start();
    let worker = server.wait_for_workers(1)[0];
    assert!(server.get("/exit").try_response().is_err());
    server.wait_for_line(&format!("Worker (pid:{worker}) exited with code 7"));
    server.wait_ready(2);
    assert_eq!(server.get("/hello").response().status(), 200);
    assert!(server.is_running());
}

#[test]
fn all_workers_killed_at_once_come_back() {
    let server = Rgun::app("builtin:hello").workers(9).start();
    for pid in server.wait_for_workers(9) {
        process::signal(pid, Signal::SIGKILL);
    }
    server.wait_ready(18);
    server.wait_for_workers(9);
    assert_eq!(server.get("/").response().status(), 200);
}

#[test]
fn a_killed_master_can_be_started_again_on_its_port() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let port = server.port();
    let mut open = server.connect();
    assert_eq!(open.get("/").status(), 200);
    server.signal(Signal::SIGKILL);
    until("its workers are gone", patience(), || {
        server.worker_pids().is_empty()
    });
    let again = Rgun::app("builtin:hello")
        .bind(format!("127.0.0.1:{port}"))
        .start();
    assert_eq!(again.get("/").response().status(), 200);
}

#[test]
fn a_half_sent_request_harms_nobody() {
    let server = Rgun::app("wsgi:app").args(["-k", "sync"]).start();
    let halves = [
        "G",
        "GET / HT",
        "GET / HTTP/1.1\r\nHo",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
        "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
    ];
    let mut clients: Vec<Client> = halves
        .iter()
        .map(|half| {
            let mut client = server.connect();
            client.send(half);
            client
        })
        .collect();
    assert_eq!(server.get("/hello").response().text(), "hello world!");
    // Some hang up, some half-close, some stay.
    drop(clients.drain(..2));
    clients[0].half_close();
    assert_eq!(server.get("/hello").response().text(), "hello world!");
    assert_eq!(server.booted().len(), 1);
}

/// Fills a server that may open only so many files, and empties it again.
fn starve(server: &Server) {
    let worker = server.wait_for_workers(1)[0];
    let mut many: Vec<Client> = Vec::new();
    for _ in 0..120 {
        // Past what the worker can hold the backlog queues: connecting works all the same.
        many.push(server.connect());
    }
    assert!(process::alive(worker));
    // Those that were accepted are served.
    for client in &mut many {
        client.send_get("/hello");
    }
    until("the first are answered", patience(), || {
        many.iter_mut().take(5).all(Client::has_bytes)
    });
    drop(many);
    until("it answers again", patience(), || {
        server
            .get("/hello")
            .try_response()
            .is_ok_and(|answer| answer.status() == 200)
    });
    assert_eq!(server.worker_pids(), [worker], "the worker lives on");
    let said = server.log().len();
    assert!(said < 400, "the log is flooded: {said} lines");
}

#[test]
fn no_more_file_descriptors_is_no_end() {
    let limited = ["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"];
    starve(&Rgun::app("builtin:hello").wrapped(limited).start());
    starve(
        &Rgun::app("wsgi:app")
            .args(["-k", "sync"])
            .wrapped(limited)
            .start(),
    );
}

#[test]
fn the_worker_does_not_spin_while_it_has_no_file_descriptors() {
    let server = Rgun::app("builtin:hello")
        .wrapped(["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    let many: Vec<Client> = (0..120).map(|_| server.connect()).collect();
    // The processor time of two seconds, of which a spinning worker would use all.
    let before = process::ticks(worker);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let used = process::ticks(worker) - before;
    assert!(used < 60, "{used} hundredths of a second of 200");
    drop(many);
}

#[test]
fn a_full_log_pipe_or_a_closed_output_does_not_end_the_server() {
    // Nobody reads the access log, and then it is gone.
    let server = Rgun::app("builtin:hello")
        .args(["--access-logfile", "-"])
        .wrapped(["sh", "-c", "exec \"$@\" | true", "sh"])
        .start();
    for _ in 0..50 {
        assert_eq!(server.get("/").response().status(), 200);
    }
}
