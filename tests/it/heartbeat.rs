//! A silent worker is told of, aborted, killed and replaced; an idle one is not silent.

use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::{Rgun, millis, patience, process, secs, until};

#[test]
fn a_stopped_worker_is_told_of_killed_and_replaced() {
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .args(["--timeout", "1"])
        .start();
    let [stopped, other] = server.wait_for_workers(2)[..] else {
        panic!("two workers")
    };
    process::signal(stopped, Signal::SIGSTOP);
    let line = server.wait_for_line("WORKER TIMEOUT");
    assert!(line.contains("[CRITICAL]"), "{line}");
    assert!(
        line.contains(&format!("WORKER TIMEOUT (pid:{stopped})")),
        "{line}"
    );
    // A stopped process does not take ABRT: KILL comes after it.
    server.wait_for_line(&format!("Worker (pid:{stopped}) was sent SIGKILL!"));
    server.wait_ready(3);
    assert!(!process::alive(stopped));
    assert!(process::alive(other), "the other one was not silent");
    assert_eq!(server.get("/").response().status(), 200);
}

// Loading the app counts, so the timeouts of Python apps leave a busy machine the time for it.

#[test]
fn a_python_app_that_never_comes_back_is_aborted_and_replaced() {
    for driver in ["sync", "gevent", "gthread"] {
        let server = Rgun::app("wsgi:app")
            .args(["-k", driver, "--timeout", "4"])
            .start();
        let stuck = server.wait_for_workers(1)[0];
        let request = server.get("/spin").in_background();
        server.wait_for_line(&format!("WORKER TIMEOUT (pid:{stuck})"));
        server.wait_ready(2);
        until("it is gone", patience(), || !process::alive(stuck));
        assert!(request.try_response().is_err());
        assert_eq!(
            server.get("/hello").response().text(),
            "hello world!",
            "{driver}"
        );
    }
}

#[test]
fn idle_and_waiting_workers_are_not_silent() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "gevent", "--timeout", "4"])
        .workers(2)
        .start();
    let before = server.wait_for_workers(2);
    let slow = server.get("/sleep?ms=6000").in_background();
    assert_eq!(slow.response().text(), "slept");
    assert_eq!(server.worker_pids(), before);
    assert_eq!(server.count_lines("WORKER TIMEOUT"), 0);
}

#[test]
fn timeout_0_switches_it_off() {
    let server = Rgun::app("builtin:hello").args(["--timeout", "0"]).start();
    let worker = server.wait_for_workers(1)[0];
    process::signal(worker, Signal::SIGSTOP);
    std::thread::sleep(millis(2500));
    process::signal(worker, Signal::SIGCONT);
    assert_eq!(server.get("/").response().status(), 200);
    assert_eq!(server.worker_pids(), [worker]);
}

#[test]
fn the_beat_is_an_unlinked_file_in_the_worker_tmp_dir() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let directory = rgun.directory().join("beats");
    std::fs::create_dir(&directory).expect("a directory");
    let server = rgun.arg("--worker-tmp-dir").arg(&directory).start();
    let under = |pid: i32, directory: &Path| {
        process::open_files(pid)
            .iter()
            .filter_map(|path| path.to_str())
            .filter(|path| {
                path.starts_with(directory.to_str().expect("UTF-8"))
                    && path.ends_with(" (deleted)")
            })
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let workers = server.wait_for_workers(2);
    let files: Vec<_> = workers.iter().map(|&pid| under(pid, &directory)).collect();
    assert!(
        files.iter().all(|files| files.len() == 1),
        "one file a worker: {files:?}"
    );
    assert_ne!(files[0], files[1]);
    assert_eq!(
        std::fs::read_dir(&directory).expect("it is there").count(),
        0
    );
    // The master watches both.
    assert_eq!(under(server.pid(), &directory).len(), 2);
}

#[test]
fn the_beat_is_in_memory_by_default() {
    let server = Rgun::app("builtin:hello").start();
    let worker = server.wait_for_workers(1)[0];
    let files = process::open_files(worker);
    assert!(
        files.iter().any(|path| {
            let path = path.to_string_lossy();
            path.starts_with("/dev/shm/") && path.ends_with(" (deleted)")
        }),
        "{files:?}"
    );
}

#[test]
fn workers_whose_master_died_leave_within_a_second() {
    for (app, driver) in [
        ("builtin:hello", "sync"),
        ("wsgi:app", "sync"),
        ("wsgi:app", "gevent"),
        ("wsgi:app", "gthread"),
    ] {
        let server = Rgun::app(app).args(["-k", driver]).workers(3).start();
        let workers = server.wait_for_workers(3);
        let mut idle = server.connect();
        assert_eq!(idle.get("/hello").status(), 200);
        server.signal(Signal::SIGKILL);
        let killed = Instant::now();
        until("the workers are gone", patience(), || {
            !workers.iter().any(|&pid| process::alive(pid))
        });
        assert!(
            killed.elapsed() < secs(1) + millis(500),
            "{:?}",
            killed.elapsed()
        );
        assert!(idle.closes_within(secs(1)));
    }
}

/// It was only later that a worker asked the kernel to be told of its master's end.
#[test]
fn a_worker_that_hangs_in_its_post_fork_hook_leaves_with_its_master_too() {
    let rgun = Rgun::app("wsgi:app").args(["-k", "sync"]);
    let hooks = rgun.write(
        "hooks.py",
        "import time\n\ndef post_fork(server, worker):\n    server.log.info('hanging')\n    time.sleep(1000)\n",
    );
    let server = rgun.arg("-c").arg(hooks).spawn();
    server.wait_for_line("hanging");
    let worker = server.wait_for_workers(1)[0];
    server.signal(Signal::SIGKILL);
    until("the worker is gone", patience(), || !process::alive(worker));
}

/// The end of file on its channel cannot reach it: the kernel ends it.
#[test]
fn a_worker_that_is_stuck_in_its_app_leaves_with_its_master_too() {
    let server = Rgun::app("wsgi:app").args(["-k", "sync"]).start();
    let worker = server.wait_for_workers(1)[0];
    let _stuck = server.get("/spin").in_background();
    server.wait_for_line("spinning");
    server.signal(Signal::SIGKILL);
    let killed = Instant::now();
    until("the worker is gone", patience(), || !process::alive(worker));
    assert!(
        killed.elapsed() < secs(1) + millis(500),
        "{:?}",
        killed.elapsed()
    );
}
