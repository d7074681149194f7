//! WSGI to the letter, over a real socket; virtual environments, app paths, and both drivers.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::client::End;
use crate::harness::{Rgun, Server, patience, until, venv};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

fn wsgi(driver: &str) -> Server {
    Rgun::app("wsgi:app").args(["-k", driver]).start()
}

#[test]
fn wsgiref_validate_finds_nothing() {
    for driver in DRIVERS {
        let server = Rgun::app("validated:app").args(["-k", driver]).start();
        let mut client = server.connect();
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a%20b/%C3%A9?q=1&r=%20 HTTP/1.1\r\nHost: a:80\r\nX-Y: z\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET http://other:81/abs HTTP/1.1\r\nHost: other:81\r\n\r\n",
            "DELETE /x HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
        ] {
            let answer = client.ask(request);
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, "valid"),
                "{request}"
            );
        }
        let answer = client.ask(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody",
        );
        assert_eq!(answer.text(), "body");
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 200);
        assert_eq!(server.count_lines("AssertionError"), 0);
    }
}

#[test]
fn wsgiref_validate_finds_nothing_over_a_unix_socket() {
    let rgun = Rgun::app("validated:app");
    let socket = rgun.directory().join("server.sock");
    let server = rgun.bind(format!("unix:{}", socket.display())).start();
    assert_eq!(server.get("/").response().text(), "valid");
}

/// The environ of one request, as the app saw it.
fn environ(server: &Server, request: &str) -> (Value, Value) {
    let answer = server.connect().ask(request);
    assert_eq!(answer.status(), 200, "{request}: {}", answer.text());
    let mut facts = answer.json();
    (facts["environ"].take(), facts["types"].take())
}

#[test]
fn the_environ_is_pep_3333s_and_gunicorns() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let (environ, types) = environ(
            &server,
            "GET /environ/a%20b%2Fc/%c3%a9?q=%20x&y HTTP/1.1\r\nHost: example.com:81\r\n\
             X-One: 1\r\nX-Many: a\r\nX-Many: b\r\nCookie: a=1\r\nCookie: b=2\r\n\
             Content-Type: text/x\r\nX_Under: spoof\r\nX-High: \u{e9}\r\n\r\n",
        );
        for (key, value) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", ""),
            // Percent-decoded bytes, as latin-1.
            ("PATH_INFO", "/environ/a b/c/\u{c3}\u{a9}"),
            ("QUERY_STRING", "q=%20x&y"),
            ("RAW_URI", "/environ/a%20b%2Fc/%c3%a9?q=%20x&y"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "127.0.0.1"),
            ("SERVER_PORT", &server.port().to_string()),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_HOST", "example.com:81"),
            ("HTTP_X_ONE", "1"),
            ("HTTP_X_MANY", "a,b"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_X_HIGH", "\u{c3}\u{a9}"),
            ("CONTENT_TYPE", "text/x"),
            ("wsgi.url_scheme", "http"),
        ] {
            let found = environ[key].as_str().map(|text| text.replace(", ", ","));
            assert_eq!(found.as_deref(), Some(value), "{driver}: {key}");
        }
        assert_eq!(environ["wsgi.version"], serde_json::json!([1, 0]));
        assert_eq!(environ["wsgi.run_once"], false);
        assert_eq!(environ["wsgi.multithread"], driver != "sync");
        assert_eq!(environ["wsgi.input_terminated"], true);
        assert!(
            environ["SERVER_SOFTWARE"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(
            environ["REMOTE_PORT"]
                .as_str()
                .is_some_and(|text| text.parse::<u16>().is_ok()),
            "{driver}: {}",
            environ["REMOTE_PORT"]
        );
        for key in ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper"] {
            assert!(!types[key].is_null(), "{driver}: {key}");
        }
        for key in ["HTTP_CONTENT_TYPE", "HTTP_X_UNDER", "HTTP_CONTENT_LENGTH"] {
            assert!(environ[key].is_null(), "{driver}: {key} must not be there");
        }
        for (key, kind) in types.as_object().expect("an object") {
            if !key.contains('.') {
                assert_eq!(kind, "str", "{driver}: {key}");
            }
        }
    }
}

#[test]
fn several_workers_are_multiprocess() {
    let server = Rgun::app("wsgi:app").workers(2).start();
    let (environ, _) = environ(&server, "GET /environ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(environ["wsgi.multiprocess"], true);
}

#[test]
fn a_header_of_one_request_is_not_in_the_next() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        client.ask(
            "POST /environ/x?a=b HTTP/1.1\r\nHost: one\r\nX-Secret: 1\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc",
        );
        let facts = client
            .ask("GET /environ HTTP/1.1\r\nHost: two\r\n\r\n")
            .json();
        let environ = &facts["environ"];
        assert_eq!(environ["HTTP_HOST"], "two");
        assert_eq!(environ["QUERY_STRING"], "");
        for key in ["HTTP_X_SECRET", "CONTENT_TYPE", "CONTENT_LENGTH"] {
            assert!(
                environ[key].is_null() || environ[key] == "",
                "{driver}: {key} = {}",
                environ[key]
            );
        }
    }
}

/// An environ is made from those of earlier requests: whatever came before, on this connection or another, once or again
/// and again, what a request sees is its own.
#[test]
fn each_request_sees_its_own_fields_and_its_own_connection() {
    let values = [
        "a", "a", "b", "b", "b", "a", "c", "a", "a", "a", "b", "", "",
    ];
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for turn in 0..300 {
            let client = &mut clients[[0, 1, 1, 1, 2, 0, 0][turn % 7]];
            let a = values[turn % values.len()];
            let b = values[turn / 3 % values.len()];
            let cookie = format!("c={}", turn / 2 % 5);
            let fields = [
                ("Host", format!("{b}.test")),
                ("X-A", a.to_owned()),
                ("X-B", b.to_owned()),
                ("Cookie", cookie.clone()),
            ];
            let mut lines: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            match turn % 11 {
                3 | 4 => lines.swap(1, 2),
                5 => lines.push("X-A: again\r\n".into()),
                6 | 7 => lines.push("X-More: more\r\n".into()),
                8 => drop(lines.remove(3)),
                _ => {}
            }
            let facts = client
                .ask(format!("GET /environ HTTP/1.1\r\n{}\r\n", lines.concat()))
                .json();
            let environ = &facts["environ"];
            let text = |key: &str| environ[key].as_str().map(str::to_owned);
            let expected = |there: bool, value: String| there.then_some(value);
            let a = if turn % 11 == 5 {
                format!("{a},again")
            } else {
                a.into()
            };
            let where_ = format!("{driver}, request {turn}: {environ}");
            assert_eq!(text("HTTP_HOST"), Some(format!("{b}.test")), "{where_}");
            assert_eq!(text("HTTP_X_A"), Some(a), "{where_}");
            assert_eq!(text("HTTP_X_B"), Some(b.into()), "{where_}");
            let more = expected(matches!(turn % 11, 6 | 7), "more".into());
            assert_eq!(text("HTTP_X_MORE"), more, "{where_}");
            let cookie = expected(turn % 11 != 8, cookie);
            assert_eq!(text("HTTP_COOKIE"), cookie, "{where_}");
            assert_eq!(text("REMOTE_ADDR"), Some("127.0.0.1".into()), "{where_}");
            let port = client.port().to_string();
            assert_eq!(text("REMOTE_PORT"), Some(port), "{where_}");
        }
    }
}

#[test]
fn forwarded_headers_are_believed_from_trusted_peers_alone() {
    let request = "GET /environ HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
    let server = wsgi("sync");
    let (seen, _) = environ(&server, request);
    assert_eq!(
        seen["wsgi.url_scheme"], "https",
        "loopback is trusted by default"
    );
    let stranger = Rgun::app("wsgi:app")
        .args(["--forwarded-allow-ips", "10.0.0.0/8"])
        .start();
    let (seen, _) = environ(&stranger, request);
    assert_eq!(seen["wsgi.url_scheme"], "http");
    // Gunicorn: contradicting schemes are refused.
    let answer = server.connect().ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
    );
    assert_eq!(answer.status(), 400);
}

#[test]
fn a_script_name_from_a_trusted_proxy_is_taken_off_the_path() {
    let server = wsgi("sync");
    let request = "GET /prefix/environ/x HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /prefix\r\n\r\n";
    let (seen, _) = environ(&server, request);
    assert_eq!(seen["SCRIPT_NAME"], "/prefix");
    assert_eq!(seen["PATH_INFO"], "/environ/x");
    // From a stranger it is a header like any other with an underscore: dropped.
    let stranger = Rgun::app("wsgi:app")
        .args(["--forwarded-allow-ips", "10.0.0.0/8"])
        .start();
    let request = "GET /environ/x HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /environ\r\n\r\n";
    let (seen, _) = environ(&stranger, request);
    assert_eq!(
        (&seen["SCRIPT_NAME"], &seen["PATH_INFO"]),
        (&"".into(), &"/environ/x".into())
    );
}

#[test]
fn every_shape_of_a_body_arrives() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        for (path, status, text, end) in [
            ("/hello", 200, "hello world!", End::Length),
            (
                "/write",
                200,
                "written, twice, then returned",
                End::LastChunk,
            ),
            ("/chunks", 200, "one two three", End::LastChunk),
            ("/odd-status", 299, "odd", End::Length),
            ("/replaced", 503, "sorry", End::Length),
        ] {
            let answer = client.get(path);
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (status, text),
                "{path}"
            );
            // A server may know the length of what it was given whole.
            assert!(
                answer.end() == end || answer.end() != End::Close,
                "{driver} {path}"
            );
        }
        assert_eq!(client.get("/odd-status").reason(), "Rather Good");
        assert_eq!(client.get("/late").header("x-late"), Some("yes"));
        assert_eq!(client.get("/empty").text(), "");
        assert_eq!(client.get("/twice").all("set-cookie"), ["a=1", "b=2"]);
    }
}

#[test]
fn http_1_0_gets_no_chunks() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        client.send("GET /chunks HTTP/1.0\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "one two three", "{driver}");
        assert!(answer.header("transfer-encoding").is_none());
    }
}

#[test]
fn files_are_sent_whole() {
    let source = fs::read(crate::harness::apps().join("wsgi.py")).expect("the app itself");
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        assert_eq!(client.get("/file").body(), source, "{driver}");
        assert_eq!(
            client.get("/file-like").body(),
            b"like a file ".repeat(1000),
            "{driver}"
        );
        client.send("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 200);
        assert_eq!(client.get("/hello").text(), "hello world!");
    }
}

#[test]
fn close_is_called_exactly_once_whatever_happens() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        assert_eq!(client.get("/closing?plain").text(), "ab");
        client.send("HEAD /closing-head?head HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response_to("HEAD");
        // Its app fails in mid-body: the answer must not look whole.
        let broken = server.get("/closing-broken?broken").try_response();
        assert!(broken.is_err(), "{driver}: {broken:?}");
        let mut leaves = server.connect();
        leaves.send_get("/closing-big?left");
        until("the answer begins", patience(), || leaves.has_bytes());
        drop(leaves);
        let mut closed = Value::Null;
        until("all four are closed", patience(), || {
            closed = server.get("/closed").response().json();
            closed.as_array().is_some_and(|names| names.len() >= 4)
        });
        let mut names: Vec<&str> = closed
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["broken", "head", "left", "plain"], "{driver}");
        server.wait_for_line("broken in mid-body");
    }
}

#[test]
fn errors_of_the_app_are_500_with_a_traceback_in_the_log() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        for (path, word) in [
            ("/raise", "ValueError: the app is wrong"),
            ("/no-exc-info", "already set"),
            ("/no-start", "start_response"),
            ("/text-body", "bytes"),
            ("/injection", ""),
        ] {
            let answer = server.get(path).response();
            assert_eq!(answer.status(), 500, "{driver} {path}");
            assert!(answer.header("x-injected").is_none());
            assert!(
                !answer.text().contains("Traceback"),
                "the client learns nothing"
            );
            server.wait_for_line(word);
        }
        assert!(server.count_lines("Traceback (most recent call last)") >= 1);
        assert_eq!(server.get("/hello").response().text(), "hello world!");
        assert_eq!(server.booted().len(), 1);
    }
}

#[test]
fn exc_info_after_the_headers_went_cuts_the_connection() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let answer = server.get("/too-late").try_response();
        assert!(answer.is_err(), "{driver}: {answer:?}");
        server.wait_for_line("ValueError: too late");
    }
}

#[test]
fn the_apps_content_length_is_enforced_both_ways() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        // Too long: cut to what was said (and the connection stays in step), or closed; never more than was said.
        let long = client.try_get("/too-long");
        if let Ok(long) = &long {
            assert!(
                long.text() == "four" || long.status() == 500,
                "{driver}: {long:?}"
            );
            if let Ok(next) = client.try_get("/hello") {
                assert_eq!(next.text(), "hello world!", "{driver}");
            }
        }
        // Too short: the client must not take it for whole.
        let short = server.get("/too-short").try_response();
        assert!(
            short.as_ref().map_or(true, |answer| answer.status() == 500),
            "{driver}: {short:?}"
        );
        assert_eq!(server.get("/hello").response().status(), 200);
    }
}

#[test]
fn bodies_are_read_in_every_way() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        for framing in [
            "Content-Length: 26\r\n\r\nabline\nsecond\nthird\nfourth",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabl\r\n10\r\nine\nsecond\nthird\r\n7\r\n\nfourth\r\n0\r\n\r\n",
        ] {
            let answer =
                client.ask(format!("POST /read-ways HTTP/1.1\r\nHost: a\r\n{framing}"));
            assert_eq!(
                answer.json(),
                serde_json::json!(["ab", "line\n", "second\n", ["third\n", "fourth"], "", ""]),
                "{driver}"
            );
        }
    }
}

#[test]
fn large_bodies_arrive_whole() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let mut client = server.connect();
        for length in [0, 1, 65_535, 65_536, 1_048_576, 3_000_000] {
            client.send(format!(
                "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
            ));
            client.send("x".repeat(length));
            assert_eq!(client.response().json()["length"], length, "{driver}");
        }
    }
}

/// The figure: with gevent, 1,000 requests that each sleep 100 ms run at once in one worker.
#[test]
fn a_thousand_waits_run_at_once_in_one_gevent_worker() {
    let _quiet = crate::harness::quiet();
    let server = Rgun::app("wsgi:app")
        .args(["-k", "gevent", "--worker-connections", "1000"])
        .start();
    let mut clients: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    let started = std::time::Instant::now();
    for client in &mut clients {
        client.send_get("/sleep?ms=100");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "slept");
    }
    // One after the other they would take 100 s.
    assert!(
        started.elapsed() < crate::harness::secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_app_runs_in_the_venvs_python_and_but_for_gthread_on_its_main_thread() {
    for driver in DRIVERS {
        let server = wsgi(driver);
        let facts = server.get("/thread").response().json();
        let venv = venv().canonicalize().expect("it exists");
        assert_eq!(facts["prefix"].as_str(), venv.to_str(), "{driver}");
        assert_eq!(facts["main"], driver != "gthread", "{driver}");
        assert_eq!(facts["gevent"], driver == "gevent");
    }
}

#[test]
fn apps_are_named_as_for_gunicorn() {
    for (app, text) in [
        ("hello", "hello world!"),
        ("hello:app", "hello world!"),
        ("both", "application"),
        ("both:app", "app"),
        ("package.inner.site:app", "package.inner.site"),
        ("package.inner.site", "package.inner.site"),
        ("factory:create()", "made."),
        ("factory:create('given')", "given."),
        ("factory:create('given', mark='!')", "given!"),
        ("factory:Holder.app", "held."),
    ] {
        let server = Rgun::app(app).start();
        assert_eq!(server.get("/").response().text(), text, "{app}");
    }
}

#[test]
fn the_current_directory_is_importable_and_chdir_is_heeded() {
    let server = Rgun::app("wsgi:app").start();
    let facts = server.get("/thread").response().json();
    assert_eq!(facts["cwd"].as_str(), crate::harness::apps().to_str());
}

#[test]
fn the_gevent_driver_without_gevent_says_so() {
    // A Python that has no gevent: the venv's, told to ignore its site-packages.
    let rgun = Rgun::binary("hello:app");
    let directory = rgun.directory();
    let status = std::process::Command::new(venv().join("bin/python3"))
        .args(["-m", "venv", "--without-pip"])
        .arg(directory.join("bare"))
        .status()
        .expect("the venv's python runs");
    assert!(status.success());
    let bare = directory.join("bare");
    let server = rgun
        .env("VIRTUAL_ENV", &bare)
        .args(["-k", "gevent"])
        .spawn();
    until("it ends", patience(), || !server.is_running());
    server.wait_for_line("gevent");
    // And `auto` takes the sync driver there.
    let server = Rgun::binary("hello:app")
        .env("VIRTUAL_ENV", &bare)
        .args(["-k", "auto"])
        .start();
    assert_eq!(server.get("/").response().text(), "hello world!");
    server.wait_for_line("Using worker: sync");
}

#[test]
fn a_virtual_environment_that_does_not_exist_is_told() {
    let server = Rgun::binary("hello:app")
        .env("VIRTUAL_ENV", "/does/not/exist")
        .spawn();
    until("it ends or falls back with a word", patience(), || {
        !server.is_running() || server.count_lines("Booting worker") > 0
    });
    server.wait_for_line("/does/not/exist");
}

#[test]
fn the_master_holds_no_app() {
    let server = Rgun::app("flask_hello:app").workers(2).start();
    let maps =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process of ours");
    // Flask brings C extensions that nothing of ours needs.
    assert!(
        server
            .worker_pids()
            .iter()
            .all(|&pid| maps(pid).contains("markupsafe"))
    );
    assert!(!maps(server.pid()).contains("markupsafe"));
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
}
