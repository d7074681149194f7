//! Each signal to the master and to a worker, as Gunicorn's documentation tells it.

use std::fs;
use std::io::Read;

use nix::sys::signal::Signal;

use crate::harness::rgun::pid_after;
use crate::harness::{
    Client, Hammer, Rgun, Server, answer, millis, patience, process, secs, until,
};

/// A request that is inside the app, and stays there until `let_go`.
struct Held {
    request: crate::harness::InBackground,
    file: std::path::PathBuf,
}

impl Held {
    fn by(server: &Server, name: &str) -> Self {
        let file = server.directory().join(name);
        let request = server
            .get(&format!("/wait-for-file?{}", file.display()))
            .in_background();
        let here = server.directory().join(format!("{name}.here"));
        until("the request is in the app", patience(), || here.exists());
        Self { request, file }
    }

    fn let_go(self) -> crate::harness::InBackground {
        fs::write(&self.file, "").expect("the directory takes files");
        self.request
    }
}

#[test]
fn term_lets_running_requests_finish() {
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("wsgi:app")
            .args(["-k", driver])
            .workers(2)
            .start();
        let held = Held::by(&server, driver);
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Handling signal: term");
        if driver == "gevent" {
            // A worker inside a sync app has the listeners open until it comes back.
            until("nobody listens any more", patience(), || {
                Client::try_connect(&server.address()).is_err()
            });
        }
        assert!(server.is_running());
        let answer = held.let_go().response();
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "seen"),
            "{driver}"
        );
        server.assert_exits(0).within(secs(10));
        server.wait_for_line("Shutting down: Master");
    }
}

#[test]
fn term_closes_idle_connections_at_once() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let mut idle: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut idle[..4] {
        assert_eq!(client.get("/").status(), 200);
    }
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(5));
    for client in &mut idle {
        assert!(client.closes_within(secs(1)));
    }
}

#[test]
fn an_answer_given_while_draining_says_close() {
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    let held = Held::by(&server, "drain");
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    until("nobody listens any more", patience(), || {
        Client::try_connect(&server.address()).is_err()
    });
    assert!(held.let_go().response().says_close());
    server.assert_exits(0).within(secs(10));
}

#[test]
fn the_graceful_timeout_ends_what_does_not_finish() {
    let server = Rgun::app("wsgi:app")
        .args(["--graceful-timeout", "1"])
        .workers(2)
        .start();
    let held = Held::by(&server, "never");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(15));
    assert!(held.request.try_response().is_err(), "the request was cut");
    assert!(server.worker_pids().is_empty());
}

#[test]
fn int_and_quit_stop_quickly() {
    for (signal, name) in [(Signal::SIGINT, "int"), (Signal::SIGQUIT, "quit")] {
        let server = Rgun::app("wsgi:app")
            .args(["-k", "gevent"])
            .workers(3)
            .start();
        let held = Held::by(&server, name);
        server.signal(signal);
        server.assert_exits(0).within(secs(10));
        server.wait_for_line(&format!("Handling signal: {name}"));
        let answer = held.request.try_response();
        assert!(
            answer
                .as_ref()
                .map_or(true, |answer| answer.status() >= 500),
            "a quick stop waits for nobody: {answer:?}"
        );
        assert!(server.worker_pids().is_empty());
    }
}

#[test]
fn int_after_term_does_not_wait_for_the_graceful_timeout() {
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    let _held = Held::by(&server, "held");
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    server.signal(Signal::SIGINT);
    server.assert_exits(0).within(secs(10));
}

/// A directory with an app that says `text`.
fn says(server: &Rgun, text: &str) -> std::path::PathBuf {
    server.write(
        "changing.py",
        &format!(
            "def app(environ, start_response):\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b{text:?}]\n"
        ),
    );
    server.directory()
}

#[test]
fn hup_serves_the_new_code_with_new_workers_and_drops_nobody() {
    let rgun = Rgun::app("changing:app").workers(2);
    let directory = says(&rgun, "old");
    let server = rgun.chdir(&directory).start();
    let old = server.wait_for_workers(2);
    assert_eq!(server.get("/").response().text(), "old");
    let hammer = Hammer::start(&server, "/", 4);
    let code = fs::read_to_string(directory.join("changing.py")).expect("it was written");
    fs::write(directory.join("changing.py"), code.replace("old", "new")).expect("a file");
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    until("the old workers are gone", patience(), || {
        !old.iter().any(|&pid| process::alive(pid))
    });
    assert_eq!(server.get("/").response().text(), "new");
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.good > 0);
    server.wait_for_line("Handling signal: hup");
    server.wait_for_line("Hang up: Master");
    assert_eq!(server.wait_for_workers(2).len(), 2);
}

#[test]
fn hup_reads_the_configuration_again() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.write("rgun.toml", "workers = 1\n");
    let server = rgun.arg("-c").arg(&file).start();
    fs::write(&file, "workers = 3\n").expect("a file");
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    server.wait_for_workers(3);
    // A file that is wrong changes nothing, and is told.
    fs::write(&file, "wokers = 2\n").expect("a file");
    server.signal(Signal::SIGHUP);
    server.wait_for_line("wokers");
    assert_eq!(server.get("/").response().status(), 200);
    assert_eq!(server.wait_for_workers(3).len(), 3);
    fs::write(&file, "workers = 2\n").expect("a file");
    server.signal(Signal::SIGHUP);
    server.wait_ready(6);
    server.wait_for_workers(2);
}

#[test]
fn hup_with_an_app_that_no_longer_loads_keeps_the_server_alive() {
    let rgun = Rgun::app("changing:app");
    let directory = says(&rgun, "works");
    let server = rgun.chdir(&directory).start();
    fs::write(
        directory.join("changing.py"),
        "import no_such_module_here\n",
    )
    .expect("a file");
    server.signal(Signal::SIGHUP);
    server.wait_for_line("no_such_module_here");
    assert!(server.is_running());
    fs::write(
        directory.join("changing.py"),
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n",
    )
    .expect("a file");
    server.signal(Signal::SIGHUP);
    until("the mended app answers", patience(), || {
        server
            .get("/")
            .try_response()
            .is_ok_and(|answer| answer.text() == "mended")
    });
}

#[test]
fn hup_finishes_a_request_of_the_old_code() {
    let server = Rgun::app("wsgi:app").args(["-k", "sync"]).start();
    let held = Held::by(&server, "old");
    server.signal(Signal::SIGHUP);
    server.wait_ready(2);
    assert_eq!(held.let_go().response().text(), "seen");
    server.wait_for_workers(1);
}

#[test]
fn usr1_reopens_the_logs_of_master_and_workers() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let directory = rgun.directory();
    let (error, access) = (directory.join("error.log"), directory.join("access.log"));
    let server = rgun
        .bind("127.0.0.1:0")
        .arg("--error-logfile")
        .arg(&error)
        .arg("--access-logfile")
        .arg(&access)
        .spawn();
    let read = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    let port = answer("the address is logged", patience(), || {
        pid_after(&read(&error), "Listening at: http://127.0.0.1:")
    });
    let address = crate::harness::Address::Tcp(
        ([127, 0, 0, 1], u16::try_from(port).expect("a port")).into(),
    );
    let get = |path: &str| {
        let client = Client::try_connect(&address);
        client.is_ok_and(|mut client| client.try_get(path).is_ok())
    };
    until("it answers", patience(), || get("/before"));
    until("the access log has it", patience(), || {
        read(&access).contains("/before")
    });
    fs::rename(&error, directory.join("error.1")).expect("a rename");
    fs::rename(&access, directory.join("access.1")).expect("a rename");
    server.signal(Signal::SIGUSR1);
    // Both workers must write to the new file; which of them answers is chance.
    until("the logs are new files", patience(), || {
        error.exists() && access.exists()
    });
    let workers: Vec<i32> = read(&directory.join("error.1"))
        .lines()
        .filter_map(|line| pid_after(line, "Booting worker with pid: "))
        .collect();
    assert_eq!(workers.len(), 2);
    for pid in workers {
        until("the worker has reopened", patience(), || {
            process::open_files(pid).contains(&access)
                && !process::open_files(pid).contains(&directory.join("access.1"))
        });
    }
    assert!(get("/after"));
    until("the new access log has it", patience(), || {
        read(&access).contains("/after")
    });
    assert!(!read(&directory.join("access.1")).contains("/after"));
    process::signal(server.pid(), Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert!(read(&error).contains("Shutting down: Master"));
}

#[test]
fn usr2_starts_a_second_master_that_outlives_the_first() {
    let rgun = Rgun::app("hello:app").workers(2);
    let pidfile = rgun.directory().join("server.pid");
    let server = rgun.arg("-p").arg(&pidfile).start();
    let hammer = Hammer::start(&server, "/", 4);
    server.signal(Signal::SIGUSR2);
    server.wait_for_line("Handling signal: usr2");
    // The new master says where it listens: the same address.
    let lines = server.wait_for_lines("Listening at: ", 2);
    let new = pid_after(&lines[1], " (").expect("its pid");
    assert_ne!(new, server.pid());
    assert!(
        lines[1].contains(&format!(":{} ", server.port())),
        "{}",
        lines[1]
    );
    server.wait_ready(4);
    let second = server.directory().join("server.pid.2");
    until("the second pidfile", patience(), || {
        fs::read_to_string(&second).is_ok_and(|text| text.trim() == new.to_string())
    });
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(15));
    until("the pidfile is the new master's", patience(), || {
        fs::read_to_string(&pidfile).is_ok_and(|text| text.trim() == new.to_string())
    });
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.good > 0);
    assert_eq!(server.get("/").response().text(), "hello world!");
    process::signal(new, Signal::SIGTERM);
    until("the new master ends", patience(), || !process::alive(new));
}

#[test]
fn the_new_master_can_be_taken_back() {
    let server = Rgun::app("builtin:hello").start();
    server.signal(Signal::SIGUSR2);
    let lines = server.wait_for_lines("Listening at: ", 2);
    let new = pid_after(&lines[1], " (").expect("its pid");
    server.wait_ready(2);
    let hammer = Hammer::start(&server, "/", 2);
    process::signal(new, Signal::SIGTERM);
    until("the new master ends", patience(), || !process::alive(new));
    let tally = hammer.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert_eq!(server.get("/").response().status(), 200);
    // And it can be tried again.
    server.signal(Signal::SIGUSR2);
    server.wait_for_lines("Listening at: ", 3);
}

#[test]
fn a_second_usr2_is_ignored_while_the_first_upgrade_is_on() {
    let server = Rgun::app("builtin:hello").start();
    server.signal(Signal::SIGUSR2);
    server.wait_ready(2);
    server.signal(Signal::SIGUSR2);
    server.wait_for_lines("Handling signal: usr2", 2);
    server.signal(Signal::SIGTTIN);
    server.wait_for_line("Handling signal: ttin");
    server.wait_ready(3);
    assert_eq!(server.count_lines("Listening at: "), 2);
}

#[test]
fn ttin_and_ttou_are_one_worker_more_and_one_less() {
    let server = Rgun::app("builtin:hello").workers(1).start();
    let first = server.wait_for_workers(1)[0];
    server.signal(Signal::SIGTTIN);
    server.wait_ready(2);
    server.signal(Signal::SIGTTIN);
    server.wait_ready(3);
    server.wait_for_workers(3);
    server.signal(Signal::SIGTTOU);
    let left = server.wait_for_workers(2);
    // Slots are 0 to N-1 (README, "Differences from Gunicorn").
    assert!(left.contains(&first), "the highest slot goes first");
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(1);
    // Never below one.
    server.signal(Signal::SIGTTOU);
    server.wait_for_lines("Handling signal: ttou", 3);
    assert_eq!(server.get("/").response().status(), 200);
    assert_eq!(server.wait_for_workers(1).len(), 1);
}

#[test]
fn winch_is_ignored_in_the_foreground() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let before = server.wait_for_workers(2);
    server.signal(Signal::SIGWINCH);
    server.signal(Signal::SIGTTIN);
    server.wait_ready(3);
    let after = server.wait_for_workers(3);
    assert!(before.iter().all(|pid| after.contains(pid)));
}

#[test]
fn hup_or_usr2_to_a_worker_does_not_kill_it() {
    for app in ["builtin:hello", "wsgi:app"] {
        let server = Rgun::app(app).start();
        let worker = server.wait_for_workers(1)[0];
        for signal in [
            Signal::SIGHUP,
            Signal::SIGUSR2,
            Signal::SIGWINCH,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGPIPE,
        ] {
            process::signal(worker, signal);
            assert_eq!(
                server.get("/").response().status(),
                200,
                "{app} after {signal}"
            );
        }
        assert_eq!(server.worker_pids(), [worker], "{app}");
        assert_eq!(server.booted().len(), 1, "{app}");
    }
}

#[test]
fn usr1_to_a_worker_does_not_kill_it() {
    let server = Rgun::app("wsgi:app").start();
    let worker = server.wait_for_workers(1)[0];
    process::signal(worker, Signal::SIGUSR1);
    assert_eq!(server.get("/").response().status(), 200);
    assert_eq!(server.worker_pids(), [worker]);
}

#[test]
fn term_to_a_worker_finishes_its_requests_and_it_is_replaced() {
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    let worker = server.wait_for_workers(1)[0];
    let held = Held::by(&server, "held");
    process::signal(worker, Signal::SIGTERM);
    // It accepts no more, and nobody else does until it is replaced; so let it go.
    assert_eq!(held.let_go().response().text(), "seen");
    server.wait_ready(2);
    until("the old one is gone", patience(), || {
        !process::alive(worker)
    });
    assert_ne!(server.wait_for_workers(1), [worker]);
    server.wait_for_line(&format!("Worker exiting (pid: {worker})"));
}

#[test]
fn int_and_quit_to_a_worker_end_it_and_it_is_replaced() {
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    for (count, signal) in [Signal::SIGINT, Signal::SIGQUIT].into_iter().enumerate() {
        let worker = server.wait_for_workers(1)[0];
        let _held = Held::by(&server, &format!("held-{count}"));
        process::signal(worker, signal);
        until("it is gone at once", secs(5), || !process::alive(worker));
        server.wait_ready(count + 2);
    }
    assert_eq!(server.get("/").response().status(), 200);
}

#[test]
fn an_interrupt_from_the_terminal_goes_to_all_and_ends_all() {
    let server = Rgun::app("wsgi:app").workers(3).start();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(server.pid()), Signal::SIGINT)
        .expect("the group exists");
    server.assert_exits(0).within(secs(10));
    assert!(server.worker_pids().is_empty());
    // No worker's death was taken for a failure.
    assert_eq!(
        server.count_lines("[ERROR]") + server.count_lines("[CRITICAL]"),
        0
    );
}

#[test]
fn as_pid_1_it_reaps_what_it_did_not_start() {
    let rgun = Rgun::app("wsgi:app").wrapped([
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
    ]);
    let file = rgun.directory().join("let-go");
    // The workers' pids in the log are those of the name space.
    let server = rgun.start();
    let orphan = server
        .get(&format!("/orphan?{}", file.display()))
        .response()
        .text();
    let exists = || server.get(&format!("/exists?{orphan}")).response().text();
    assert_eq!(exists(), "yes");
    fs::write(&file, "").expect("a file");
    until("the orphan is reaped", patience(), || exists() == "no");
    // unshare forks: the server is its child.
    let master = process::children(server.pid())[0];
    process::signal(master, Signal::SIGTERM);
    until("it ends", patience(), || !process::alive(master));
}

#[test]
fn a_stopped_and_continued_master_goes_on() {
    let server = Rgun::app("builtin:hello")
        .args(["--timeout", "2"])
        .workers(2)
        .start();
    let before = server.wait_for_workers(2);
    server.signal(Signal::SIGSTOP);
    until("it is stopped", patience(), || {
        process::state(server.pid()) == Some('T')
    });
    // Past the timeout, so that the master finds every beat old by its own clock when it wakes.
    std::thread::sleep(millis(2500));
    server.signal(Signal::SIGCONT);
    server.signal(Signal::SIGTTIN);
    server.wait_ready(3);
    let after = server.wait_for_workers(3);
    assert!(
        before.iter().all(|pid| after.contains(pid)),
        "live workers were killed"
    );
}

#[test]
fn the_daemon_leaves_and_can_be_stopped_by_its_pidfile() {
    let rgun = Rgun::app("builtin:hello");
    let (pidfile, log) = (
        rgun.directory().join("server.pid"),
        rgun.directory().join("error.log"),
    );
    let server = rgun
        .arg("-D")
        .arg("-p")
        .arg(&pidfile)
        .arg("--error-logfile")
        .arg(&log)
        .spawn();
    server.assert_exits(0).within(patience());
    let mut text = String::new();
    let port = answer("the daemon listens", patience(), || {
        text.clear();
        fs::File::open(&log).ok()?.read_to_string(&mut text).ok()?;
        pid_after(&text, "Listening at: http://127.0.0.1:")
    });
    let pid: i32 = fs::read_to_string(&pidfile)
        .expect("the pidfile")
        .trim()
        .parse()
        .expect("a pid");
    let address = crate::harness::Address::Tcp(
        ([127, 0, 0, 1], u16::try_from(port).expect("a port")).into(),
    );
    assert_eq!(Client::connect(&address).get("/").status(), 200);
    // WINCH takes a daemon's workers away; HUP brings them back.
    process::signal(pid, Signal::SIGWINCH);
    until("no workers", patience(), || {
        process::children(pid).is_empty()
    });
    process::signal(pid, Signal::SIGHUP);
    until("a worker again", patience(), || {
        process::children(pid).len() == 1
    });
    assert_eq!(Client::connect(&address).get("/").status(), 200);
    let text = fs::read_to_string(&log).expect("the log");
    assert_eq!(
        text.matches("Booting worker with pid").count(),
        2,
        "none of the generation that rests comes back"
    );
    process::signal(pid, Signal::SIGTERM);
    until("the daemon ends", patience(), || !process::alive(pid));
    assert!(!pidfile.exists());
}
