//! The uwsgi protocol, spoken to directly: what is answered, what is refused, and what it costs.

mod command;
mod nginx;

use nix::sys::signal::Signal;

use crate::harness::client::End;
use crate::harness::{Address, Client, Packet, Rgun, Server, patience, process, secs, until};

/// The builtin app `name` where uwsgi is spoken.
fn builtin(name: &str) -> Rgun {
    Rgun::app(&format!("builtin:{name}")).bind("uwsgi://127.0.0.1:0")
}

/// The kinds of worker that Python apps have.
const DRIVERS: [&str; 4] = ["sync", "gevent", "gthread", "asgi"];

/// `tests/apps/front.py` under `driver`, at no address yet.
fn front(driver: &str) -> Rgun {
    let rgun = match driver {
        "builtin" => return Rgun::app("builtin:echo"),
        "asgi" => Rgun::app("front:asgi"),
        _ => Rgun::app("front:wsgi"),
    };
    let rgun = rgun.args(["-k", driver]);
    if driver == "gthread" {
        rgun.args(["--threads", "4"])
    } else {
        rgun
    }
}

fn hello(server: &Server) {
    let answer = server.connect().ask(Packet::get("/").bytes());
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "hello world!")
    );
}

#[test]
fn a_request_is_answered_as_by_http_1_0_and_the_connection_ends() {
    let server = builtin("hello").start();
    let mut client = server.connect();
    let answer = client.ask(Packet::get("/").bytes());
    assert_eq!((answer.version(), answer.status()), ("HTTP/1.0", 200));
    assert_eq!(answer.header("content-length"), Some("12"));
    assert!(answer.says_close());
    assert!(client.closes_within(patience()));
    // A plain address speaks it where --protocol says so, as Gunicorn's does.
    let server = Rgun::app("builtin:hello")
        .args(["--protocol", "uwsgi"])
        .start();
    hello(&server);
}

#[test]
fn a_connection_is_kept_for_those_who_ask() {
    for driver in DRIVERS {
        let server = front(driver).bind("uwsgi://127.0.0.1:0").start();
        let mut client = server.connect();
        for length in [0, 5, 100_000] {
            let body = vec![b'x'; length];
            let answer = client.ask(Packet::post("/digest", length).kept().with(&body));
            assert_eq!(answer.status(), 200, "{driver}");
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{driver}");
            assert_eq!(answer.json()[0], length, "{driver}");
        }
        // A body that the app leaves is read all the same.
        for _ in 0..2 {
            let body = vec![b'x'; 1000];
            let answer = client.ask(Packet::post("/unread", 1000).kept().with(&body));
            assert_eq!(answer.text(), "unread", "{driver}");
        }
        client.send(Packet::of("HEAD", "/big").kept().bytes());
        let answer = client.response_to("HEAD");
        assert_eq!(
            answer.header("content-length"),
            Some("10485760"),
            "{driver}"
        );
        for (path, status) in [("/304", 304), ("/204", 204)] {
            let answer = client.ask(Packet::get(path).kept().bytes());
            assert_eq!(answer.status(), status, "{driver}");
            assert!(!answer.says_close(), "{driver}");
        }
        // What has no length ends with the connection.
        let answer = client.ask(Packet::get("/stream").kept().bytes());
        assert_eq!(answer.end(), End::Close, "{driver}");
        assert_eq!(answer.body().len(), 10_485_760, "{driver}");
        assert!(answer.says_close(), "{driver}");
    }
}

#[test]
fn an_idle_connection_is_closed_after_the_keep_alive_time() {
    let server = builtin("hello").args(["--keep-alive", "1"]).start();
    let mut client = server.connect();
    client.ask(Packet::get("/").kept().bytes());
    assert!(client.closes_within(secs(10)));
    let server = builtin("hello").args(["--keep-alive", "0"]).start();
    let mut client = server.connect();
    assert!(client.ask(Packet::get("/").kept().bytes()).says_close());
    assert!(client.closes_within(patience()));
}

#[test]
fn hostile_packets_cost_one_connection_each() {
    let server = builtin("hello")
        .args(["--limit-request-body", "1000"])
        .args(["--error-logfile", "-"])
        .start();
    let worker = server.worker_pids();
    let get = || Packet::get("/");
    let many = |count: usize| {
        (0..count).fold(get(), |packet, number| packet.var(format!("V{number}"), ""))
    };
    let fields = (0..101).fold(get(), |packet, number| {
        packet.var(format!("HTTP_X_{number}"), "")
    });
    let long = "x".repeat(9000);
    let mut short_block = get().bytes();
    short_block[1] -= 1;
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("psgi", [&[5, 0, 0, 0][..], &get().bytes()].concat(), 501),
        ("spooler", vec![17, 0, 0, 0], 501),
        ("code to be run", b"\x16\x08\x00\x00print(1)".to_vec(), 501),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 501),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), 501),
        ("an empty packet", vec![0, 0, 0, 0], 400),
        ("zeros", vec![0; 4096], 400),
        ("no name", get().var("", "x").bytes(), 400),
        ("a name with a zero", get().var("A\0B", "x").bytes(), 400),
        (
            "a size past the block",
            vec![0, 4, 0, 0, 9, 0, b'A', b'B'],
            400,
        ),
        ("a block that is too short", short_block, 400),
        ("too many variables", many(1000).bytes(), 400),
        ("too many fields", fields.bytes(), 431),
        ("a long field", get().var("HTTP_LONG", &long).bytes(), 431),
        (
            "a long target",
            Packet::get(&format!("/{long}")).bytes(),
            414,
        ),
        (
            "no method",
            Packet::empty().var("PATH_INFO", "/").bytes(),
            400,
        ),
        (
            "two lengths",
            Packet::post("/", 1).var("CONTENT_LENGTH", "2").with("ab"),
            400,
        ),
        (
            "a negative length",
            get().var("CONTENT_LENGTH", "-1").bytes(),
            400,
        ),
        ("no number", get().var("CONTENT_LENGTH", "ten").bytes(), 400),
        (
            "a huge length",
            get().var("CONTENT_LENGTH", "99999999999999999999").bytes(),
            400,
        ),
        ("a large body", Packet::post("/", 1001).bytes(), 413),
        (
            "a body without a length",
            get().var("HTTP_TRANSFER_ENCODING", "chunked").bytes(),
            411,
        ),
        (
            "a line in a value",
            get().var("HTTP_A", "b\r\nC: d").bytes(),
            400,
        ),
        (
            "a line in the target",
            Packet::get("/\r\nX: y").bytes(),
            400,
        ),
        ("a relative path", Packet::get("x").bytes(), 400),
        (
            "no address",
            get().var("REMOTE_ADDR", "nobody").bytes(),
            400,
        ),
    ];
    for (what, bytes, status) in cases {
        let mut client = server.connect();
        client.send(&bytes);
        let answer = client.response();
        assert_eq!(answer.status(), status, "{what}");
        assert!(answer.says_close(), "{what}");
        assert!(!answer.text().contains("Traceback"), "{what}");
        assert!(client.closes_within(patience()), "{what}");
        hello(&server);
    }
    hello(&server);
    assert_eq!(server.worker_pids(), worker, "the worker lives");
    assert_eq!(server.count_lines("ERROR"), 0);
    assert_eq!(server.count_lines("Traceback"), 0);
}

#[test]
fn a_request_that_is_cut_short_is_refused() {
    let server = builtin("echo").start();
    let packet = Packet::get("/").bytes();
    for end in [1, 3, 4, 20, packet.len() - 1] {
        let mut client = server.connect();
        client.send(&packet[..end]);
        client.half_close();
        assert_eq!(client.response().status(), 400, "cut after {end} bytes");
    }
    let mut client = server.connect();
    client.send(Packet::post("/", 9).with("1234"));
    client.half_close();
    assert_eq!(client.response().status(), 400);
    hello_echo(&server);
}

#[test]
fn who_stalls_is_timed_out() {
    let server = builtin("echo")
        .args(["--header-timeout", "1", "--body-timeout", "1"])
        .start();
    let packet = Packet::post("/", 10).bytes();
    let (mut silent, mut half, mut bodiless) =
        (server.connect(), server.connect(), server.connect());
    half.send(&packet[..30]);
    bodiless.send([&*packet, b"abc"].concat());
    assert_eq!(half.response().status(), 408);
    assert_eq!(bodiless.response().status(), 408);
    assert!(silent.closes_within(secs(10)));
    hello_echo(&server);
}

fn hello_echo(server: &Server) {
    let answer = server.connect().ask(Packet::get("/a").bytes());
    assert_eq!(answer.json()["path"], "/a");
}

#[test]
fn strangers_are_refused_and_networks_are_understood() {
    let strange = builtin("hello")
        .args(["--uwsgi-allow-from", "10.0.0.0/8,::1"])
        .start();
    let mut client = strange.connect();
    let answer = client.ask(Packet::get("/").bytes());
    assert_eq!(answer.status(), 403);
    assert!(client.closes_within(patience()));
    for allowed in ["127.0.0.0/8", "*", "10.0.0.1,127.0.0.1"] {
        hello(
            &builtin("hello")
                .args(["--uwsgi-allow-from", allowed])
                .start(),
        );
    }
    // The socket's permissions have let a unix peer in.
    let rgun = Rgun::app("builtin:hello");
    let path = rgun.directory().join("s");
    let server = rgun
        .bind(format!("uwsgi:unix:{}", path.display()))
        .args(["--uwsgi-allow-from", "10.0.0.1"])
        .start();
    assert_eq!(server.address(), Address::Unix(path));
    hello(&server);
    // HTTP is everybody's.
    let server = Rgun::app("builtin:hello")
        .args(["--uwsgi-allow-from", "10.0.0.1"])
        .start();
    assert_eq!(server.connect().get("/").status(), 200);
}

#[test]
fn the_front_end_may_itself_be_behind_a_proxy() {
    let server = Rgun::app("builtin:echo")
        .bind("uwsgi://127.0.0.1:0?proxy=v1")
        .start();
    let header = b"PROXY TCP4 203.0.113.1 203.0.113.2 1111 2222\r\n";
    // The proxy may speak uwsgi; whom it tells of need not.
    let mut client = server.connect();
    client.send(header);
    let answer = client.ask(Packet::get("/").kept().bytes());
    assert_eq!(answer.json()["peer"], "203.0.113.1:1111");
    // A packet's word counts more: it came with the request.
    let packet = Packet::get("/").var("REMOTE_ADDR", "192.0.2.1");
    let answer = client.ask(packet.var("REMOTE_PORT", "99").bytes());
    assert_eq!(answer.json()["peer"], "192.0.2.1:99");
}

#[test]
fn the_access_log_tells_of_the_client_behind_the_front_end() {
    let server = builtin("hello")
        .args(["--access-logfile", "-"])
        .args([
            "--access-logformat",
            "%(h)s \"%(r)s\" %(s)s %(b)s %({REMOTE_PORT}e)s %({wsgi.url_scheme}e)s",
        ])
        .start();
    let mut client = server.connect();
    for addr in ["192.0.2.1", "2001:db8::2"] {
        let packet = Packet::get("/a%20b?c")
            .kept()
            .var("PATH_INFO", "/a b")
            .var("REMOTE_ADDR", addr)
            .var("REMOTE_PORT", "4711")
            .var("HTTPS", "on");
        assert_eq!(client.ask(packet.bytes()).status(), 200);
        let line = format!("{addr} \"GET /a%20b?c HTTP/1.1\" 200 12 4711 https");
        server.wait_for_output(&line, 1);
    }
}

#[test]
fn a_drain_finishes_what_runs_and_ends_what_is_kept() {
    for driver in DRIVERS {
        let rgun = front(driver).bind("uwsgi://127.0.0.1:0");
        let flag = rgun.directory().join("flag");
        let server = rgun.start();
        let mut kept = server.connect();
        assert_eq!(kept.ask(Packet::get("/").kept().bytes()).status(), 200);
        let mut busy = server.connect();
        let path = format!("/wait?{}", flag.display());
        busy.send(Packet::get(&path).kept().bytes());
        server.wait_for_line("waiting");
        server.signal(Signal::SIGTERM);
        // A sync worker is at its one request, and hears of the signal behind it.
        if driver != "sync" {
            assert!(kept.closes_within(patience()), "{driver}");
        }
        std::fs::write(&flag, "").expect("the directory is ours");
        let answer = busy.response();
        assert_eq!(answer.text(), "waited", "{driver}");
        assert_eq!(answer.says_close(), driver != "sync", "{driver}");
        server.assert_exits(0).within(patience());
        assert_eq!(server.count_lines("Cutting"), 0, "{driver}");
    }
}

#[test]
fn what_the_kernel_has_queued_is_answered_before_the_end() {
    let server = builtin("hello").start();
    let worker = server.wait_for_workers(1)[0];
    process::signal(worker, Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(Packet::get("/").kept().bytes());
    }
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    process::signal(worker, Signal::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    server.assert_exits(0).within(patience());
}

#[test]
fn its_requests_count_for_max_requests() {
    let server = builtin("hello").args(["--max-requests", "5"]).start();
    let before = server.wait_for_workers(1);
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(Packet::get("/").kept().bytes()).status(), 200);
    }
    server.wait_for_line("Autorestarting worker");
    until("another worker serves", patience(), || {
        let now = server.worker_pids();
        now.len() == 1 && now != before
    });
    hello(&server);
}

#[test]
fn its_connections_count_for_the_cap_and_those_past_it_are_told() {
    let rgun = front("gevent").bind("uwsgi://127.0.0.1:0");
    let flag = rgun.directory().join("flag");
    let server = rgun
        .args(["--worker-connections", "2", "--overload-timeout", "1"])
        .start();
    let path = format!("/wait?{}", flag.display());
    let mut held: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut held {
        client.send(Packet::get(&path).bytes());
    }
    server.wait_for_lines("waiting", 2);
    let late = server.connect().ask(Packet::get("/").bytes());
    assert_eq!(late.status(), 503);
    assert_eq!(late.header("retry-after"), Some("1"));
    std::fs::write(&flag, "").expect("the directory is ours");
    for client in &mut held {
        assert_eq!(client.response().text(), "waited");
    }
}

#[test]
fn uwsgi_and_http_are_served_side_by_side_over_a_reload() {
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .bind("127.0.0.1:0")
        .bind("uwsgi://127.0.0.1:0")
        .start();
    let both = || {
        let [http, uwsgi] = server.addresses().try_into().expect("two addresses");
        assert_eq!(Client::connect(&http).get("/").status(), 200);
        let answer = Client::connect(&uwsgi).ask(Packet::get("/").bytes());
        assert_eq!(answer.text(), "hello world!");
        // Each speaks its own.
        assert_eq!(Client::connect(&uwsgi).get("/").status(), 501);
        let wrong = Client::connect(&http).ask(Packet::get("/").with("\r\n\r\n"));
        assert_eq!(wrong.status(), 400);
    };
    both();
    let before = server.worker_pids();
    server.signal(Signal::SIGHUP);
    until("the new workers have taken over", patience(), || {
        let now = server.worker_pids();
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
    both();
}

#[test]
fn the_readiness_path_is_answered() {
    let server = builtin("hello")
        .args(["--readiness-path", "/ready"])
        .start();
    let answer = server.connect().ask(Packet::get("/ready").bytes());
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ready\n"));
}

#[test]
fn a_failing_app_is_a_500_without_its_traceback() {
    for driver in DRIVERS {
        let server = front(driver).bind("uwsgi://127.0.0.1:0").start();
        let answer = server.connect().ask(Packet::get("/raise").bytes());
        assert_eq!(answer.status(), 500, "{driver}");
        assert!(!answer.text().contains("ValueError"), "{driver}");
        server.wait_for_line("ValueError: the app is wrong");
    }
}
