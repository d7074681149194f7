//! `--preload`: the app is imported in the master, and the workers are forked with it.

use std::collections::HashSet;
use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{InBackground, Rgun, Server, patience, process, secs, until, venv};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

fn preloaded(driver: &str) -> Rgun {
    Rgun::app("preloaded:app").args(["--preload", "-k", driver])
}

fn facts(server: &Server) -> Value {
    server.get("/").response().json()
}

/// Kilobytes of `name` in `/proc/PID/smaps_rollup`.
fn memory(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .expect("a process of ours, and a kernel that tells");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("the field is there")
        .parse()
        .expect("the kernel writes numbers")
}

#[test]
fn the_master_imports_the_app_and_its_workers_share_the_memory() {
    for driver in DRIVERS {
        let server = preloaded(driver).workers(3).start();
        let seen = facts(&server);
        assert_eq!(seen["imported by"], server.pid(), "{driver}");
        assert_eq!(seen["parent"], server.pid());
        for pid in server.wait_for_workers(3) {
            let rss = memory(pid, "Rss");
            let pss = memory(pid, "Pss");
            let own = memory(pid, "Private_Dirty");
            assert!(rss > 45_000, "{driver}: the app is big: {rss}");
            assert!(pss < rss / 2, "{driver}: rss {rss}, pss {pss}");
            assert!(own < rss / 3, "{driver}: rss {rss}, private {own}");
        }
    }
}

#[test]
fn without_it_each_worker_has_its_own() {
    let server = Rgun::app("preloaded:app").args(["-k", "sync"]).start();
    let worker = server.wait_for_workers(1)[0];
    assert_eq!(facts(&server)["imported by"], worker);
    assert!(memory(worker, "Private_Dirty") > 40_000);
}

#[test]
fn the_hooks_around_the_fork_run() {
    for driver in DRIVERS {
        let server = preloaded(driver).workers(2).start();
        let mut numbers = HashSet::new();
        let mut pids = HashSet::new();
        // Connections that stay are shared out; which of two idle workers takes one that goes is the kernel's choice.
        let mut open = Vec::new();
        until("both workers have answered", patience(), || {
            let mut client = server.connect();
            let seen = client.get("/").json();
            open.push(client);
            let forks = seen["forks"].as_array().expect("a list");
            // A hook in the master for each fork up to this worker's, then one in the worker.
            assert_eq!(forks.last().expect("it was forked"), "child", "{seen}");
            assert_eq!(forks.iter().filter(|hook| *hook == "child").count(), 1);
            if pids.insert(seen["pid"].to_string()) {
                numbers.insert(seen["random"].to_string());
            }
            pids.len() == 2
        });
        assert_eq!(
            numbers.len(),
            2,
            "each worker has random numbers of its own"
        );
    }
}

#[test]
fn a_thread_of_the_import_is_named_and_dead_in_the_workers() {
    for driver in DRIVERS {
        let server = preloaded(driver).env("THREAD", "1").spawn();
        server.wait_ready(1);
        if driver == "gevent" {
            // gevent's threads are greenlets, which a fork takes along.
            assert_eq!(server.count_lines("started while the app was preloaded"), 0);
        } else {
            let line = server.wait_for_line("1 thread was started while the app was preloaded");
            assert!(
                line.contains("[WARNING]") && line.ends_with(": ticker"),
                "{line}"
            );
            assert_eq!(facts(&server)["thread lives"], false);
        }
        // The master hears its signals, and does not wait for the thread at its end.
        server.signal(Signal::SIGHUP);
        server.wait_ready(2);
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn signals_that_the_kernel_gives_to_a_thread_reach_the_master() {
    let server = preloaded("sync").env("THREAD", "1").spawn();
    server.wait_ready(1);
    for round in 2..6 {
        let worker = server.wait_for_workers(1)[0];
        // Its death is told by a signal, too.
        process::signal(worker, Signal::SIGKILL);
        server.wait_ready(round);
    }
    server.signal(Signal::SIGINT);
    server.assert_exits(0).within(patience());
}

#[test]
fn a_hub_that_the_import_has_made_works_in_the_workers() {
    let server = preloaded("gevent").env("GREENLETS", "1").workers(2).start();
    let started = Instant::now();
    let waiting: Vec<InBackground> = (0..20)
        .map(|_| server.get("/sleep").in_background())
        .collect();
    for request in waiting {
        assert_eq!(request.response().status(), 200);
    }
    assert!(started.elapsed() < secs(3), "{:?}", started.elapsed());
    // Under sync, with the hub of an app that uses gevent by itself.
    let server = preloaded("sync").env("GREENLETS", "1").start();
    assert_eq!(facts(&server)["gevent"], true);
}

#[test]
fn what_cannot_be_imported_binds_nothing() {
    for (app, code, text) in [
        ("bad_import:app", 3, "Traceback (most recent call last)"),
        (
            "hello:absent",
            4,
            "Failed to find attribute 'absent' in 'hello'.",
        ),
    ] {
        let rgun = Rgun::app(app).arg("--preload");
        let pidfile = rgun.directory().join("pid");
        let server = rgun.arg("--pid").arg(&pidfile).spawn();
        server.assert_exits(code).within(patience());
        server.wait_for_line(text);
        assert_eq!(server.count_lines("Listening at"), 0);
        assert_eq!(server.count_lines("Booting worker"), 0);
        assert!(!pidfile.exists());
    }
}

#[test]
fn the_environment_is_set_before_the_import() {
    let server = preloaded("sync").args(["--env", "GIVEN=here"]).start();
    assert_eq!(facts(&server)["env"], "here");
}

#[test]
fn hup_keeps_the_code_and_usr2_brings_new() {
    let rgun = Rgun::bare();
    let directory = rgun.directory();
    let write = |word: &str| {
        let code = format!(
            "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n"
        );
        fs::write(directory.join("site_.py"), code).expect("it can be written");
    };
    write("old");
    let server = rgun
        .chdir(directory.clone())
        .env("VIRTUAL_ENV", venv())
        .args(["--preload", "site_:app"])
        .start();
    write("new");
    let before = server.wait_for_workers(1);
    server.signal(Signal::SIGHUP);
    server.wait_for_line("its code is not read again");
    server.wait_ready(2);
    until("the old worker is gone", patience(), || {
        !process::alive(before[0])
    });
    assert_eq!(server.get("/").response().text(), "old");
    server.signal(Signal::SIGUSR2);
    server.wait_ready(3);
    server.signal(Signal::SIGTERM);
    until("the new master alone serves", patience(), || {
        server
            .get("/")
            .try_response()
            .is_ok_and(|answer| answer.text() == "new")
    });
}

#[test]
fn the_kind_of_the_app_is_known_before_the_first_worker() {
    // By what it is, whatever its source looks like.
    let server = Rgun::app("preloaded:app")
        .args(["--preload", "--env", "GIVEN=here"])
        .start();
    server.wait_for_line("The app is WSGI, which its source did not show: starting anew.");
    server.wait_for_line("Using worker: gevent");
    let seen = facts(&server);
    assert_eq!(seen["gevent"], true);
    assert_eq!(seen["imported by"], server.pid());
    assert_eq!(seen["env"], "here");
    assert_eq!(server.booted().len(), 1);
    let server = Rgun::app("hidden_asgi:create()").arg("--preload").start();
    server.wait_for_line("The app is ASGI, which its source did not show: starting anew.");
    server.wait_for_line("Using worker: asgi");
    assert_eq!(server.get("/").response().text(), "hidden");
    assert_eq!(server.booted().len(), 1);
}

#[test]
fn sockets_that_were_handed_over_survive_the_second_start() {
    let server = Rgun::app("hidden_asgi:create()").arg("--preload").start();
    server.signal(Signal::SIGUSR2);
    server.wait_ready(2);
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert_eq!(server.get("/").response().text(), "hidden");
}

#[test]
fn an_asgi_app_is_preloaded_too() {
    for event_loop in ["asyncio", "uvloop"] {
        let server = Rgun::app("preloaded:live")
            .args(["--preload", "--asgi-loop", event_loop])
            .workers(2)
            .start();
        server.wait_for_line("Using worker: asgi");
        for pid in server.wait_for_workers(2) {
            assert!(memory(pid, "Private_Dirty") < memory(pid, "Rss") / 2);
        }
        for _ in 0..10 {
            assert_eq!(facts(&server)["imported by"], server.pid());
        }
    }
}

#[test]
fn a_rust_app_ignores_it_aloud() {
    let server = Rgun::app("builtin:hello").arg("--preload").start();
    server.wait_for_line("--preload is ignored");
}
