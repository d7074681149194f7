//! A worker that hangs is reported before it ends: where its code is, and which requests it has.

use nix::sys::signal::Signal;

use crate::harness::{Rgun, Server, patience, process, secs, until};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

/// Loading the app counts as silence, so a busy machine gets the time for it.
fn stuck(driver: &str) -> Rgun {
    Rgun::app("stuck:app").args(["-k", driver, "--timeout", &timeout()])
}

fn timeout() -> String {
    secs(6).as_secs().to_string()
}

/// The report on worker `pid`, line by line; what is logged after it is left out.
fn report(server: &Server, pid: i32) -> Vec<String> {
    server.wait_for_line(&format!("Worker (pid:{pid}) "));
    let log = server.log();
    let heading = format!("What worker (pid:{pid}) was doing:");
    let start = log
        .iter()
        .position(|line| line.contains(&heading))
        .unwrap_or_else(|| panic!("no report on {pid}"));
    let report = log[start + 1..].iter();
    report
        .take_while(|line| !line.starts_with("[20"))
        .cloned()
        .collect()
}

#[track_caller]
fn assert_has(report: &[String], text: &str) {
    assert!(
        report.iter().any(|line| line.contains(text)),
        "no {text:?} in {report:#?}"
    );
}

#[track_caller]
fn assert_lacks(report: &[String], text: &str) {
    assert!(
        !report.iter().any(|line| line.contains(text)),
        "{text:?} in {report:#?}"
    );
}

/// The drivers at the same time: each hang lasts as long as the timeout.
fn side_by_side(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for driver in DRIVERS {
            scope.spawn(|| test(driver));
        }
    });
}

/// Hangs in `path`, and gives the report on that.
fn hang(server: &Server, path: &str) -> Vec<String> {
    let pid = server.wait_for_workers(1)[0];
    let request = server.get(path).in_background();
    server.wait_for_line(&format!("WORKER TIMEOUT (pid:{pid})"));
    let report = report(server, pid);
    server.wait_for_line(&format!("Worker (pid:{pid}) exited with code 1."));
    assert!(request.try_response().is_err());
    server.wait_ready(2);
    report
}

#[test]
fn code_that_loops_waits_or_blocks_is_told_with_its_request() {
    side_by_side(|driver| {
        for (path, function, code) in [
            ("/spin", "in spin", "while True:"),
            ("/sleep", "in sleep", "pause(1000)"),
            ("/lock", "in lock", "held.acquire()"),
            ("/regex", "in regex", "re.match("),
        ] {
            if (driver, path) == ("gthread", "/regex") {
                // It lets nobody else in but signal handlers, which belong on the main thread.
                continue;
            }
            let server = stuck(driver).start();
            let report = hang(&server, &format!("{path}?x=1"));
            assert_has(&report, "Requests in flight: 1");
            assert_has(&report, &format!("  GET {path}?x=1 from 127.0.0.1, for "));
            if driver == "gthread" {
                // The main thread serves connections, in no Python code.
                assert_has(&report, "The worker's main thread:");
                assert_has(&report, "Thread '");
            } else {
                assert_has(&report, "The worker's main thread");
            }
            assert_has(&report, &format!(", serving GET {path}?x=1:"));
            assert_has(&report, function);
            assert_has(&report, code);
            assert_has(&report, "in app");
            assert_lacks(&report, "_stacks.py");
        }
    });
}

#[test]
fn a_queue_that_stays_empty_is_told() {
    let report = hang(&stuck("sync").start(), "/waiting-queue");
    assert_has(&report, "queue.SimpleQueue().get()");
}

/// The interpreter cannot run code any more: what is there is written from outside.
#[test]
fn a_call_that_never_returns_is_told_as_far_as_it_can_be() {
    side_by_side(|driver| {
        for path in ["/hold-the-gil", "/release-the-gil", "/regex"] {
            let from_outside = match path {
                "/hold-the-gil" => true,
                // Another thread has the interpreter to itself meanwhile.
                "/release-the-gil" => driver != "gthread",
                // It looks for signals, on the main thread.
                _ => driver == "gthread",
            };
            let server = stuck(driver).start();
            let report = hang(&server, path);
            assert_has(&report, "Requests in flight: 1");
            assert_has(&report, &format!("  GET {path} from 127.0.0.1, for "));
            assert_has(&report, &format!("in {}", path[1..].replace('-', "_")));
            let told = report
                .iter()
                .any(|line| line.contains("most recent call first"));
            assert_eq!(told, from_outside, "{driver} {path}: {report:#?}");
        }
    });
}

#[test]
fn the_age_of_a_request_is_how_long_it_has_been_here() {
    let server = stuck("sync").start();
    let report = hang(&server, "/spin");
    let line = report
        .iter()
        .find(|line| line.contains("GET /spin from"))
        .expect("the request");
    let age: f64 = line
        .split_once(", for ")
        .and_then(|(_, rest)| rest.strip_suffix(" s"))
        .expect("an age")
        .parse()
        .expect("a number");
    // The timeout counts from the last beat, a second before the request at the most, and the beat is a second long.
    assert!((2.0..30.0).contains(&age), "{line}");
}

#[test]
fn every_greenlet_is_told_with_its_request_and_equal_ones_once() {
    let server = stuck("gevent").start();
    let _waiting: Vec<_> = (0..5)
        .map(|number| server.get(&format!("/wait?{number}")).in_background())
        .collect();
    server.wait_for_lines("entered /wait", 5);
    let report = hang(&server, "/spin");
    assert_has(&report, "Requests in flight: 6");
    let heading = report
        .iter()
        .find(|line| line.starts_with("5 greenlets at the same place, serving GET /wait?"))
        .unwrap_or_else(|| panic!("{report:#?}"));
    for number in 0..5 {
        assert!(
            heading.contains(&format!("GET /wait?{number}")),
            "{heading}"
        );
    }
    assert_has(&report, "time.sleep(1000)");
    assert_has(&report, "The worker's main thread, in greenlet");
    assert_eq!(
        report
            .iter()
            .filter(|line| line.contains("in wait"))
            .count(),
        1
    );
}

#[test]
fn every_task_is_told_with_its_request_and_what_it_awaits() {
    for event_loop in ["asyncio", "uvloop"] {
        let server = Rgun::app("stuck_asgi:app")
            .args([
                "-k",
                "asgi",
                "--asgi-loop",
                event_loop,
                "--timeout",
                &timeout(),
            ])
            .start();
        let _waiting: Vec<_> = (0..3)
            .map(|_| server.get("/wait").in_background())
            .collect();
        server.wait_for_lines("entered /wait", 3);
        let report = hang(&server, "/spin");
        assert_has(&report, "Requests in flight: 4");
        assert_has(&report, "The worker's main thread, in task ");
        assert_has(&report, ", serving GET /spin");
        assert_has(
            &report,
            "3 tasks at the same place, serving GET /wait, GET /wait, GET /wait:",
        );
        for code in [
            "await wait()",
            "await nap()",
            "await asyncio.sleep(1000)",
            "spin()",
        ] {
            assert_has(&report, code);
        }
        assert_has(&report, "Task 'in the background':");
        assert_has(&report, "await asyncio.Event().wait()");
    }
}

#[test]
fn a_loop_whose_app_waits_elsewhere_is_told() {
    for event_loop in ["asyncio", "uvloop"] {
        for (path, function) in [("/sleep", "in app"), ("/hold-the-gil", "in hold_the_gil")] {
            let server = Rgun::app("stuck_asgi:app")
                .args([
                    "-k",
                    "asgi",
                    "--asgi-loop",
                    event_loop,
                    "--timeout",
                    &timeout(),
                ])
                .start();
            let report = hang(&server, path);
            assert_has(&report, &format!("  GET {path} from 127.0.0.1, for "));
            assert_has(&report, function);
        }
    }
}

#[test]
fn every_thread_is_told_by_its_name() {
    let server = stuck("sync").start();
    server.get("/thread").response();
    let report = hang(&server, "/spin");
    assert_has(&report, "Thread 'the ticker' (0x");
    assert_has(&report, ", a daemon:");
    assert_has(&report, "in ticker");
}

#[test]
fn an_import_that_hangs_is_told_too() {
    let server = Rgun::app("stuck:app")
        .args(["--timeout", &timeout(), "-k", "sync"])
        .env("HANG", "1")
        .spawn();
    let line = server.wait_for_line("WORKER TIMEOUT (pid:");
    let pid = crate::harness::rgun::pid_after(&line, "(pid:").expect("a pid");
    let report = report(&server, pid);
    assert_has(&report, "stuck.py\", line");
    assert_has(&report, "in <module>");
}

/// What the report asks of a module need not be there yet.
#[test]
fn a_module_that_is_imported_by_half_keeps_nothing_back() {
    for (half, hang) in [
        ("asyncio", "asyncio.base_events"),
        ("asyncio.tasks", "asyncio.base_tasks"),
        ("greenlet", "greenlet._greenlet"),
        ("gevent", "gevent._config"),
        ("gevent.hub", "gevent._hub_primitives"),
        ("threading", "_weakrefset"),
        ("traceback", "linecache"),
        ("linecache", "tokenize"),
    ] {
        let server = Rgun::app("half_imported:app")
            .args(["-k", "sync"])
            .env("HALF", half)
            .env("HANG", hang)
            .spawn();
        let line = server.wait_for_line("half imported");
        let pid = crate::harness::rgun::pid_after(&line, " by ").expect("a pid");
        process::signal(pid, Signal::SIGABRT);
        let report = report(&server, pid);
        assert_has(&report, "The worker's main thread:");
        assert_has(&report, "half_imported.py\", line");
        assert_has(&report, "in find_spec");
        assert_lacks(&report, "cannot be told");
        assert_lacks(&report, "most recent call first");
    }
}

#[test]
fn the_report_is_one_block_of_the_log_file() {
    let rgun = stuck("sync");
    let file = rgun.directory().join("error.log");
    let server = rgun.arg("--error-logfile").arg(&file).spawn();
    let log = || std::fs::read_to_string(&file).unwrap_or_default();
    until("it listens", patience(), || log().contains(" ready"));
    let url = log()
        .lines()
        .find_map(|line| line.split_once("Listening at: "))
        .map(|(_, rest)| rest.split(' ').next().unwrap_or_default().to_owned())
        .expect("the address");
    let address = crate::harness::Address::of_url(&url);
    let mut client = crate::harness::Client::connect(&address);
    client.send(b"GET /spin HTTP/1.1\r\nHost: x\r\n\r\n");
    until("the report is there", patience(), || {
        log().contains("exited with code 1.")
    });
    let log = log();
    let block: Vec<&str> = log
        .lines()
        .skip_while(|line| !line.contains("was doing:"))
        .skip(1)
        .take_while(|line| !line.starts_with("[20"))
        .collect();
    let text = block.join("\n");
    assert!(
        text.contains("GET /spin") && text.contains("in spin"),
        "{log}"
    );
    drop(server);
}

#[test]
fn an_app_that_switches_faulthandler_on_is_reported_all_the_same() {
    let server = stuck("sync").env("FAULTHANDLER", "1").start();
    let report = hang(&server, "/spin");
    assert_has(&report, "serving GET /spin");
}

#[test]
fn a_crash_is_told_with_the_code_that_caused_it() {
    let server = stuck("sync").start();
    let pid = server.wait_for_workers(1)[0];
    assert!(server.get("/crash").try_response().is_err());
    let report = report(&server, pid);
    assert_has(&report, "Fatal Python error: Segmentation fault");
    assert_has(&report, "in crash");
    server.wait_for_line(&format!("Worker (pid:{pid}) was sent SIGSEGV!"));
}

#[test]
fn a_worker_without_python_tells_its_requests() {
    let server = Rgun::app("builtin:echo").start();
    let pid = server.wait_for_workers(1)[0];
    let mut client = server.connect();
    client.send(b"POST /half?y HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    // Two connections that have no request.
    let mut idle = server.connect();
    assert_eq!(idle.get("/").status(), 200);
    let _fresh = server.connect();
    process::signal(pid, Signal::SIGABRT);
    let report = report(&server, pid);
    assert_has(&report, "Requests in flight: 1");
    assert_has(&report, "  POST /half?y from 127.0.0.1, for ");
    assert_has(&report, "whose body is not here yet");
    server.wait_for_line(&format!("Worker (pid:{pid}) exited with code 1."));
}

#[test]
fn an_exception_is_told_with_the_request_that_raised_it() {
    for driver in DRIVERS {
        let server = stuck(driver).start();
        assert_eq!(server.get("/fail?x=1").response().status(), 500);
        let line = server.wait_for_line("Error handling request");
        assert!(
            line.ends_with("Error handling request GET /fail?x=1:"),
            "{line}"
        );
        server.wait_for_line("Traceback (most recent call last):");
        server.wait_for_line("ValueError: the app is wrong");
    }
}
