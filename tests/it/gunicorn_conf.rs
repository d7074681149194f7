//! `gunicorn.conf.py`: files of the kinds that are in use, each with the real server and what is to be seen of it.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::rgun::pid_after;
use crate::harness::{Address, Client, Rgun, Server, apps, patience, secs, until};

/// One of `tests/apps/gunicorn_confs`.
fn conf(name: &str) -> PathBuf {
    apps().join("gunicorn_confs").join(format!("{name}.py"))
}

fn with(app: &str, name: &str) -> Rgun {
    Rgun::app(app).arg("-c").arg(conf(name))
}

/// In the directory of the server itself, where its files are found without being named.
fn at_home(rgun: Rgun) -> Rgun {
    let home = rgun.directory();
    let script = format!("cd '{}'; exec \"$@\"", home.display());
    rgun.wrapped(["sh", "-c", &script, "sh"])
}

fn text(server: &Server, path: &str) -> String {
    server.get(path).response().text()
}

#[test]
fn a_file_that_computes_everything_from_the_environment() {
    let rgun = with("hello:app", "from_environment").configured_for(3);
    let access = rgun.directory().join("access.log");
    let server = rgun
        .env("CONCURRENCY", "3")
        .env("TIMEOUT", "77")
        .env("ACCESS_LOG", &access)
        .start();
    let summary = server.wait_for_output("\"workers\": 3", 1);
    assert!(summary[0].contains("\"timeout\": 77"), "{summary:?}");
    server.get("/seen").response();
    until("the access log has the request", patience(), || {
        fs::read_to_string(&access).is_ok_and(|log| log.contains("GET /seen"))
    });
    assert_eq!(server.count_lines("is no setting"), 0);
    assert_eq!(server.count_lines("[WARNING]"), 0);
    let unfit = with("hello:app", "from_environment")
        .env("CONCURRENCY", "0")
        .spawn();
    unfit.assert_exits(1).within(patience());
    assert_eq!(unfit.count_lines("AssertionError"), 1);
    assert!(
        unfit.count_lines("assert web_concurrency > 0") == 1,
        "the line of the file"
    );
}

#[test]
fn a_long_file_that_says_mostly_what_is_so_anyway() {
    let server = with("hello:app", "everything_off")
        .configured_for(2)
        .spawn();
    server.wait_for_line("Listening at: ");
    assert_eq!(text(&server, "/"), "hello world!");
    let warnings: Vec<_> = server
        .log()
        .into_iter()
        .filter_map(|line| Some(line.split_once("[WARNING] ")?.1.to_owned()))
        .collect();
    assert_eq!(
        warnings,
        [
            "gunicorn.conf.py: loglevel = \"warn\" is no level: info counts, as in Gunicorn; did you mean warning?",
            "gunicorn.conf.py: limit_request_line = 8192 is too much: 8190 counts, as in Gunicorn",
        ]
        .map(|line| line.replacen(
            "gunicorn.conf.py",
            &conf("everything_off").display().to_string(),
            1
        ))
    );
}

#[test]
fn every_point_of_a_servers_life_is_told() {
    let server = with("hello:app", "lifecycle").start();
    server.get("/").response();
    let master = server.pid();
    server.signal(Signal::SIGTTIN);
    server.wait_for_line("hook nworkers_changed: from 1 to 2");
    server.wait_ready(2);
    server.signal(Signal::SIGHUP);
    server.wait_for_line("hook on_reload: 1 workers");
    server.wait_for_lines("hook child_exit: ", 2);
    let last = server.wait_for_workers(1)[0];
    server.signal(Signal::SIGINT);
    server.assert_exits(0).within(secs(10));
    let hooks: Vec<_> = server
        .log()
        .into_iter()
        .filter_map(|line| {
            let (stamp, hook) = line.split_once("[INFO] hook ")?;
            let own = stamp.contains(&format!("[{master}]"));
            Some((own, hook.to_owned()))
        })
        .collect();
    let of_master: Vec<_> = hooks
        .iter()
        .filter(|(own, _)| *own)
        .map(|(_, hook)| hook)
        .collect();
    let port = server.port();
    let first = server.booted()[0];
    for (at, start) in [
        (0, "nworkers_changed: from None to 1".to_owned()),
        (1, "on_starting: 1 workers on [('127.0.0.1', 0)]".to_owned()),
        (2, format!("when_ready: http://127.0.0.1:{port}, hello:app")),
        (3, "pre_fork: <Worker [booting]> of age 1".to_owned()),
        (4, "nworkers_changed: from 1 to 2".to_owned()),
        (5, "pre_fork: <Worker [booting]> of age 2".to_owned()),
        (6, "nworkers_changed: from 2 to 1".to_owned()),
        (7, "on_reload: 1 workers".to_owned()),
        (8, "pre_fork: <Worker [booting]> of age 3".to_owned()),
    ] {
        assert_eq!(of_master[at], &start, "{of_master:#?}");
    }
    assert_eq!(
        of_master.last().map(|hook| hook.as_str()),
        Some("on_exit: 0 workers left")
    );
    assert_eq!(
        of_master[of_master.len() - 2],
        &format!("child_exit: {last}, marked by {master}, 0 left")
    );
    let of_workers: Vec<_> = hooks
        .iter()
        .filter(|(own, _)| !own)
        .map(|(_, hook)| hook)
        .collect();
    for line in [
        format!("post_fork: (pid: {first}) of {master}"),
        format!("post_worker_init: {first} serves app"),
        format!("worker_exit: {first} after 1 requests"),
        format!("worker_exit: {last} after 0 requests"),
    ] {
        assert!(of_workers.contains(&&line), "{line}: {of_workers:#?}");
    }
    let interrupted = |line: &&&String| line.starts_with("worker_int: ");
    assert_eq!(of_workers.iter().filter(interrupted).count(), 1);
}

#[test]
fn a_worker_that_hangs_is_told_of_its_end() {
    for driver in ["sync", "gevent"] {
        let server = with("wsgi:app", "lifecycle")
            .args(["-k", driver, "-t", "4"])
            .start();
        let worker = server.worker_pids()[0];
        let _stuck = server.get("/spin").in_background();
        server.wait_for_line(&format!("hook worker_abort: {worker}"));
        server.wait_for_line(&format!("hook worker_exit: {worker}"));
        server.wait_for_line(&format!("hook child_exit: {worker}"));
        server.wait_for_line("WORKER TIMEOUT");
        server.wait_for_line("hook pre_fork: <Worker [booting]> of age 2");
    }
}

#[test]
fn an_upgrade_is_told_before_it_happens() {
    let server = with("hello:app", "lifecycle").start();
    server.signal(Signal::SIGUSR2);
    server.wait_for_line("hook pre_exec: forked child, re-executing.");
    server.wait_for_lines("hook when_ready: ", 2);
}

#[test]
fn prometheus_forgets_the_gauges_of_workers_that_ended() {
    let rgun = with("gauge:app", "prometheus");
    let metrics = rgun.directory().join("metrics");
    fs::create_dir(&metrics).expect("a directory");
    fs::write(metrics.join("gauge_livesum_1.db"), "old").expect("a file");
    let server = rgun.expecting(2).env("METRICS", &metrics).start();
    assert!(
        text(&server, "/").contains("workers_alive 2.0"),
        "{}",
        text(&server, "/")
    );
    let victim = server.worker_pids()[0];
    crate::harness::process::signal(victim, Signal::SIGKILL);
    server.wait_for_line(&format!("forgot the gauges of {victim}"));
    server.wait_ready(3);
    assert!(
        text(&server, "/").contains("workers_alive 2.0"),
        "{}",
        text(&server, "/")
    );
}

#[test]
fn a_thread_of_the_master_serves_a_port_of_its_own() {
    let server = with("hello:app", "metrics_port").expecting(2).start();
    let line = server.wait_for_line("metrics at ");
    let port = pid_after(&line, "http://127.0.0.1:").expect("a port");
    let address = Address::of_url(&format!("http://127.0.0.1:{port}"));
    assert_eq!(Client::connect(&address).get("/").text(), "workers 2\n");
    assert_eq!(text(&server, "/"), "hello world!");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
}

#[test]
fn requests_are_timed_numbered_and_refused_by_hooks_in_every_driver() {
    for driver in ["sync", "gevent", "gthread"] {
        let server = with("wsgi:app", "request_times")
            .args(["-k", driver])
            .start();
        let seen = server.get("/environ?a=1").response().json();
        assert_eq!(seen["environ"]["HTTP_X_REQUEST_ID"], "1-1", "{driver}");
        server.wait_for_line("request 1: GET /environ?a=1 from 127.0.0.1: 200 OK, ");
        server.get("/health").response();
        assert_eq!(text(&server, "/chunks"), "one two three");
        server.wait_for_line("request 3: GET /chunks? from 127.0.0.1: 200 OK, 13 bytes");
        assert_eq!(text(&server, "/write"), "written, twice, then returned");
        server.wait_for_line("request 4: GET /write? from 127.0.0.1: 200 OK, 29 bytes");
        server.get("/sleep?ms=50").response();
        let slept = server.wait_for_line("request 5: GET /sleep?ms=50");
        let (_, took) = slept.rsplit_once(", ").expect("a time at the end");
        assert!(
            took.trim_end_matches(" ms")
                .parse::<u32>()
                // An event loop counts from the start of its turn.
                .is_ok_and(|ms| ms >= 40),
            "{slept}"
        );
        assert_eq!(server.get("/refused").response().status(), 500);
        server.wait_for_line("PermissionError: not this one");
        server.wait_for_line("request 6: GET /refused? from 127.0.0.1: None, 0 bytes");
        server.get("/bad-hook").response();
        server.wait_for_line("Exception in post_request hook");
        server.wait_for_line("ValueError: the hook's own");
        assert_eq!(server.count_lines("/health"), 0, "{driver}");
        assert_eq!(server.booted().len(), 1, "{driver}");
    }
}

#[test]
fn requests_of_an_asgi_app_have_their_hooks_in_its_loop() {
    // By the clock: uvloop's timers count whole milliseconds from the start of its turn, so one of 50 ms may take 49.
    let app = "import asyncio, time\n\
        async def app(scope, receive, send):\n\
        \x20   if scope['type'] != 'http': raise RuntimeError('http alone')\n\
        \x20   began = time.monotonic()\n\
        \x20   while time.monotonic() < began + 0.05: await asyncio.sleep(0.01)\n\
        \x20   await send({'type': 'http.response.start', 'status': 201, 'headers': []})\n\
        \x20   await send({'type': 'http.response.body', 'body': b'made ', 'more_body': True})\n\
        \x20   await send({'type': 'http.response.body', 'body': b'new'})\n";
    for preload in [false, true] {
        let rgun = with("made:app", "request_times");
        rgun.write("made.py", app);
        let home = rgun.directory();
        let rgun = if preload { rgun.arg("--preload") } else { rgun };
        let server = rgun.chdir(home).args(["-k", "asgi"]).start();
        assert_eq!(text(&server, "/a?b=c"), "made new");
        let line = server.wait_for_line("request 1: GET /a?b=c from 127.0.0.1: 201, 8 bytes, ");
        let (_, took) = line.rsplit_once(", ").expect("a time at the end");
        assert!(
            took.trim_end_matches(" ms")
                .parse::<u32>()
                .is_ok_and(|ms| ms >= 50),
            "{line}"
        );
        assert_eq!(server.get("/refused").response().status(), 500);
        server.wait_for_line("PermissionError: not this one");
        server.get("/bad-hook").response();
        server.wait_for_line("Exception in post_request hook");
        assert_eq!(server.count_lines("request 1: "), 1);
    }
}

#[test]
fn a_worker_that_has_grown_is_let_go_by_a_hook() {
    for driver in ["sync", "gevent", "gthread"] {
        let server = with("wsgi:app", "watchdog")
            .args(["-k", driver])
            .env("LIMIT", "3")
            .start();
        let first = text(&server, "/pid");
        for _ in 0..3 {
            server.get("/pid").response();
        }
        // A thread may see the count of its own request a moment late.
        server.wait_for_line(&format!("worker {first} has grown: leaving after "));
        server.wait_ready(2);
        until("another worker serves", patience(), || {
            text(&server, "/pid") != first
        });
        server.wait_for_line(&format!("Worker exiting (pid: {first})"));
    }
}

#[test]
fn the_apps_loggers_are_as_the_file_configures_them() {
    let server = with("shop_logs:app", "json_logs").start();
    server.get("/7").response();
    let line = server.wait_for_output("order", 1).remove(0);
    assert_eq!(
        line,
        r#"{"logger": "shop.orders", "level": "DEBUG", "text": "order /7"}"#
    );
    let line = server.wait_for_output("worker is ready", 1).remove(0);
    assert!(
        line.starts_with(r#"{"logger": "gunicorn.error", "level": "INFO""#),
        "{line}"
    );
    server.wait_for_line(
        "logger_class does nothing: the server's logs are not written by Python",
    );
}

#[test]
fn files_tell_others_that_the_server_is_there_and_its_workers_are_gone() {
    let rgun = with("hello:app", "marker_files");
    let marks = rgun.directory();
    let server = rgun.env("PLACE", &marks).start();
    assert!(marks.join("app-initialized").exists());
    server.get("/").response();
    let worker = server.worker_pids()[0];
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
    assert_eq!(
        fs::read_to_string(marks.join(format!("worker-{worker}")))
            .ok()
            .as_deref(),
        Some("1")
    );
    assert!(!marks.join("app-initialized").exists());
}

#[test]
fn a_file_may_import_of_gunicorn_what_is_not_installed() {
    let server = with("hello:app", "with_gunicorns_classes").start();
    assert_eq!(text(&server, "/"), "hello world!");
    server.wait_for_line(
        "gunicorn is not installed: what the configuration file imports of it has no effect",
    );
    server.wait_for_line("logger_class does nothing");
}

#[test]
fn a_preloaded_apps_connections_are_made_anew_in_each_worker() {
    let rgun = with("pool:app", "own_connections");
    let database = rgun.directory().join("hits.db");
    let server = rgun.expecting(2).env("DATABASE", &database).start();
    let answer = text(&server, "/");
    let (owner, process) = answer.split_once(' ').expect("two numbers");
    assert_eq!(owner, process);
    assert_ne!(owner, server.pid().to_string());
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
    assert_eq!(server.count_lines("has closed its pool"), 2);
}

#[test]
fn a_file_is_found_by_itself_and_read_again_at_a_reload() {
    let rgun = Rgun::app("hello:app").configured_for(1);
    let file =
        "bind = '127.0.0.1:0'\nloglevel = 'debug'\nimport helper\nworkers = helper.WORKERS\n";
    rgun.write("helper.py", "WORKERS = 1");
    let path = rgun.write("gunicorn.conf.py", file);
    let server = at_home(rgun).start();
    let broken = "bind = '127.0.0.1:0'\nloglevel = 'debug'\nworkers = 1 / 0\n";
    fs::write(&path, broken).expect("the file is ours");
    server.signal(Signal::SIGHUP);
    server.wait_for_line("Reload failed, nothing has changed");
    server.wait_for_line("ZeroDivisionError: division by zero");
    assert_eq!(text(&server, "/"), "hello world!");
    // Of the same length, within the same second.
    fs::write(&path, broken.replace("1 / 0", "1 + 1")).expect("the file is ours");
    server.signal(Signal::SIGHUP);
    server.wait_ready(3);
    server.wait_for_workers(2);
}

#[test]
fn modules_are_configurations_too_and_gunicorns_variable_names_them() {
    let rgun = Rgun::app("hello:app").configured_for(2);
    rgun.write(
        "settings.py",
        "bind = '127.0.0.1:0'\nloglevel = 'debug'\nworkers = 7\nthreads = 1\n",
    );
    let server = at_home(rgun)
        .env(
            "GUNICORN_CMD_ARGS",
            "-c python:settings --workers 2 --name 'my shop'",
        )
        .start();
    assert_eq!(text(&server, "/"), "hello world!");
    assert_eq!(server.wait_for_workers(2).len(), 2);
}

#[test]
fn a_file_that_fails_is_told_with_its_traceback_and_exit_1() {
    for (file, told) in [
        (
            "import no_such_module\n",
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("workers = (\n", "SyntaxError"),
        (
            "raise SystemExit('not today')\n",
            "it has left by sys.exit(not today)",
        ),
        (
            "def post_fork(server): pass\n",
            "post_fork must have 2 arguments, not 1",
        ),
        ("workers = 'many'\n", "must be a whole number"),
        (
            "keyfile = 'key.pem'\n",
            "is the key of a certfile, which is not there",
        ),
    ] {
        let rgun = Rgun::app("hello:app");
        let path = rgun.write("conf.py", file);
        let server = rgun.arg("-c").arg(path).spawn();
        server.assert_exits(1).within(patience());
        assert!(server.count_lines(told) > 0, "{told}: {:#?}", server.log());
        assert!(server.count_lines("conf.py") > 0, "{:#?}", server.log());
    }
}

#[test]
fn misspelt_names_and_missing_settings_are_told() {
    let rgun = Rgun::app("hello:app");
    let path = rgun.write(
        "conf.py",
        "wokers = 3\nstatsd_host = 'localhost:8125'\nspew = False\ndef post_forc(server, worker): pass\nport = 1\n",
    );
    let server = rgun.arg("-c").arg(path).start();
    server.wait_for_line("conf.py: wokers is no setting and is ignored; did you mean workers?");
    server.wait_for_line(
        "conf.py: post_forc is no setting and is ignored; did you mean post_fork?",
    );
    server.wait_for_line("conf.py: statsd_host is not here yet: no StatsD metrics are sent");
    assert_eq!(server.count_lines("[WARNING]"), 3);
}

#[test]
fn flasks_logger_writes_into_our_error_log_at_our_level() {
    let rgun = Rgun::app("flask_logs:app").log_level("info");
    let log = rgun.directory().join("error.log");
    let server = rgun.arg("--error-logfile").arg(&log).spawn();
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    until("it listens", patience(), || {
        lines().contains("Listening at: ")
    });
    let line = lines()
        .lines()
        .find(|line| line.contains("Listening at: "))
        .expect("it is there")
        .to_owned();
    let port = pid_after(&line, "http://127.0.0.1:").expect("a port");
    let mut client = Client::connect(&Address::of_url(&format!("http://127.0.0.1:{port}")));
    assert_eq!(client.get("/").text(), "sold");
    assert_eq!(client.get("/fails").status(), 500);
    until("the log has it", patience(), || {
        lines().contains("ValueError: out of stock")
    });
    let text = lines();
    assert!(text.contains("] [INFO] sold 3\n"), "{text}");
    assert!(text.contains("] [WARNING] nearly out of stock\n"), "{text}");
    assert!(
        text.contains("] [ERROR] Exception on /fails [GET]\n"),
        "{text}"
    );
    assert!(
        !text.contains("a detail") && !text.contains("nobody hears this"),
        "{text}"
    );
    drop(server);
}

#[test]
fn an_app_without_logging_is_not_given_any() {
    let rgun = Rgun::app("quiet:app");
    rgun.write(
        "quiet.py",
        "import sys\n\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [str('logging' in sys.modules).encode()]\n",
    );
    let home = rgun.directory();
    let server = rgun.chdir(home).args(["-k", "sync"]).start();
    assert_eq!(text(&server, "/"), "False");
}

#[test]
fn a_reload_under_load_loses_no_request_when_the_file_has_hooks() {
    let server = with("wsgi:app", "request_times")
        .workers(2)
        .arg("-k")
        .arg("gevent")
        .start();
    let hammer = crate::harness::Hammer::start(&server, "/pid", 4);
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    server.wait_for_lines("Worker exiting (pid: ", 2);
    let tally = hammer.stop();
    assert!(tally.failures.is_empty() && tally.good > 0, "{tally:?}");
}

#[test]
fn logging_is_configured_by_files_too() {
    let json = r#"{"formatters": {"short": {"format": "json: %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short", "stream": "ext://sys.stdout"}},
        "root": {"level": "DEBUG", "handlers": ["console"]}, "loggers": {}}"#;
    let ini = "[loggers]\nkeys=root\n[handlers]\nkeys=console\n[formatters]\nkeys=short\n\
        [logger_root]\nlevel=DEBUG\nhandlers=console\n\
        [handler_console]\nclass=StreamHandler\nformatter=short\nargs=(sys.stdout,)\n\
        [formatter_short]\nformat=ini: %(message)s\n";
    for (flag, kind, text) in [
        ("--log-config-json", "json", json),
        ("--log-config", "ini", ini),
    ] {
        let rgun = Rgun::app("shop_logs:app");
        let path = rgun.write(kind, text);
        let server = rgun.arg(flag).arg(path).start();
        server.get("/7").response();
        server.wait_for_output(&format!("{kind}: order /7"), 1);
    }
    let missing = Rgun::app("shop_logs:app")
        .args(["--log-config", "/no/such.ini"])
        .spawn();
    missing.assert_exits(3).within(patience());
    assert_eq!(
        missing.count_lines("log config '/no/such.ini' not found"),
        1
    );
}

#[test]
fn long_bodies_go_where_the_file_says() {
    let rgun = Rgun::app("where:app");
    let home = rgun.directory();
    rgun.write(
        "where.py",
        "import os\n\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    \
         return [os.readlink(f'/proc/self/fd/{environ[\"wsgi.input\"].fileno()}').encode()]\n",
    );
    let path = rgun.write(
        "conf.py",
        &format!("tmp_upload_dir = {:?}\n", home.display().to_string()),
    );
    let server = rgun
        .chdir(&home)
        .args(["-k", "sync", "-c"])
        .arg(path)
        .start();
    let body = "x".repeat(2 << 20);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let place = server.connect().ask(request).text();
    assert!(place.starts_with(&home.display().to_string()), "{place}");
}

#[test]
fn a_worker_class_of_ones_own_is_served_as_what_it_is_made_of() {
    let rgun = Rgun::app("hello:app");
    let path = rgun.write(
        "conf.py",
        "class ThreadWorker: pass\nclass Mine(ThreadWorker): pass\nworker_class = Mine\nthreads = 2\n",
    );
    let server = rgun.arg("-c").arg(path).start();
    server.wait_for_line("Using worker: gthread");
    server.wait_for_line(
        "worker_class __config__.Mine is served as ThreadWorker: what it adds is not run",
    );
    let rgun = Rgun::app("hello:app");
    let path = rgun.write("conf.py", "worker_class = 'no.such.Worker'\n");
    let server = rgun.arg("-c").arg(path).start();
    server.wait_for_line(
        "worker_class = \"no.such.Worker\" is no class of ours and is not run: auto counts",
    );
    assert_eq!(text(&server, "/"), "hello world!");
}

#[test]
fn a_daemon_keeps_its_streams_where_it_is_told_to() {
    let rgun = Rgun::app("builtin:hello");
    let path = rgun.write(
        "conf.py",
        "daemon = True\nenable_stdio_inheritance = True\n",
    );
    let server = rgun.arg("-c").arg(path).spawn();
    server.assert_exits(0).within(patience());
    let line = server.wait_for_line("Listening at: ");
    let (_, pid) = line.rsplit_once('(').expect("the pid stands at the end");
    let daemon: i32 = pid.trim_end_matches(')').parse().expect("a number");
    assert_ne!(daemon, server.pid());
    assert_eq!(text(&server, "/"), "hello world!");
    crate::harness::process::signal(daemon, Signal::SIGTERM);
    server.wait_for_line("Shutting down: Master");
    until("the daemon has ended", patience(), || {
        !crate::harness::process::alive(daemon)
    });
}
