//! Server hooks at their limits: what fails in them, what they change, where there is no Python app, or no Python.

use nix::sys::signal::Signal;

use crate::harness::frames::{Frames, frame};
use crate::harness::{Rgun, Server, patience, process, secs, until};

/// The server with these hooks.
fn hooked(app: &str, file: &str) -> Rgun {
    let rgun = Rgun::app(app);
    let path = rgun.write("hooks.py", file);
    rgun.arg("-c").arg(path)
}

/// The end of a server whose hook fails, with its traceback told.
#[track_caller]
fn ends(server: &Server, code: i32) {
    server.assert_exits(code).within(secs(15));
    assert_eq!(
        server.count_lines("ZeroDivisionError: division by zero"),
        1,
        "{:#?}",
        server.log()
    );
    assert!(server.count_lines("hooks.py\", line ") > 0);
}

#[test]
fn a_hook_that_fails_at_the_start_ends_the_server_with_1() {
    for hook in [
        "on_starting(server)",
        "when_ready(server)",
        "nworkers_changed(server, new, old)",
    ] {
        let server = hooked("hello:app", &format!("def {hook}: 1 / 0\n")).spawn();
        ends(&server, 1);
        assert!(server.booted().is_empty(), "{hook}");
    }
}

#[test]
fn a_hook_that_fails_in_the_masters_loop_ends_the_server_with_255() {
    let server = hooked("hello:app", "def pre_fork(server, worker): 1 / 0\n").spawn();
    ends(&server, 255);
    for (hook, signal) in [
        ("on_reload(server)", Signal::SIGHUP),
        (
            "nworkers_changed(server, new, old): 1 / (old is None)\ndef on_reload(server)",
            Signal::SIGTTIN,
        ),
    ] {
        let server = hooked("hello:app", &format!("def {hook}: 1 / 0\n")).start();
        server.signal(signal);
        server.wait_for_line("Unhandled exception in main loop");
        ends(&server, 255);
        assert!(server.wait_for_workers(0).is_empty());
    }
    let server = hooked("hello:app", "def child_exit(server, worker): 1 / 0\n").start();
    process::signal(server.worker_pids()[0], Signal::SIGKILL);
    server.assert_exits(255).within(secs(15));
}

#[test]
fn a_hook_that_fails_in_a_worker_is_a_worker_that_cannot_boot() {
    for hook in ["post_fork(server, worker)", "post_worker_init(worker)"] {
        for driver in ["sync", "gevent", "gthread"] {
            let server = hooked("hello:app", &format!("def {hook}: 1 / 0\n"))
                .args(["-k", driver])
                .spawn();
            ends(&server, 3);
            server.wait_for_line("Exception in worker process");
        }
    }
}

#[test]
fn a_hook_that_fails_at_the_end_is_told() {
    let server = hooked("hello:app", "def worker_exit(server, worker): 1 / 0\n").start();
    server.signal(Signal::SIGTERM);
    ends(&server, 0);
    server.wait_for_line("Exception during worker exit:");
    let server = hooked("hello:app", "def worker_int(worker): 1 / 0\n").start();
    server.signal(Signal::SIGINT);
    ends(&server, 0);
    let server = hooked("hello:app", "def on_exit(server): 1 / 0\n").start();
    server.signal(Signal::SIGTERM);
    ends(&server, 1);
}

#[test]
fn a_hook_may_end_the_server_by_sys_exit() {
    let server = hooked(
        "hello:app",
        "import sys\ndef on_starting(server): sys.exit()\n",
    )
    .spawn();
    server.assert_exits(0).within(patience());
    let server = hooked(
        "hello:app",
        "import sys\ndef on_starting(server): sys.exit('not on a Sunday')\n",
    )
    .spawn();
    server.assert_exits(1).within(patience());
    assert_eq!(server.count_lines("not on a Sunday"), 1);
    assert_eq!(server.count_lines("Traceback"), 0);
}

#[test]
fn a_worker_that_is_not_to_live_is_replaced() {
    for driver in ["sync", "gevent", "gthread"] {
        let file = "import threading\n\
            def post_worker_init(worker):\n\
            \x20   if worker.age == 1: worker.alive = False\n\
            \x20   if worker.age == 2: threading.Timer(0.3, setattr, (worker, 'alive', False)).start()\n";
        let server = hooked("wsgi:app", file).args(["-k", driver]).start();
        server.wait_ready(3);
        until("the third worker alone is left", patience(), || {
            let booted = server.booted();
            server.worker_pids() == booted.last().copied().as_slice() && booted.len() == 3
        });
        assert_eq!(server.get("/pid").response().status(), 200);
        assert_eq!(server.count_lines("exited with code"), 0);
    }
}

#[test]
fn a_long_hook_keeps_its_worker_alive_by_its_heartbeat() {
    let file = "import time\n\
        def post_worker_init(worker):\n\
        \x20   before = worker.tmp.last_update()\n\
        \x20   until = time.monotonic() + 4\n\
        \x20   while time.monotonic() < until:\n\
        \x20       worker.notify()\n\
        \x20       time.sleep(0.1)\n\
        \x20   assert worker.tmp.last_update() > before + 3\n";
    let server = hooked("hello:app", file)
        .args(["-k", "sync", "-t", "2"])
        .start();
    assert_eq!(server.count_lines("WORKER TIMEOUT"), 0);
    assert_eq!(server.booted().len(), 1);
}

/// As in Gunicorn, whose asgi worker has them for HTTP alone.
#[test]
fn request_hooks_are_not_called_for_websockets() {
    let file = "def pre_request(worker, req): worker.log.info('before %s', req.path)\n\
        def post_request(worker, req, environ, resp): worker.log.info('after %s', req.path)\n";
    let server = hooked("websocket:app", file).args(["-k", "asgi"]).start();
    let mut frames = Frames::open(&server, "/echo");
    frames.say("hello");
    frames.hears("hello");
    frames.send(frame(0x88, [0x03, 0xE8]));
    frames.is_closed(1000);
    assert_eq!(server.get("/last").response().text(), "plain");
    server.wait_for_line("after /last");
    assert_eq!(server.count_lines("before "), 1);
    assert_eq!(server.count_lines("after "), 1);
}

#[test]
fn a_hook_sees_every_setting_by_gunicorns_name() {
    let file = "workers = 1\n\
        raw_env = ['COLOUR=blue']\n\
        bind = ['127.0.0.1:0']\n\
        statsd_host = 'stats:8125'\n\
        def when_ready(server):\n\
        \x20   cfg = server.cfg\n\
        \x20   import os\n\
        \x20   facts = (cfg.workers, cfg.timeout, cfg.env, os.environ['COLOUR'], cfg.statsd_host,\n\
        \x20       cfg.certfile, cfg.limit_request_line, cfg.websocket_max_message_size,\n\
        \x20       cfg.secure_scheme_headers['X-FORWARDED-SSL'], cfg.forwarded_allow_ips, cfg.uid == os.geteuid(),\n\
        \x20       cfg.is_ssl, cfg.proc_name, cfg.settings['workers'].get(), len(server.LISTENERS),\n\
        \x20       server.LISTENERS[0].getsockname()[0], server.pid == os.getpid(), cfg.umask, cfg.keepalive)\n\
        \x20   server.log.info('facts %s', facts)\n\
        \x20   server.log.info('settings %d', len(cfg.settings))\n\
        \x20   try: cfg.nonsense\n\
        \x20   except AttributeError as error: server.log.info('%s', error)\n";
    let server = hooked("hello:app", file)
        .args(["-t", "31", "--umask", "022"])
        .start();
    let line = server.wait_for_line("facts ");
    let expected = "(1, 31, {'COLOUR': 'blue'}, 'blue', 'stats:8125', None, 4094, 16777216, 'on', \
        ['127.0.0.1', '::1'], True, False, 'hello:app', 1, 1, '127.0.0.1', True, 18, 2)";
    assert!(line.ends_with(expected), "{line}");
    server.wait_for_line("No configuration setting for: nonsense");
    let line = server.wait_for_line("settings ");
    let count: usize = line
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!(count > 120, "{line}");
}

#[test]
fn a_built_in_app_may_have_hooks() {
    let server = hooked(
        "builtin:hello",
        "def post_worker_init(worker): worker.log.info('it is %s', worker)\ndef on_exit(server): server.log.info('bye')\n",
    )
    .start();
    let worker = server.worker_pids()[0];
    server.wait_for_line(&format!("it is <Worker {worker}>"));
    assert_eq!(server.get("/").response().text(), "hello world!");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
    server.wait_for_line("bye");
}

#[test]
fn a_rust_program_refuses_a_python_file() {
    let rgun = Rgun::example("hyper");
    let path = rgun.write("conf.py", "workers = 1\n");
    let server = rgun.arg("-c").arg(path).spawn();
    server.assert_exits(1).within(patience());
    assert_eq!(
        server.count_lines("there is no interpreter in this program"),
        1
    );
}

#[test]
fn a_rust_program_has_hooks_of_its_own() {
    let server = Rgun::example("hooks").workers(2).start();
    server.wait_for_line(&format!(
        "diary: ready at http://127.0.0.1:{}",
        server.port()
    ));
    server.wait_for_line("diary: worker 0 of age 1 serves");
    server.wait_for_line("diary: worker 1 of age 2 serves");
    server.get("/").response();
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
    let answered: usize = (0..2)
        .map(|slot| {
            let line = server.wait_for_line(&format!("diary: worker {slot} has answered "));
            line.rsplit(' ')
                .next()
                .and_then(|count| count.parse::<usize>().ok())
                .expect("a number")
        })
        .sum();
    assert_eq!(answered, 1);
    let refused = Rgun::example("hooks").workers(5).spawn();
    refused.assert_exits(1).within(patience());
    assert_eq!(refused.count_lines("no more than 4 workers here"), 1);
}
