//! The event loops: what apps do with asyncio besides serving, the lifespan, and the worker's end.

use nix::sys::signal::Signal;

use crate::asgi::{LOOPS, asgi};
use crate::harness::{Hammer, Rgun, Server, millis, patience, process, secs, until};

#[track_caller]
fn behaves(what: &str) -> Vec<Server> {
    LOOPS
        .iter()
        .map(|event_loop| {
            let server = asgi("asgi_citizen:app", event_loop).start();
            let answer = server.get(&format!("/{what}")).response();
            assert_eq!(answer.text(), "behaves", "{event_loop}: {what}");
            server
        })
        .collect()
}

#[test]
fn threads_of_the_app_run_and_come_back() {
    behaves("to_thread");
    behaves("threadsafe");
}

#[test]
fn processes_of_the_app_run_and_are_waited_for() {
    behaves("subprocess");
}

#[test]
fn a_process_that_the_app_forks_serves_nothing() {
    behaves("forked");
}

#[test]
fn signal_handlers_of_the_app_are_called_and_ours_go_on() {
    for server in behaves("signals") {
        let worker = server.worker_pids()[0];
        process::signal(worker, Signal::SIGTERM);
        server.wait_for_lines("Booting worker", 2);
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(secs(10));
    }
}

#[test]
fn the_app_may_be_a_server_and_a_client() {
    behaves("sockets");
}

#[test]
fn timeouts_and_timers_are_kept() {
    behaves("timeouts");
    behaves("later");
}

#[test]
fn tasks_run_side_by_side() {
    behaves("gathered");
}

#[test]
fn debug_mode_works() {
    behaves("debug");
    for event_loop in LOOPS {
        let server = asgi("asgi_citizen:app", event_loop)
            .env("PYTHONASYNCIODEBUG", "1")
            .start();
        assert_eq!(server.get("/later").response().text(), "behaves");
        assert_eq!(server.get("/to_thread").response().text(), "behaves");
        assert_eq!(server.count_lines("ERROR"), 0);
    }
}

#[test]
fn a_loop_that_is_run_within_itself_harms_nobody() {
    behaves("nested");
    behaves("forced");
}

#[test]
fn exceptions_that_nobody_waits_for_are_logged() {
    for server in behaves("unseen") {
        server.wait_for_line("Task exception was never retrieved");
        server.wait_for_line("ValueError: nobody waited for this");
    }
}

#[test]
fn a_lifespan_sees_the_start_and_the_end() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:good", event_loop).start();
        let mut client = server.connect();
        for _ in 0..2 {
            // Each request has a copy of the state.
            assert_eq!(client.get("/").text(), "yes");
        }
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(secs(10));
        assert_eq!(
            server.count_lines("the lifespan has ended"),
            1,
            "{event_loop}"
        );
    }
}

#[test]
fn a_lifespan_that_is_off_is_not_run() {
    let server = asgi("asgi_lifespan:good", "asyncio")
        .args(["--asgi-lifespan", "off"])
        .start();
    assert_eq!(server.get("/").response().text(), "None");
}

#[test]
fn a_start_that_fails_ends_the_server_with_its_reason() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:refuses", event_loop).spawn();
        server.wait_for_line("Application startup failed.");
        server.wait_for_line("no database today");
        server.assert_exits(3).within(secs(10));
    }
}

#[test]
fn a_lifespan_that_breaks_is_passed_over_unless_it_must_be() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:breaks", event_loop).start();
        server.wait_for_line("does not support the lifespan protocol");
        assert_eq!(server.get("/").response().text(), "None");
        let server = asgi("asgi_lifespan:breaks", event_loop)
            .args(["--asgi-lifespan", "on"])
            .spawn();
        server.wait_for_line("RuntimeError: a lifespan that breaks");
        server.assert_exits(3).within(secs(10));
    }
}

#[test]
fn a_lifespan_that_fails_later_is_logged_and_the_app_goes_on() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:dies", event_loop).start();
        server.wait_for_line("RuntimeError: a lifespan that dies young");
        assert_eq!(server.get("/").response().text(), "None");
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(secs(10));

        let server = asgi("asgi_lifespan:ends_badly", event_loop).start();
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Application shutdown failed. could not save");
        server.assert_exits(0).within(secs(10));
    }
}

#[test]
fn a_lifespan_that_does_not_end_is_cut_in_time() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:never_ends", event_loop)
            .args(["--graceful-timeout", "1"])
            .start();
        server.signal(Signal::SIGTERM);
        server.wait_for_line("shutdown has not ended in time");
        server.wait_for_line("the lifespan was cut");
        server.assert_exits(0).within(secs(10));
        assert_eq!(server.count_lines("was sent SIG"), 0, "{event_loop}");
    }
}

#[test]
fn what_the_app_leaves_is_ended_in_order() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:with_work", event_loop).start();
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(secs(10));
        let log = server.log();
        let at = |text: &str| {
            let found = log.iter().position(|line| line.contains(text));
            found.unwrap_or_else(|| panic!("{event_loop}: no line {text:?}"))
        };
        assert!(at("the work has ended") < at("leaked task cancelled: True"));
        assert!(at("leaked task cancelled: True") < at("the generator has ended"));
    }
}

#[test]
fn a_running_request_is_answered_before_the_worker_leaves() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop).start();
        let request = server.get("/sleep?500").in_background();
        until("the request is under way", patience(), || {
            server.get("/").response().status() == 200
        });
        server.signal(Signal::SIGTERM);
        assert_eq!(request.response().text(), "slept", "{event_loop}");
        server.assert_exits(0).within(secs(10));
    }
}

#[test]
fn what_goes_on_after_an_answer_is_waited_for() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop).start();
        assert_eq!(server.get("/background?700").response().text(), "answered");
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(secs(10));
        server.wait_for_line("background work done");
    }
}

#[test]
fn what_does_not_end_is_cancelled_at_the_graceful_timeout() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop)
            .args(["--graceful-timeout", "1"])
            .start();
        assert_eq!(server.get("/stubborn").response().text(), "answered");
        let mut deaf = server.connect();
        deaf.send_get("/deaf");
        server.wait_for_line("deaf");
        server.signal(Signal::SIGTERM);
        server.wait_for_line("Cutting request GET /deaf");
        server.wait_for_line("cancelled");
        server.wait_for_line("stubborn work cut");
        server.assert_exits(0).within(secs(10));
        assert_eq!(server.count_lines("was sent SIG"), 0, "{event_loop}");
    }
}

#[test]
fn a_quick_stop_waits_for_nobody_and_still_ends_the_lifespan() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:good", event_loop).start();
        server.signal(Signal::SIGINT);
        server.wait_for_line("the lifespan has ended");
        server.assert_exits(0).within(secs(5));
    }
}

#[test]
fn a_reload_under_load_loses_no_request() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop).workers(2).start();
        let hammer = Hammer::start(&server, "/sleep?5", 4);
        for generation in 1..=2 {
            server.signal(Signal::SIGHUP);
            server.wait_ready(2 + 2 * generation);
        }
        let tally = hammer.stop();
        assert!(
            tally.failures.is_empty(),
            "{event_loop}: {:?}",
            tally.failures
        );
        assert!(tally.good > 0);
    }
}

#[test]
fn a_worker_that_waits_for_nothing_sleeps_and_beats() {
    for event_loop in LOOPS {
        let server = asgi("asgi_lifespan:good", event_loop)
            .args(["--timeout", "4"])
            .start();
        let worker = server.worker_pids()[0];
        let before = process::ticks(worker);
        // What is shown is that nothing happens: longer than the timeout, and long enough to count ticks.
        std::thread::sleep(millis(5000));
        let used = process::ticks(worker) - before;
        assert_eq!(server.count_lines("WORKER TIMEOUT"), 0, "{event_loop}");
        assert!(used < 30, "{event_loop}: {used} ticks for nothing");
    }
}

#[test]
fn a_kept_connection_that_idles_is_closed_in_time() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop)
            .args(["--keep-alive", "1"])
            .start();
        let mut client = server.connect();
        client.get("/");
        assert!(client.closes_within(secs(5)), "{event_loop}");
    }
}

#[test]
fn an_asgi_app_is_known_for_one() {
    for app in ["asgi:app", "asgi_scope", "asgi_hidden:app"] {
        let server = Rgun::app(app).spawn();
        server.wait_ready(1);
        assert_eq!(server.get("/").response().status(), 200, "{app}");
    }
}

#[test]
fn a_worker_made_for_the_wrong_kind_of_app_is_made_anew() {
    // The source shows nothing of it, and gevent is there to be taken.
    let server = Rgun::app("asgi_hidden:app").workers(2).spawn();
    server.wait_ready(2);
    assert_eq!(server.get("/").response().text(), "hello world!");
    assert!(
        server.booted().len() > 2,
        "the guess was right: the test tests nothing"
    );
    assert_eq!(server.count_lines("ERROR"), 0);
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(secs(10));
}

#[test]
fn a_loop_that_is_not_there_is_named() {
    let rgun = Rgun::app("asgi:app").args(["-k", "asgi", "--asgi-loop", "uvloop"]);
    // A finder that hides it: the environment of the tests has it.
    rgun.write(
        "sitecustomize.py",
        "import importlib.machinery as m\nfind = m.PathFinder.find_spec\n\
         m.PathFinder.find_spec = classmethod(lambda c, n, *a: None if n == 'uvloop' else find(n, *a))\n",
    );
    let path = rgun.directory();
    let server = rgun.env("PYTHONPATH", path).spawn();
    server.wait_for_line("Python cannot import uvloop");
    server.assert_exits(3).within(secs(10));
}

/// Tasks that go on together do so with no pass of the loop between them. The last of them holds the thread until the client
/// of the first has its answer, and has asked again.
#[test]
fn answers_of_tasks_that_go_on_together_are_written_as_they_come() {
    const WAITING: usize = 20;
    let app = "import asyncio, os, time\n\
        waiting, woken, event = 0, 0, asyncio.Event()\n\
        async def answer(send, text):\n\
        \x20   await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
        \x20   await send({'type': 'http.response.body', 'body': text})\n\
        async def app(scope, receive, send):\n\
        \x20   global waiting, woken\n\
        \x20   if scope['type'] != 'http': raise RuntimeError('http alone')\n\
        \x20   if scope['path'] == '/count': return await answer(send, b'%d' % waiting)\n\
        \x20   if scope['path'] == '/go': event.set()\n\
        \x20   if scope['path'] != '/wait': return await answer(send, b'at once')\n\
        \x20   waiting += 1\n\
        \x20   await event.wait()\n\
        \x20   woken += 1\n\
        \x20   if woken < waiting:\n\
        \x20       time.sleep(0.002)\n\
        \x20       return await answer(send, b'woken')\n\
        \x20   until = time.monotonic() + 20\n\
        \x20   while not os.path.exists('answered') and time.monotonic() < until: time.sleep(0.01)\n\
        \x20   await answer(send, b'early' if os.path.exists('answered') else b'late')\n";
    for event_loop in LOOPS {
        let rgun = asgi("together:app", event_loop);
        rgun.write("together.py", app);
        let home = rgun.directory();
        let server = rgun.chdir(home).start();
        let mut clients: Vec<_> = (0..WAITING).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send_get("/wait");
        }
        until("all wait", patience(), || {
            server.get("/count").response().text() == WAITING.to_string()
        });
        let mut go = server.connect();
        go.send_get("/go");
        let (first, others) = clients.split_first_mut().expect("there are some");
        assert_eq!(first.response().text(), "woken", "{event_loop}");
        // It comes within a step of another task, and is put off.
        first.send_get("/again");
        std::fs::write(server.directory().join("answered"), "").expect("a file");
        assert_eq!(first.response().text(), "at once", "{event_loop}");
        assert_eq!(go.response().text(), "at once", "{event_loop}");
        let mut texts: Vec<_> = (others.iter_mut())
            .map(|client| client.response().text())
            .collect();
        assert_eq!(texts.pop().as_deref(), Some("early"), "{event_loop}");
        assert!(texts.iter().all(|text| text == "woken"), "{event_loop}");
    }
}
