//! HTTP/1.1 on the wire: what is refused, what is served, and what becomes of slow and rude clients.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::harness::client::End;
use crate::harness::{Client, Hammer, Response, Rgun, Server, patience, secs, until};
use crate::http_vectors::{BAD_BODIES, BAD_HEADS, GOOD, Vector};

/// Sends the bytes and a proper request behind them; answers what came back and whether the connection closed.
fn probe(server: &Server, bytes: &[u8]) -> (Result<Response, String>, bool) {
    let mut client = server.connect();
    // The server may hang up before it has read all.
    let _ = client.try_send(bytes);
    let method = if bytes.starts_with(b"HEAD") {
        "HEAD"
    } else {
        "GET"
    };
    let answer = client.try_response(method);
    let closed = client.closes_within(secs(10));
    (answer, closed)
}

/// All vectors, and every difference told at once.
#[track_caller]
fn check(server: &Server, vectors: &[Vector], refused: bool) {
    let mut wrong = Vec::new();
    for (name, bytes, right) in vectors {
        let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = server.connect();
        let sent = if refused {
            [*bytes, &smuggled[..]].concat()
        } else {
            bytes.to_vec()
        };
        let _ = client.try_send(sent);
        match client.try_response("GET") {
            Ok(answer) if right.contains(&answer.status()) => {
                if refused && answer.status() != 200 {
                    if !answer.says_close() {
                        wrong.push(format!("{name}: {} without close", answer.status()));
                    } else if !client.rest().is_ok_and(|rest| rest.is_empty()) {
                        // A reset would be as bad as a second answer: it can take the first with it.
                        wrong.push(format!("{name}: more after the refusal, or a reset"));
                    }
                }
            }
            Ok(answer) => wrong.push(format!("{name}: {} not {right:?}", answer.status())),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong of {}:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
    assert_eq!(server.booted().len(), 1, "a worker died");
}

#[test]
fn right_requests_are_served() {
    check(&Rgun::app("builtin:hello").start(), GOOD, false);
    check(&Rgun::app("wsgi:app").start(), GOOD, false);
}

#[test]
fn wrong_heads_are_refused_and_the_connection_closed() {
    check(&Rgun::app("builtin:hello").start(), BAD_HEADS, true);
}

#[test]
fn wrong_framing_of_a_body_is_400_and_close() {
    for app in ["builtin:echo", "wsgi:app"] {
        let server = Rgun::app(app).start();
        let mut wrong = Vec::new();
        for (name, body) in BAD_BODIES {
            let head = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (answer, closed) = probe(&server, &[&head[..], body].concat());
            match answer {
                Ok(answer) if answer.status() == 400 && closed => {}
                Ok(answer) => wrong.push(format!(
                    "{app}, {name}: {} {:?}, closed: {closed}",
                    answer.status(),
                    answer.text()
                )),
                Err(error) => wrong.push(format!("{app}, {name}: {error}")),
            }
        }
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn a_body_that_ends_early_is_never_a_short_body() {
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("wsgi:app").args(["-k", driver]).start();
        for request in [
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
            "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
            "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        ] {
            let mut client = server.connect();
            client.send(request);
            client.half_close();
            if let Ok(answer) = client.try_response("POST") {
                assert_eq!(
                    answer.status(),
                    400,
                    "{driver}: {request:?}: {}",
                    answer.text()
                );
            }
        }
        assert_eq!(server.get("/hello").response().status(), 200);
    }
}

#[test]
fn head_204_and_304_have_no_body() {
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("wsgi:app").args(["-k", driver]).start();
        let mut client = server.connect();
        client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response_to("HEAD");
        assert_eq!(
            (answer.status(), answer.header("content-length")),
            (200, Some("12"))
        );
        client.send("HEAD /chunks HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 200);
        for (path, status) in [
            ("/no-content", 204),
            ("/not-modified", 304),
            ("/body-with-304", 304),
        ] {
            client.send_get(path);
            let answer = client.response();
            assert_eq!((answer.status(), answer.end()), (status, End::Bodiless));
            assert!(answer.header("transfer-encoding").is_none(), "{path}");
            if status == 204 {
                assert!(answer.header("content-length").is_none(), "{path}");
            }
        }
        // Nothing was left in between: the connection is still in step.
        assert_eq!(client.get("/hello").text(), "hello world!");
        assert_eq!(server.booted().len(), 1);
    }
}

#[test]
fn every_answer_has_a_date_and_the_server_says_nothing_wrong() {
    let server = Rgun::app("builtin:hello").start();
    let answer = server.get("/").response();
    assert_eq!((answer.version(), answer.reason()), ("HTTP/1.1", "OK"));
    let date = answer.header("date").expect("a Date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    assert_eq!(answer.all("date").len(), 1);
    assert_eq!(answer.all("content-length"), ["12"]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Rgun::app("builtin:hello").start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500));
    for _ in 0..500 {
        assert_eq!(client.response().text(), "hello world!");
    }
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("wsgi:app").args(["-k", driver]).start();
        let mut client = server.connect();
        for (path, _) in ANSWERS {
            client.send_get(path);
        }
        for (path, text) in ANSWERS {
            assert_eq!(client.response().text(), *text, "{driver} {path}");
        }
    }
}

const ANSWERS: &[(&str, &str)] = &[
    ("/hello", "hello world!"),
    ("/sleep?ms=50", "slept"),
    ("/chunks", "one two three"),
    ("/write", "written, twice, then returned"),
    ("/hello", "hello world!"),
];

#[test]
fn a_half_closed_client_is_answered() {
    for app in ["builtin:hello", "wsgi:app"] {
        let server = Rgun::app(app).start();
        let mut client = server.connect();
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        client.half_close();
        assert_eq!(client.response().text(), "hello world!", "{app}");
        assert!(client.closes_within(secs(5)), "{app}");
    }
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    let mut client = server.connect();
    client.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    client.send("GET /sleep?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.half_close();
    assert_eq!(client.response().json()["text"], "abc");
    assert_eq!(client.response().text(), "slept");
}

#[test]
fn connection_lists_are_understood() {
    let server = Rgun::app("builtin:hello").start();
    for (version, value, closes) in [
        ("1.1", "close", true),
        ("1.1", "Close", true),
        ("1.1", "keep-alive, close", true),
        ("1.1", "x-a , close", true),
        ("1.1", "keep-alive", false),
        ("1.0", "keep-alive", false),
        ("1.0", "Keep-Alive, x-a", false),
        ("1.0", "x-a", true),
    ] {
        let mut client = server.connect();
        let answer = client.ask(format!(
            "GET / HTTP/{version}\r\nHost: a\r\nConnection: {value}\r\n\r\n"
        ));
        assert_eq!(answer.status(), 200);
        if closes {
            assert!(client.closes_within(secs(5)), "{version} {value}");
        } else {
            assert_eq!(
                client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(),
                200,
                "{version} {value}"
            );
        }
    }
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "hello world!");
    assert!(client.closes_within(secs(5)), "1.0 without a word closes");
}

#[test]
fn an_expected_100_comes_before_the_body_is_sent() {
    for app in ["builtin:echo", "wsgi:app"] {
        let server = Rgun::app(app).start();
        let mut client = server.connect();
        client.send(
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        );
        let interim = client.one_response("POST").expect("an interim answer");
        assert_eq!(interim.status(), 100, "{app}");
        client.send("abc");
        assert_eq!(client.response().status(), 200, "{app}");
    }
}

#[test]
fn the_limits_of_a_head() {
    let server = Rgun::app("builtin:hello").start();
    let status = |request: String| probe(&server, request.as_bytes()).0.map(|a| a.status());
    let line = |length: usize| {
        // `GET ` + target + ` HTTP/1.1`
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "x".repeat(length - 14)
        )
    };
    assert_eq!(status(line(4094)), Ok(200));
    assert_eq!(status(line(4095)), Ok(414));
    assert_eq!(status(line(8000)), Ok(414));
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: 1\r\n".repeat(count - 1)
        )
    };
    assert_eq!(status(fields(100)), Ok(200));
    assert_eq!(status(fields(101)), Ok(431));
    assert_eq!(status(fields(300)), Ok(431));
    let field = |length: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(length - 3)
        )
    };
    assert_eq!(status(field(8000)), Ok(200));
    assert_eq!(status(field(8300)), Ok(431));
    assert_eq!(status(field(200_000)), Ok(431));
}

#[test]
fn the_limits_can_be_moved() {
    let server = Rgun::app("builtin:hello")
        .args(["--limit-request-line", "100"])
        .args(["--limit-request-fields", "3"])
        .args(["--limit-request-field_size", "50"])
        .start();
    let status = |request: String| probe(&server, request.as_bytes()).0.map(|a| a.status());
    let path = "x".repeat(150);
    assert_eq!(
        status(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")),
        Ok(414)
    );
    let request = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
    assert_eq!(status(request.to_owned()), Ok(431));
    let value = "x".repeat(60);
    assert_eq!(
        status(format!("GET / HTTP/1.1\r\nHost: a\r\nA: {value}\r\n\r\n")),
        Ok(431)
    );
    assert_eq!(
        status("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n".to_owned()),
        Ok(200)
    );
}

#[test]
fn the_limit_of_a_body() {
    for app in ["builtin:echo", "wsgi:app"] {
        let server = Rgun::app(app)
            .args(["--limit-request-body", "1000"])
            .start();
        let body = "x".repeat(1000);
        let head = "POST /read HTTP/1.1\r\nHost: a\r\n";
        let (fits, _) = probe(
            &server,
            format!("{head}Content-Length: 1000\r\nConnection: close\r\n\r\n{body}").as_bytes(),
        );
        assert_eq!(fits.map(|answer| answer.status()), Ok(200), "{app}");
        let (declared, closed) = probe(
            &server,
            format!("{head}Content-Length: 1001\r\n\r\n").as_bytes(),
        );
        assert_eq!(
            (declared.map(|answer| answer.status()), closed),
            (Ok(413), true),
            "{app}"
        );
        let (chunked, closed) = probe(
            &server,
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n3e8\r\n{body}\r\n1\r\nx\r\n0\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(
            (chunked.map(|answer| answer.status()), closed),
            (Ok(413), true),
            "{app}"
        );
    }
}

/// Every kind of client that takes its time, ended by the server in its own time.
#[test]
fn slow_clients_are_ended() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "sync", "--keep-alive", "1", "--header-timeout", "1"])
        .args(["--body-timeout", "1", "--write-timeout", "1"])
        .start();
    // Nothing sent; half a head; a head dribbled; idle after an answer; half a body.
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let mut idle = server.connect();
    assert_eq!(idle.get("/hello").status(), 200);
    let mut body = server.connect();
    body.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc");
    let mut dribble = server.connect();
    dribble.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let started = Instant::now();
    until("a head that comes byte by byte is cut", patience(), || {
        std::thread::sleep(Duration::from_millis(100));
        dribble.try_send("x").is_err()
    });
    assert!(started.elapsed() > Duration::from_millis(500), "too early");
    for (name, client) in [
        ("silent", &mut silent),
        ("half a head", &mut half),
        ("idle", &mut idle),
        ("half a body", &mut body),
    ] {
        assert!(client.closes_within(secs(10)), "{name} stays");
    }
    // One that does not read its answer: 128 MB are more than any buffer of the kernel.
    let mut deaf = server.connect();
    deaf.send("GET /closing-big?deaf HTTP/1.1\r\nHost: a\r\n\r\n");
    until(
        "the answer to a client that does not read is given up",
        patience(),
        || {
            server
                .get("/closed")
                .response()
                .json()
                .as_array()
                .is_some_and(|closed| closed.iter().any(|name| name == "deaf"))
        },
    );
    assert_eq!(server.booted().len(), 1);
}

/// 500 bad clients of four kinds, dribbling, beside healthy ones.
#[test]
fn five_hundred_slow_clients_leave_the_healthy_ones_untouched() {
    let _quiet = crate::harness::quiet();
    for (app, driver) in [
        ("builtin:hello", "sync"),
        ("wsgi:app", "sync"),
        ("wsgi:app", "gevent"),
    ] {
        let server = Rgun::app(app)
            .args(["-k", driver, "--worker-connections", "1000"])
            .workers(2)
            .start();
        let mut bad: Vec<(usize, Client)> =
            (0..500).map(|n| (n % 4, server.connect())).collect();
        for (kind, client) in &mut bad {
            client.send(match kind {
                0 => "GET / HTTP/1.1\r\nHost: a\r\nX: ",
                1 => "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
                2 => "GET /closing-big?slow HTTP/1.1\r\nHost: a\r\n\r\n",
                _ => "",
            });
        }
        let hammer = Hammer::start(&server, "/hello", 4);
        let begin = Instant::now();
        // As long as it takes on a busy machine, at least three seconds.
        while begin.elapsed() < Duration::from_secs(3) || hammer.answered() < 300 {
            assert!(
                begin.elapsed() < patience(),
                "{app} {driver}: {} answers",
                hammer.answered()
            );
            for (kind, client) in &mut bad {
                if *kind < 2 {
                    // The server may have cut it: that is its right.
                    let _ = client.try_send("x").map_err(|error| {
                        assert_ne!(error.kind(), ErrorKind::WouldBlock, "the server reads");
                    });
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let tally = hammer.stop();
        assert!(
            tally.failures.is_empty(),
            "{app} {driver}: {:?}",
            tally.failures
        );
        assert_eq!(server.booted().len(), 2);
    }
}

#[test]
fn keep_alive_ends_after_its_seconds() {
    let server = Rgun::app("builtin:hello")
        .args(["--keep-alive", "1"])
        .start();
    let mut client = server.connect();
    assert_eq!(client.get("/").status(), 200);
    let idle = Instant::now();
    assert!(client.closes_within(secs(10)));
    assert!(
        idle.elapsed() > Duration::from_millis(700),
        "{:?}",
        idle.elapsed()
    );
    // A busy connection is not an idle one.
    let mut client = server.connect();
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_millis(2500) {
        assert_eq!(client.get("/").status(), 200);
        assert!(client.stays_silent_for(Duration::from_millis(100)));
    }
}

#[test]
fn an_answer_slower_than_keep_alive_is_no_idle_connection() {
    let server = Rgun::app("wsgi:app")
        .args(["-k", "gevent", "--keep-alive", "1", "--header-timeout", "1"])
        .args(["--body-timeout", "1", "--write-timeout", "1"])
        .start();
    assert_eq!(server.get("/sleep?ms=3000").response().text(), "slept");
}

#[test]
fn echo_tells_what_was_received() {
    let server = Rgun::app("builtin:echo").start();
    let answer = server
        .connect()
        .ask("POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let text = answer.json().to_string().to_lowercase();
    for part in ["post", "/a", "b=c", "x-one", "abc"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn an_error_answer_does_not_lose_its_words_to_a_reset() {
    let server = Rgun::app("builtin:hello")
        .args(["--limit-request-body", "1000"])
        .start();
    for _ in 0..10 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        let _ = client.try_send("x".repeat(60_000));
        let answer = client.response();
        assert_eq!(answer.status(), 413);
    }
}

#[test]
fn an_unread_body_does_not_become_the_next_request() {
    for driver in ["sync", "gevent"] {
        let server = Rgun::app("wsgi:app").args(["-k", driver]).start();
        for length in [10, 1000, 100_000] {
            let mut client = server.connect();
            let body = "GET /raise HTTP/1.1\r\nHost: a\r\n\r\n".repeat(length / 30 + 1);
            client.send(format!(
                "POST /not-read HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            let _ = client.try_send(&body);
            assert_eq!(client.response().text(), "not read", "{driver} {length}");
            // Either the connection goes on in step, or it closes; never a second answer to the first request.
            let next = client.try_get("/hello");
            assert!(
                next.as_ref()
                    .map_or(true, |answer| answer.text() == "hello world!"),
                "{driver} {length}: {next:?}"
            );
        }
        assert_eq!(server.count_lines("the app is wrong"), 0);
    }
}

#[test]
fn a_client_that_leaves_is_no_error() {
    let server = Rgun::app("wsgi:app").args(["-k", "gevent"]).start();
    for n in 0..20 {
        let mut client = server.connect();
        client.send(format!(
            "GET /sleep?ms={} HTTP/1.1\r\nHost: a\r\n\r\n",
            n * 5
        ));
        drop(client);
    }
    until("all is quiet", patience(), || {
        server.get("/sleep?ms=100").response().text() == "slept"
    });
    assert_eq!(
        server.count_lines("[ERROR]") + server.count_lines("[CRITICAL]"),
        0
    );
    assert_eq!(server.booted().len(), 1);
    assert!(server.get("/hello").response().header("date").is_some());
}
