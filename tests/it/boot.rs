//! From the command line to the first answer, or to the right exit code.

use std::net::TcpListener;

use crate::harness::{Rgun, Server, patience, secs};

#[test]
fn the_first_lines_are_gunicorns() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let answer = server.get("/").response();
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "hello world!")
    );
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let log = server.log();
    let place = |text: &str| {
        log.iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no {text:?}"))
    };
    let pid = server.pid();
    assert!(place("Starting rgun-async ") < place("Listening at: http://127.0.0.1:"));
    assert!(place("Listening at: ") < place("Using worker: "));
    assert!(place("Using worker: ") < place("Booting worker with pid: "));
    assert!(log[place("Listening at: ")].ends_with(&format!(" ({pid})")));
    // `[2026-11-22 07:03:15 +0000] [pid] [INFO] message`
    let line = &log[place("Starting rgun-async ")];
    let date: String = line
        .chars()
        .take(28)
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert_eq!(date.replace('-', "+"), "[9999+99+99 99:99:99 +9999] ");
    assert!(
        line[28..].starts_with(&format!("[{pid}] [INFO] Starting")),
        "{line}"
    );
    assert_eq!(server.booted().len(), 2);
}

#[test]
fn a_python_app_is_served_and_lives_in_the_workers_alone() {
    let server = Rgun::app("hello:app").workers(2).start();
    assert_eq!(server.get("/").response().text(), "hello world!");
}

#[test]
fn only_errors_are_logged_when_only_errors_are_asked_for() {
    let port = crate::harness::tools::free_port();
    let server = Rgun::app("builtin:hello")
        .bind(format!("127.0.0.1:{port}"))
        .log_level("error")
        .spawn();
    let address = crate::harness::Address::Tcp(([127, 0, 0, 1], port).into());
    crate::harness::until("it answers", patience(), || {
        crate::harness::Client::try_connect(&address)
            .is_ok_and(|mut client| client.try_get("/").is_ok())
    });
    assert_eq!(server.log(), Vec::<String>::new());
}

/// It ends with `code` after saying each of `words` on standard error.
#[track_caller]
fn refuses(server: &Server, code: i32, words: &[&str]) {
    server.assert_exits(code).within(secs(30));
    let said = server.log().join("\n");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn a_flag_that_does_not_exist_is_exit_2() {
    refuses(
        &Rgun::app("builtin:hello").arg("--wokers=3").spawn(),
        2,
        &["--wokers", "--workers"],
    );
}

#[test]
fn no_app_is_an_error_that_says_so() {
    let server = Rgun::bare().spawn();
    refuses(&server, 1, &["app"]);
    assert_eq!(server.count_lines("Booting worker"), 0);
}

#[test]
fn a_bad_value_is_exit_1_and_names_its_flag() {
    refuses(
        &Rgun::app("builtin:hello")
            .args(["--timeout", "soon"])
            .spawn(),
        1,
        &["timeout", "soon"],
    );
}

#[test]
fn all_mistakes_are_told_at_once_each_with_the_nearest_name() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.write(
        "rgun.toml",
        "wokers = 9\ntimeout = \"soon\"\nkeepaliv = 3\n",
    );
    let file = file.to_str().expect("a temporary path is UTF-8").to_owned();
    let server = rgun
        .args(["-c", &file, "--graceful-timeout", "never"])
        .spawn();
    refuses(
        &server,
        1,
        &[
            "wokers",
            "workers",
            "timeout",
            "soon",
            "keepaliv",
            "keepalive",
            "graceful",
            "never",
            "rgun.toml",
        ],
    );
    assert_eq!(server.count_lines("Booting worker"), 0);
    assert_eq!(server.count_lines("Listening at"), 0);
}

#[test]
fn an_unreadable_file_is_exit_1() {
    let server = Rgun::app("builtin:hello")
        .args(["-c", "/does/not/exist.toml"])
        .spawn();
    refuses(&server, 1, &["/does/not/exist.toml"]);
}

#[test]
fn a_busy_port_is_gunicorns_sentence_and_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let server = Rgun::app("builtin:hello")
        .bind(format!("127.0.0.1:{port}"))
        .spawn();
    refuses(
        &server,
        1,
        &[&format!("Connection in use: ('127.0.0.1', {port})")],
    );
    assert_eq!(server.count_lines("Booting worker"), 0);
}

#[test]
fn a_port_that_frees_itself_within_the_tries_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let server = Rgun::app("builtin:hello")
        .bind(format!("127.0.0.1:{port}"))
        .spawn();
    server.wait_for_line("Connection in use: ");
    drop(taken);
    server.wait_ready(1);
    assert_eq!(server.get("/").response().status(), 200);
}

#[test]
fn an_app_that_fails_to_import_stops_the_master_with_3_and_a_traceback() {
    for workers in [1, 4] {
        let server = Rgun::app("bad_import:app").workers(workers).spawn();
        refuses(
            &server,
            3,
            &[
                "Traceback (most recent call last)",
                "bad_import.py",
                "ModuleNotFoundError: No module named 'a_module_that_does_not_exist'",
                "Worker failed to boot.",
            ],
        );
        assert!(server.worker_pids().is_empty(), "no worker is left");
    }
}

#[test]
fn an_app_that_raises_or_does_not_compile_is_3() {
    refuses(
        &Rgun::app("raises:app").workers(3).spawn(),
        3,
        &["RuntimeError: the app refuses to start"],
    );
    refuses(
        &Rgun::app("bad_syntax:app").spawn(),
        3,
        &["SyntaxError", "bad_syntax.py"],
    );
}

#[test]
fn a_module_that_does_not_exist_is_3() {
    refuses(
        &Rgun::app("no_such_module:app").spawn(),
        3,
        &["ModuleNotFoundError: No module named 'no_such_module'"],
    );
}

#[test]
fn an_attribute_that_does_not_exist_is_4_with_any_number_of_workers() {
    for workers in [1, 2, 5] {
        let server = Rgun::app("hello:no_such_app").workers(workers).spawn();
        refuses(&server, 4, &["no_such_app", "App failed to load."]);
        assert!(server.worker_pids().is_empty(), "no worker is left");
    }
}

#[test]
fn an_app_that_cannot_be_called_is_4() {
    refuses(
        &Rgun::app("factory:not_callable").spawn(),
        4,
        &["App failed to load."],
    );
}

#[test]
fn an_app_that_ends_its_process_at_boot_stops_the_master() {
    for workers in [1, 3] {
        let server = Rgun::app("aborts:app").workers(workers).spawn();
        refuses(&server, 3, &["was sent SIGABRT!"]);
        assert!(server.worker_pids().is_empty(), "no worker is left");
    }
}

#[test]
fn a_pidfile_is_written_and_removed() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.directory().join("server.pid");
    let server = rgun.arg("-p").arg(&file).start();
    let text = std::fs::read_to_string(&file).expect("the pidfile");
    assert_eq!(text.trim(), server.pid().to_string());
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert!(!file.exists());
}

#[test]
fn a_pidfile_of_a_live_process_is_refused() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.write("server.pid", &format!("{}\n", std::process::id()));
    let server = rgun.arg("-p").arg(&file).spawn();
    refuses(&server, 1, &["server.pid", &std::process::id().to_string()]);
    assert!(file.exists(), "it is not ours to remove");
}

#[test]
fn check_config_starts_nothing() {
    let server = Rgun::app("builtin:hello").arg("--check-config").spawn();
    server.assert_exits(0).within(patience());
    assert_eq!(server.count_lines("Listening at"), 0);
    refuses(
        &Rgun::app("builtin:hello")
            .args(["--check-config", "--workers", "many"])
            .spawn(),
        1,
        &["workers", "many"],
    );
}

#[test]
fn check_config_loads_the_app_too() {
    Rgun::app("hello:app")
        .arg("--check-config")
        .spawn()
        .assert_exits(0)
        .within(patience());
    let server = Rgun::app("bad_import:app").arg("--check-config").spawn();
    refuses(&server, 1, &["a_module_that_does_not_exist"]);
}

#[test]
fn print_config_tells_each_value_and_where_it_came_from() {
    let rgun = Rgun::app("builtin:hello");
    let file = rgun.write("rgun.toml", "workers = 7\ntimeout = 11\nkeepalive = 5\n");
    let server = rgun
        .arg("-c")
        .arg(&file)
        .args(["--print-config", "--timeout", "12"])
        .env("RGUN_CMD_ARGS", "--keep-alive 9 --timeout 13")
        .env("WEB_CONCURRENCY", "3")
        .spawn();
    server.assert_exits(0).within(patience());
    let said = [server.output(), server.log()].concat();
    let value = |name: &str| {
        said.iter()
            .find(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
            })
            .unwrap_or_else(|| panic!("no {name} in {said:#?}"))
    };
    // Command line over RGUN_CMD_ARGS over the file over the environment's defaults.
    assert!(value("timeout").contains("12"), "{}", value("timeout"));
    assert!(value("keepalive").contains('9'), "{}", value("keepalive"));
    assert!(value("workers").contains('7'), "{}", value("workers"));
    assert!(
        value("workers").contains("rgun.toml"),
        "{}",
        value("workers")
    );
    assert!(value("backlog").contains("2048"), "{}", value("backlog"));
}

#[test]
fn web_concurrency_and_port_are_heeded() {
    let port = crate::harness::tools::free_port();
    let server = Rgun::app("builtin:hello")
        .env("WEB_CONCURRENCY", "3")
        .args(["--check-config", "--print-config"])
        .env("PORT", port.to_string())
        .spawn();
    server.assert_exits(0).within(patience());
    let said = [server.output(), server.log()].concat().join("\n");
    assert!(
        said.lines()
            .any(|line| line.starts_with("workers") && line.contains('3')),
        "{said}"
    );
}
