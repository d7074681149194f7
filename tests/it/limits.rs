//! `--worker-connections` is a hard cap; connections spread evenly; one connection wakes one worker.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::asgi::LOOPS;
use crate::harness::{
    Client, Rgun, Server, answer, millis, patience, process, quiet, secs, until,
};

#[test]
fn the_cap_is_hard_and_the_backlog_queues() {
    for (app, workers) in [("builtin:hello", 1), ("builtin:hello", 3), ("wsgi:app", 1)] {
        let server = Rgun::app(app)
            .args(["--worker-connections", "10", "--keep-alive", "60"])
            .args(["--overload-timeout", "0"])
            .workers(workers)
            .start();
        let mut held: Vec<Client> = (0..10 * workers)
            .map(|_| {
                let mut client = server.connect();
                assert_eq!(client.get("/hello").status(), 200);
                client
            })
            .collect();
        // One more connects, for the kernel takes it, and waits.
        let mut queued: Vec<Client> = (0..5)
            .map(|_| {
                let mut client = server.connect();
                client.send_get("/hello");
                client
            })
            .collect();
        assert!(
            queued[0].stays_silent_for(millis(700)),
            "{app}: the cap is not hard"
        );
        let established = process::established(server.port());
        for pid in server.worker_pids() {
            assert_eq!(process::holds(pid, &established), 10, "{app}");
        }
        // Each that leaves makes room for one.
        for client in &mut queued {
            drop(held.pop());
            assert_eq!(client.response().text(), "hello world!");
        }
        drop(held);
    }
}

#[test]
fn a_cap_of_one_serves_one_after_the_other() {
    let server = Rgun::app("builtin:hello")
        .args(["--worker-connections", "1", "--overload-timeout", "0"])
        .workers(1)
        .start();
    let mut first = server.connect();
    assert_eq!(first.get("/").status(), 200);
    let mut second = server.connect();
    second.send_get("/");
    assert!(second.stays_silent_for(millis(300)));
    drop(first);
    assert_eq!(second.response().status(), 200);
}

/// How many connections each worker holds, once they hold `count` together.
pub(crate) fn shares(server: &Server, count: usize) -> Vec<usize> {
    let pids = server.worker_pids();
    answer("the workers have accepted all", patience(), || {
        let established = process::established(server.port());
        let held: Vec<usize> = pids
            .iter()
            .map(|&pid| process::holds(pid, &established))
            .collect();
        (held.iter().sum::<usize>() == count).then_some(held)
    })
}

fn is_even(shares: &[usize]) -> bool {
    let (Some(least), Some(most)) = (shares.iter().min(), shares.iter().max()) else {
        panic!("no workers")
    };
    // 1.2 times, in whole numbers.
    most * 10 <= least * 12
}

/// The clients that `connect` brings spread evenly, together with `others` that are there already. A worker that the machine
/// gives no time for 20 ms leaves its share to its neighbours: that does not happen three times in a row.
#[track_caller]
pub(crate) fn spreads_evenly(
    how: &str,
    server: &Server,
    others: usize,
    connect: impl Fn() -> Vec<Client>,
) -> Vec<Client> {
    let mut uneven = Vec::new();
    for _ in 0..3 {
        until("no more than the others are left", patience(), || {
            process::established(server.port()).len() == others
        });
        let clients = connect();
        let held = shares(server, others + clients.len());
        if is_even(&held) {
            return clients;
        }
        uneven.push(held);
    }
    panic!("{how}: {uneven:?}");
}

/// 1,000 connections over 9 workers, first one by one, then all at once.
fn spread(rgun: Rgun) {
    let server = rgun.workers(9).args(["--keep-alive", "60"]).start();
    let paced = || -> Vec<Client> {
        (0..1000)
            .map(|_| {
                let mut client = server.connect();
                assert_eq!(client.get("/").status(), 200);
                client
            })
            .collect()
    };
    drop(spreads_evenly("paced", &server, 0, paced));
    let burst = || {
        let mut burst: Vec<Client> = (0..1000).map(|_| server.connect()).collect();
        for client in &mut burst {
            client.send_get("/");
        }
        for client in &mut burst {
            assert_eq!(client.response().status(), 200);
        }
        burst
    };
    drop(spreads_evenly("burst", &server, 0, burst));
}

#[test]
fn a_thousand_connections_spread_evenly_over_nine_workers() {
    let _quiet = quiet();
    spread(Rgun::app("builtin:hello"));
}

#[test]
fn they_spread_evenly_over_python_workers_too() {
    let _quiet = quiet();
    spread(Rgun::app("hello:app").args(["-k", "sync"]));
    spread(Rgun::app("hello:app").args(["-k", "gevent"]));
    for event_loop in LOOPS {
        spread(Rgun::app("asgi:app").args(["-k", "asgi", "--asgi-loop", event_loop]));
    }
}

#[test]
fn a_worker_that_comes_later_gets_its_share() {
    let _quiet = quiet();
    let server = Rgun::app("builtin:hello")
        .workers(3)
        .args(["--keep-alive", "60"])
        .start();
    let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
    // What the dead one held is no longer counted as held.
    let killed = server.worker_pids()[0];
    process::signal(killed, Signal::SIGKILL);
    server.wait_ready(4);
    let mut more: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut more {
        assert_eq!(client.get("/").status(), 200);
    }
    let workers = server.wait_for_workers(3);
    let established = process::established(server.port());
    let held: Vec<usize> = workers
        .iter()
        .map(|&pid| process::holds(pid, &established))
        .collect();
    let (least, most) = (held.iter().min(), held.iter().max());
    assert!(least >= Some(&20) && most <= Some(&45), "{held:?}");
}

/// How often these processes went to sleep so far.
fn sleeps(pids: &[i32]) -> u64 {
    pids.iter()
        .map(|&pid| process::status(pid, "voluntary_ctxt_switches"))
        .sum()
}

#[test]
fn one_connection_wakes_one_worker() {
    one_wakes_for_each_connection("builtin:hello", &["-k", "auto"]);
}

/// gevent's hub waits there, in an epoll of its own.
#[test]
fn one_connection_wakes_one_gevent_worker() {
    one_wakes_for_each_connection("wsgi:app", &["-k", "gevent"]);
}

/// asyncio's loop waits in the runtime, uvloop in an epoll of its own.
#[test]
fn one_connection_wakes_one_asgi_worker() {
    for event_loop in LOOPS {
        one_wakes_for_each_connection("asgi:app", &["-k", "asgi", "--asgi-loop", event_loop]);
    }
}

fn one_wakes_for_each_connection(app: &str, driver: &[&str]) {
    let _quiet = quiet();
    let server = Rgun::app(app).args(driver).workers(9).start();
    let workers = server.wait_for_workers(9);
    assert_eq!(server.get("/hello").response().status(), 200);

    // What they do by themselves: heartbeats and the like.
    let before = sleeps(&workers);
    std::thread::sleep(Duration::from_secs(2));
    let idle_per_second = (sleeps(&workers) - before).div_ceil(2);

    let (before, started) = (sleeps(&workers), Instant::now());
    for _ in 0..200 {
        let mut client = server.connect();
        let answer = client.ask("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(answer.status(), 200);
        assert!(client.closes_within(secs(5)));
    }
    let by_themselves = idle_per_second * (started.elapsed().as_secs() + 1);
    let woken = (sleeps(&workers) - before).saturating_sub(by_themselves);
    // The connection, its request and its end wake one worker each; all nine at each would be 1,800 and more.
    assert!(woken < 1000, "{woken} times for 200 connections");
}

#[test]
fn idle_workers_sleep() {
    let _quiet = quiet();
    for (app, driver) in [
        ("builtin:hello", "sync"),
        ("wsgi:app", "sync"),
        ("wsgi:app", "gevent"),
        ("asgi:app", "asyncio"),
        ("asgi:app", "uvloop"),
    ] {
        let driver = match driver {
            "asyncio" | "uvloop" => vec!["-k", "asgi", "--asgi-loop", driver],
            _ => vec!["-k", driver],
        };
        let server = Rgun::app(app).args(&driver).workers(2).start();
        let workers = server.wait_for_workers(2);
        assert_eq!(server.get("/hello").response().status(), 200);
        let before: u64 = workers.iter().map(|&pid| process::ticks(pid)).sum();
        std::thread::sleep(Duration::from_secs(2));
        let used = workers.iter().map(|&pid| process::ticks(pid)).sum::<u64>() - before;
        assert!(
            used <= 10,
            "{app} {driver:?}: {used} hundredths of a second of 400"
        );
    }
}

#[test]
fn max_requests_replaces_a_worker_and_loses_nothing() {
    let server = Rgun::app("hello:app")
        .workers(2)
        .args(["--max-requests", "20", "--max-requests-jitter", "5"])
        .start();
    // Who has answered enough goes on until its successor is ready.
    until("six have answered enough", patience(), || {
        assert_eq!(server.get("/").response().status(), 200);
        server.count_lines("Autorestarting worker after current request.") >= 6
    });
    until("workers were replaced", patience(), || {
        server.booted().len() >= 8
    });
    assert_eq!(server.count_lines("[ERROR]"), 0);
}
