//! `--workers MIN..MAX`: more workers soon where they are busy, fewer slowly where they are not.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Hammer, Rgun, Server, patience, process, secs, until};

fn between(app: &str, least: usize, range: &str, driver: &[&str]) -> Server {
    Rgun::app(app)
        .args(driver)
        .args(["-w", range, "--graceful-timeout", "5"])
        .expecting(least)
        .start()
}

/// A worker under `sync` that waits for a database uses no processor, and yet can serve nobody else. One of gthread has
/// threads to count.
#[test]
fn workers_whose_apps_only_wait_are_busy_too() {
    for driver in [&["-k", "sync"][..], &["-k", "gthread", "--threads", "2"]] {
        let server = between("wsgi:app", 1, "1..3", driver);
        let hammer = Hammer::start(&server, "/sleep?ms=100", 12);
        server.wait_for_line("more workers: 1 were ");
        server.wait_for_workers(3);
        server.wait_ready(3);
        // They do not become more than the most.
        let before = hammer.answered();
        until("much more is answered", patience(), || {
            hammer.answered() > before + 50
        });
        assert_eq!(server.booted().len(), 3, "{driver:?}");
        let tally = hammer.stop();
        assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    }
}

#[test]
fn idle_workers_become_fewer_one_at_a_time_and_nothing_is_lost() {
    let server = between("wsgi:app", 1, "1..3", &["-k", "sync"]);
    let hammer = Hammer::start(&server, "/sleep?ms=50", 12);
    server.wait_for_workers(3);
    server.wait_ready(3);
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    // Little is to be done from now on, and all of it is.
    until("two have left", secs(60), || {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(server.get("/hello").response().status(), 200);
        server.worker_pids().len() == 1
    });
    assert_eq!(server.count_lines("fewer workers: "), 2);
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

#[test]
fn processor_time_counts_and_each_worker_gets_its_share() {
    let server = between("builtin:echo", 1, "1..2", &[]);
    let hammer = Hammer::start(&server, "/", 8);
    server.wait_for_line("more workers: 1 were ");
    let workers = server.wait_for_workers(2);
    server.wait_ready(2);
    let second = workers[1];
    let before = process::ticks(second);
    until("the new one works", patience(), || {
        process::ticks(second) > before + 20
    });
    hammer.stop();
}

#[test]
fn ttin_and_ttou_shift_the_range() {
    let server = between("builtin:hello", 2, "2..4", &[]);
    server.wait_for_workers(2);
    server.signal(Signal::SIGTTIN);
    server.wait_for_workers(3);
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(2);
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(1);
    server.signal(Signal::SIGTTOU);
    server.signal(Signal::SIGUSR1);
    server.wait_for_line("Handling signal: usr1");
    server.wait_for_workers(1);
    assert_eq!(server.get("/").response().status(), 200);
}

/// The load that made them many does not end with a reload.
#[test]
fn a_reload_keeps_the_number_that_the_load_has_made() {
    let server = between("wsgi:app", 1, "1..3", &["-k", "sync"]);
    let hammer = Hammer::start(&server, "/sleep?ms=50", 12);
    server.wait_for_workers(3);
    server.wait_ready(3);
    server.signal(Signal::SIGHUP);
    server.wait_ready(6);
    server.wait_for_workers(3);
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert_eq!(server.booted().len(), 6);
}

#[test]
fn a_number_of_its_own_does_not_change_and_is_not_looked_after() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "sync"])
        .workers(1)
        .start();
    let hammer = Hammer::start(&server, "/sleep?ms=50", 8);
    until("it is busy", patience(), || hammer.answered() > 40);
    assert_eq!(server.count_lines("workers: "), 0);
    assert_eq!(server.booted().len(), 1);
    hammer.stop();
}
