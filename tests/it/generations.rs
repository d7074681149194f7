//! How one generation of workers follows another, and one worker another: the successor first, as many at a time as are wished.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Hammer, Rgun, Server, patience, process, secs, until};

/// What the master's log says of its workers' lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Forked,
    Ready,
    Left,
}

fn lives(server: &Server) -> Vec<(Life, i32)> {
    let read = |line: &String| {
        let (_, told) = line.split_once("[DEBUG] worker=")?;
        let mut words = told.split(' ').skip(2);
        let pid = words.next()?.strip_prefix("pid=")?.parse().ok()?;
        let life = match words.next()? {
            "forked" => Life::Forked,
            "ready" => Life::Ready,
            "left" => Life::Left,
            _ => return None,
        };
        Some((life, pid))
    };
    server.log().iter().filter_map(read).collect()
}

/// The most workers that were starting at a time, and the most there were, from the `from`th event on.
fn most(lives: &[(Life, i32)], from: usize) -> (usize, usize) {
    let (mut starting, mut there, mut most_starting, mut most_there) = (0, 0, 0, 0);
    for (index, (life, _)) in lives.iter().enumerate() {
        match life {
            Life::Forked => {
                starting += 1;
                there += 1;
            }
            Life::Ready => starting -= 1,
            Life::Left => there -= 1,
        }
        if index >= from {
            most_starting = most_starting.max(starting);
            most_there = most_there.max(there);
        }
    }
    (most_starting, most_there)
}

fn hammered(server: &Server, work: impl FnOnce()) {
    let hammer = Hammer::start(server, "/", 3);
    work();
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.good > 0);
}

/// An app whose `n`th import, counted over all workers, does what `then` says.
fn counting(rgun: Rgun, then: &str) -> Rgun {
    let home = rgun.directory();
    let text = format!(
        "import os, time\n\
         with open('imports', 'a') as file: file.write('.')\n\
         count = os.path.getsize('imports')\n\
         {then}\n\
         def app(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return [b'served']\n"
    );
    rgun.write("counting.py", &text);
    rgun.chdir(home)
}

fn imports(directory: &Path) -> u64 {
    fs::metadata(directory.join("imports")).map_or(0, |file| file.len())
}

#[test]
fn a_rolling_reload_has_one_worker_more_at_a_time() {
    let server = counting(Rgun::app("counting:app"), "")
        .workers(3)
        .args(["-k", "sync", "--reload-strategy", "rolling"])
        .start();
    let before = server.worker_pids();
    let events = lives(&server).len();
    hammered(&server, || {
        server.signal(Signal::SIGHUP);
        server.wait_ready(6);
        until("the old ones are gone", patience(), || {
            let now = server.worker_pids();
            now.len() == 3 && before.iter().all(|pid| !now.contains(pid))
        });
    });
    let (starting, _) = most(&lives(&server), events);
    assert_eq!(starting, 1);
}

#[test]
fn a_rolling_reload_takes_as_many_at_a_time_as_it_is_told() {
    let server = counting(Rgun::app("counting:app"), "")
        .workers(4)
        .args([
            "-k",
            "sync",
            "--reload-strategy",
            "rolling",
            "--reload-batch",
            "2",
        ])
        .start();
    let events = lives(&server).len();
    hammered(&server, || {
        server.signal(Signal::SIGHUP);
        server.wait_ready(8);
    });
    let (starting, _) = most(&lives(&server), events);
    assert_eq!(starting, 2);
}

#[test]
fn a_rolling_reload_that_fails_in_its_midst_is_gone_back() {
    // Three at the start, one new one that boots, and one that does not.
    let rgun = counting(
        Rgun::app("counting:app"),
        "if count == 5: raise RuntimeError('not this one')",
    );
    let server = rgun
        .workers(3)
        .args(["-k", "sync", "--reload-strategy", "rolling"])
        .start();
    hammered(&server, || {
        server.signal(Signal::SIGHUP);
        server.wait_for_line("not this one");
        server.wait_for_line("Reload abandoned");
        until("the slot has an old one again", patience(), || {
            imports(server.directory()) == 6 && server.worker_pids().len() == 3
        });
    });
    let generations: Vec<_> = (server.log().iter())
        .filter(|line| line.contains(" ready"))
        .filter_map(|line| line.split_once("gen=").map(|(_, rest)| rest.as_bytes()[0]))
        .collect();
    assert_eq!(generations, b"00010");
    server.signal(Signal::SIGHUP);
    server.wait_ready(8);
}

#[test]
fn a_boot_that_takes_too_long_ends_the_reload_and_nothing_else() {
    for strategy in ["all-at-once", "rolling"] {
        let rgun = counting(
            Rgun::app("counting:app"),
            "while count > 2 and not os.path.exists('go'): time.sleep(0.01)",
        );
        let server = rgun
            .workers(2)
            .args([
                "-k",
                "sync",
                "--boot-timeout",
                "1.5",
                "--reload-strategy",
                strategy,
            ])
            .start();
        let before = server.worker_pids();
        hammered(&server, || {
            server.signal(Signal::SIGHUP);
            server.wait_for_line("not ready after 1.5 s (--boot-timeout)");
            server.wait_for_line("Reload abandoned (a new worker did not boot)");
            until("the new ones are gone", patience(), || {
                server.worker_pids().len() == 2
            });
        });
        assert_eq!(server.worker_pids(), before, "{strategy}");
        fs::write(server.directory().join("go"), "").expect("a file");
        server.signal(Signal::SIGHUP);
        server.wait_ready(4);
    }
}

#[test]
fn nobody_waits_for_an_import_of_three_seconds() {
    let rgun = counting(Rgun::app("counting:app"), "if count > 2: time.sleep(3)");
    let server = rgun.workers(2).args(["-k", "sync"]).start();
    let hammer = Hammer::start(&server, "/", 3);
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.longest < secs(2), "{:?}", tally.longest);
}

#[test]
fn workers_of_the_same_age_are_replaced_one_by_one() {
    let server = counting(Rgun::app("counting:app"), "")
        .workers(3)
        .args(["-k", "sync", "--max-worker-age", "1.5"])
        .start();
    let events = lives(&server).len();
    hammered(&server, || {
        server.wait_for_lines("s old: another one takes its place.", 3);
        server.wait_ready(6);
    });
    let (starting, _) = most(&lives(&server), events);
    assert_eq!(starting, 1);
}

#[test]
fn a_worker_that_holds_too_much_is_replaced_and_its_neighbour_is_not() {
    let rgun = Rgun::app("growing:app");
    let text = "held = []\n\
        def app(environ, start_response):\n\
        \x20   if environ['PATH_INFO'] == '/grow': held.append(b'x' * (256 << 20))\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [str(__import__('os').getpid()).encode()]\n";
    rgun.write("growing.py", text);
    let home = rgun.directory();
    let server = rgun
        .chdir(home)
        .workers(2)
        .args(["-k", "sync", "--max-worker-memory", "200M"])
        .start();
    let before = server.worker_pids();
    hammered(&server, || {
        let grown: i32 = server
            .get("/grow")
            .response()
            .text()
            .parse()
            .expect("a pid");
        server.wait_for_line(&format!("Worker (pid:{grown}) holds "));
        server.wait_ready(3);
        until("it has left", patience(), || !process::alive(grown));
        let stayed = before.iter().find(|pid| **pid != grown).expect("two");
        assert!(process::alive(*stayed));
    });
    assert_eq!(server.count_lines("another one takes its place"), 1);
}
