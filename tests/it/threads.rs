//! The gthread driver: each request in a thread, more of them while requests wait, and a main thread that only serves.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Rgun, Server, millis, patience, process, quiet, secs, until};

fn threads(least: usize, most: usize) -> Rgun {
    Rgun::app("threads:app")
        .args(["-k", "gthread", "--threads"])
        .arg(least.to_string())
        .arg("--max-threads")
        .arg(most.to_string())
}

/// How many threads for requests the one worker has.
fn count(server: &Server) -> usize {
    let pid = server.wait_for_workers(1)[0];
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .count()
}

/// The main thread, and, where threads may be added, the one that does that.
const OTHERS: usize = 2;

#[test]
fn requests_run_in_threads_of_pythons_own() {
    let server = threads(2, 2).start();
    for _ in 0..3 {
        let said = server.get("/thread").response().json();
        assert_eq!(said["type"], "Thread", "{said}");
        assert_eq!(
            (&said["main"], &said["daemon"], &said["known"]),
            (&json!(false), &json!(true), &json!(true)),
            "{said}"
        );
        assert!(
            said["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("gthread-")),
            "{said}"
        );
    }
}

#[test]
fn a_threads_own_data_stays_and_a_requests_context_does_not() {
    let server = threads(1, 1).start();
    let mut client = server.connect();
    for count in 1..=3 {
        let said = client.get("/thread").json();
        assert_eq!(
            (&said["count"], &said["variable"]),
            (&json!(count), &json!("fresh"))
        );
    }
    assert_eq!(client.get("/context?one").text(), "oneoneone");
    assert_eq!(client.get("/context?two").text(), "twotwotwo");
}

#[test]
fn sync_and_auto_with_threads_are_gthread() {
    for (class, arguments) in [
        ("sync", ["--threads", "4"]),
        ("auto", ["--threads", "4"]),
        ("sync", ["--max-threads", "4"]),
        ("gthread", ["--threads", "4"]),
    ] {
        let server = Rgun::app("threads:app")
            .args(["-k", class])
            .args(arguments)
            .start();
        server.wait_for_line("Using worker: gthread");
        let waiting: Vec<_> = (0..4)
            .map(|_| server.get("/meet?4").in_background())
            .collect();
        for request in waiting {
            assert_eq!(request.response().text(), "met", "{class} {arguments:?}");
        }
    }
    let server = Rgun::app("threads:app")
        .args(["-k", "sync", "--threads", "1"])
        .start();
    server.wait_for_line("Using worker: sync");
}

#[test]
fn as_many_requests_as_threads_run_at_once_and_no_more() {
    let server = threads(2, 2).start();
    let waiting: Vec<_> = (0..3)
        .map(|_| server.get("/meet?3").in_background())
        .collect();
    let mut other = server.connect();
    other.send_get("/thread");
    assert!(other.stays_silent_for(millis(500)), "two of three are in");
    drop(waiting);
    let server = threads(2, 2).start();
    let waiting: Vec<_> = (0..6)
        .map(|_| server.get("/meet?2").in_background())
        .collect();
    for request in waiting {
        assert_eq!(request.response().text(), "met");
    }
}

#[test]
fn threads_are_added_while_requests_wait_and_end_when_they_are_idle() {
    let server = threads(2, 20).start();
    until("the first two", patience(), || count(&server) == 2 + OTHERS);
    let waiting: Vec<_> = (0..20)
        .map(|_| server.get("/meet?20").in_background())
        .collect();
    for request in waiting {
        assert_eq!(request.response().text(), "met");
    }
    assert!(count(&server) <= 20 + OTHERS);
    until("the added ones have ended", secs(30), || {
        count(&server) == 2 + OTHERS
    });
    // And again.
    let waiting: Vec<_> = (0..20)
        .map(|_| server.get("/meet?20").in_background())
        .collect();
    for request in waiting {
        assert_eq!(request.response().text(), "met");
    }
}

#[test]
fn quick_requests_need_few_threads() {
    let server = threads(1, 50).start();
    let mut client = server.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/sleep?ms=0").text(), "slept");
    }
    // On a busy machine one of them may wait for a while.
    let count = count(&server);
    assert!(count < 10, "{count} threads of at most 50");
}

/// The figure: 1,000 requests that each sleep 100 ms run at once in one worker.
#[test]
fn a_thousand_waits_run_at_once_in_one_worker() {
    let _quiet = quiet();
    let server = threads(1, 1000)
        .args(["--worker-connections", "1000"])
        .start();
    let mut clients: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    let started = Instant::now();
    for _ in 0..2 {
        for client in &mut clients {
            client.send_get("/sleep?ms=100");
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "slept");
        }
    }
    // One after the other they would take 200 s.
    assert!(started.elapsed() < secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_request_that_computes_does_not_keep_others_from_being_answered() {
    let server = threads(2, 2).start();
    let long = server.get("/compute?3000").in_background();
    let mut client = server.connect();
    for _ in 0..20 {
        let started = Instant::now();
        client.get("/thread");
        assert!(started.elapsed() < secs(1), "{:?}", started.elapsed());
    }
    assert_eq!(long.response().text(), "computed");
}

#[test]
fn a_worker_whose_threads_all_hang_is_replaced_and_one_with_a_free_thread_is_not() {
    let server = threads(2, 2).args(["--timeout", "4"]).start();
    let stuck = server.wait_for_workers(1)[0];
    let first = server.get("/hang").in_background();
    server.wait_for_lines("hanging", 1);
    // Longer than the timeout, together.
    for _ in 0..4 {
        assert_eq!(server.get("/sleep?ms=1500").response().text(), "slept");
    }
    assert_eq!(server.count_lines("WORKER TIMEOUT"), 0);
    let second = server.get("/hang").in_background();
    server.wait_for_line(&format!("WORKER TIMEOUT (pid:{stuck})"));
    server.wait_ready(2);
    until("it is gone", patience(), || !process::alive(stuck));
    assert!(first.try_response().is_err() && second.try_response().is_err());
    server.get("/thread").response();
}

#[test]
fn threads_that_hang_are_made_up_for_while_there_may_be_more() {
    let server = threads(1, 3).args(["--timeout", "3"]).start();
    let _hanging: Vec<_> = (0..2)
        .map(|_| server.get("/hang").in_background())
        .collect();
    server.wait_for_lines("hanging", 2);
    for _ in 0..4 {
        assert_eq!(server.get("/sleep?ms=1500").response().text(), "slept");
    }
    assert_eq!(server.get("/thread").response().status(), 200);
    assert_eq!(server.count_lines("WORKER TIMEOUT"), 0);
}

#[test]
fn a_client_that_does_not_read_is_not_the_apps_silence() {
    let server = threads(1, 1).args(["--timeout", "3"]).start();
    let mut slow = server.connect();
    slow.send_get("/stream?65536");
    until("it begins", patience(), || slow.has_bytes());
    let before = server.wait_for_workers(1);
    // Nothing is read for longer than the timeout; meanwhile the one thread waits, and so does a request.
    let mut other = server.connect();
    other.send_get("/thread");
    assert!(other.stays_silent_for(secs(5)));
    assert_eq!(slow.response().body().len(), 64 * 1024 * 1024);
    assert_eq!(other.response().status(), 200);
    assert_eq!(server.worker_pids(), before);
    assert_eq!(server.count_lines("WORKER TIMEOUT"), 0);
}

#[test]
fn requests_in_threads_finish_before_the_worker_leaves() {
    let server = threads(4, 4).start();
    let go = server.directory().join("go");
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            server
                .get(&format!("/begin-and-wait?{}", go.display()))
                .in_background()
        })
        .collect();
    server.wait_for_lines("begun", 4);
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    fs::write(&go, "").expect("a file");
    for request in waiting {
        assert_eq!(request.response().text(), "seen");
    }
    server.assert_exits(0).within(patience());
    assert_eq!(server.count_lines("the exit handler runs"), 1);
    assert_eq!(server.count_lines("closed"), 4);
}

#[test]
fn what_is_left_to_do_after_the_answer_is_done_before_the_worker_leaves() {
    let server = threads(1, 1).start();
    assert_eq!(server.get("/slow-close?ms=1500").response().text(), "whole");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    let log = server.log();
    let place = |text: &str| log.iter().position(|line| line.contains(text));
    let [done, closed, handler] =
        ["the work is done", "closed", "the exit handler runs"].map(place);
    assert!(
        done.is_some() && done < closed && closed < handler,
        "{done:?} {closed:?} {handler:?}"
    );
}

#[test]
fn threads_that_hang_do_not_keep_the_worker() {
    let server = threads(2, 2)
        .args(["--graceful-timeout", "1", "--timeout", "60"])
        .start();
    let hanging = server.get("/hang").in_background();
    server.wait_for_line("hanging");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert!(hanging.try_response().is_err());
    assert_eq!(server.count_lines("was sent SIGKILL"), 0);
    assert_eq!(server.count_lines("the exit handler runs"), 1);
}

#[test]
fn a_request_whose_client_leaves_is_finished_and_closed_once() {
    let server = threads(2, 2).start();
    let go = server.directory().join("go");
    let mut leaves = server.connect();
    leaves.send_get(&format!("/begin-and-wait?{}", go.display()));
    server.wait_for_line("begun");
    drop(leaves);
    assert_eq!(server.get("/closed").response().text(), "[]");
    fs::write(&go, "").expect("a file");
    server.wait_for_line("closed");
    let closed = server.get("/closed").response().json();
    assert_eq!(closed.as_array().map(Vec::len), Some(1), "{closed}");
    // In the middle of a stream, too.
    let mut leaves = server.connect();
    leaves.send_get("/stream?1000000");
    until("it begins", patience(), || leaves.has_bytes());
    drop(leaves);
    server.wait_for_lines("closed", 2);
    assert_eq!(
        server
            .get("/closed")
            .response()
            .json()
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn an_error_that_no_client_sees_is_told_with_its_request() {
    for driver in ["gthread", "gevent"] {
        let server = Rgun::app("threads:app").args(["-k", driver]).start();
        let mut leaves = server.connect();
        leaves.send_get("/written-and-raised?x=1");
        until("it begins", patience(), || leaves.has_bytes());
        drop(leaves);
        server.wait_for_line(
            "Error handling request GET /written-and-raised?x=1, whose client has gone:",
        );
        server.wait_for_line("ValueError: nobody is there");
        // It has failed before the client leaves, who has not come so far.
        let mut leaves = server.connect();
        leaves.send_get("/large-and-raised");
        server.wait_for_line("raising");
        drop(leaves);
        server.wait_for_line(
            "Error handling request GET /large-and-raised, whose client has gone:",
        );
        server.wait_for_line("ValueError: nobody reads so far");
        assert_eq!(server.count_lines("[ERROR]"), 2, "each once");
    }
}

#[test]
fn slow_readers_hold_a_thread_only_for_what_has_still_to_be_made() {
    let server = threads(1, 1).start();
    let file = server.directory().join("file");
    fs::write(&file, vec![b'f'; 32 << 20]).expect("a file");
    // All there, or little: the one thread is free while nobody reads.
    for (path, length) in [
        ("/pieces?50".to_owned(), 50 << 20),
        (format!("/file?{}", file.display()), 32 << 20),
        ("/stream?200".to_owned(), 200 << 10),
    ] {
        let mut slow = server.connect();
        slow.send_get(&path);
        until("it begins", patience(), || slow.has_bytes());
        for _ in 0..3 {
            assert_eq!(server.get("/thread").response().status(), 200, "{path}");
        }
        assert_eq!(slow.response().body().len(), length, "{path}");
    }
    server.wait_for_line("the file is freed");
}

#[test]
fn a_file_whose_client_leaves_is_closed() {
    let server = threads(1, 1).start();
    let file = server.directory().join("file");
    fs::write(&file, vec![b'f'; 32 << 20]).expect("a file");
    let mut leaves = server.connect();
    leaves.send_get(&format!("/file?{}", file.display()));
    until("it begins", patience(), || leaves.has_bytes());
    drop(leaves);
    server.wait_for_line("the file is freed");
    let mut head = server.connect();
    head.send(format!(
        "HEAD /file?{} HTTP/1.1\r\nHost: a\r\n\r\n",
        file.display()
    ));
    assert_eq!(
        head.response_to("HEAD").header("content-length"),
        Some("33554432")
    );
    server.wait_for_lines("the file is freed", 2);
}

#[test]
fn the_memory_of_large_answers_is_given_back() {
    let server = threads(2, 2).start();
    let pid = server.wait_for_workers(1)[0];
    let mut client = server.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/block").body().len(), 1 << 20);
    }
    let before = process::status(pid, "VmRSS");
    for _ in 0..200 {
        client.get("/block");
    }
    let after = process::status(pid, "VmRSS");
    // 200 MiB were made.
    assert!(after < before + 50 * 1024, "{before} kB, then {after} kB");
}

#[test]
fn the_apps_signal_handlers_run_on_the_main_thread_at_once() {
    let server = threads(2, 2).start();
    let pid = server.wait_for_workers(1)[0];
    process::signal(pid, Signal::SIGHUP);
    until("the handler has run", secs(5), || {
        server.get("/signals").response().json() == json!(["MainThread"])
    });
    // While all threads are busy, too.
    let busy: Vec<_> = (0..2)
        .map(|_| server.get("/sleep?ms=1000").in_background())
        .collect();
    process::signal(pid, Signal::SIGHUP);
    for request in busy {
        assert_eq!(request.response().text(), "slept");
    }
    assert_eq!(
        server.get("/signals").response().json(),
        json!(["MainThread", "MainThread"])
    );
}

#[test]
fn a_process_that_the_app_forks_is_no_worker() {
    let server = threads(2, 2).start();
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/fork").text(), "0");
        assert_eq!(client.get("/thread").status(), 200);
    }
    assert_eq!(server.worker_pids().len(), 1);
}

#[test]
fn other_threads_of_the_app_may_use_what_the_request_has() {
    for log in [None, Some("error.log")] {
        let mut rgun = threads(2, 2);
        let file = rgun.directory().join("error.log");
        if log.is_some() {
            rgun = rgun.arg("--error-logfile").arg(&file);
        }
        let server = if log.is_some() {
            rgun.spawn()
        } else {
            rgun.start()
        };
        let read = || match log {
            Some(_) => fs::read_to_string(&file).unwrap_or_default(),
            None => server.log().join("\n"),
        };
        until("it listens", patience(), || read().contains(" ready"));
        let text = read();
        let (_, rest) = text.split_once("Listening at: ").expect("the address");
        let url = rest.split(' ').next().expect("the address");
        let address = crate::harness::Address::of_url(url);
        let mut client = Client::connect(&address);
        for _ in 0..10 {
            let answer = client.get("/helper");
            assert_eq!(answer.text(), "written elsewhere, returned here");
        }
        until("it is in the log", patience(), || {
            read().matches("told elsewhere").count() == 10
        });
        let mut collected = BTreeSet::new();
        for _ in 0..2 {
            collected.insert(client.get("/collect").text());
        }
        assert!(!collected.is_empty());
        let text = read();
        for word in ["unsendable", "Traceback", "panicked"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[test]
fn an_app_that_patches_threads_by_gevent_is_told_to_use_that() {
    let rgun = Rgun::bare();
    rgun.write(
        "patched.py",
        "from gevent import monkey; monkey.patch_all()\ndef app(environ, start_response): pass\n",
    );
    let directory = rgun.directory();
    let server = rgun
        .env("VIRTUAL_ENV", crate::harness::venv())
        .chdir(directory)
        .args(["-k", "gthread", "patched:app"])
        .spawn();
    server.assert_exits(3).within(patience());
    server.wait_for_line("use --worker-class gevent");
}

#[test]
fn exceptions_and_bad_files_leave_the_threads_alive() {
    let server = threads(1, 1).start();
    for _ in 0..10 {
        for path in ["/no-such-function", "/file?/no/such/file"] {
            assert_eq!(server.get(path).response().status(), 500);
        }
    }
    let said: Value = server.get("/thread").response().json();
    assert_eq!(said["name"], "gthread-1");
}
