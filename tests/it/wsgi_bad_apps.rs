//! WSGI apps that break PEP 3333: a clear log line, the right status or a cut connection, `close()` once, and a worker that
//! lives; the same under every driver.

use std::collections::BTreeSet;

use crate::harness::{Rgun, Server, patience, until};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

fn start(driver: &str) -> Server {
    Rgun::app("bad:app").args(["-k", driver]).start()
}

/// What a client gets.
#[derive(Debug, PartialEq, Eq)]
enum Gets {
    /// This status; a body of ours where it is 500.
    Answer(u16, &'static str),
    /// These bytes of a 200, and then a cut connection.
    Cut(&'static str),
}

use Gets::{Answer, Cut};

/// Our page says nothing of the app.
const PAGE: Gets = Answer(500, "Internal Server Error");

/// How often `close()` is called: not at all where the server never got to see an object that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    Once,
    Never,
}

use Closed::{Never, Once};

struct Case {
    path: &'static str,
    gets: Gets,
    log: &'static str,
    closed: Closed,
}

const fn case(path: &'static str, gets: Gets, log: &'static str, closed: Closed) -> Case {
    Case {
        path,
        gets,
        log,
        closed,
    }
}

/// What the client gets for `path`, and whether that is what it should.
fn check(server: &Server, driver: &str, case: &Case) {
    let Case {
        path, gets, closed, ..
    } = case;
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    match gets {
        Answer(status, text) => {
            let answer = client.response();
            assert_eq!(answer.status(), *status, "{driver} {path}");
            assert!(answer.text().contains(text), "{driver} {path}: {answer:?}");
            assert!(
                answer.header("x-injected").is_none() && !answer.text().contains("Traceback"),
                "{driver} {path}: {answer:?}"
            );
        }
        Cut(text) => {
            let error = client.try_response("GET").expect_err(path);
            let mut client = server.connect();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            ));
            assert!(
                error.contains("eof")
                    || error.contains("end of file")
                    || error.contains("reset"),
                "{driver} {path}: {error}"
            );
            // What came before the error has come.
            let seen = client.until_end();
            let seen = String::from_utf8_lossy(&seen);
            assert!(
                seen.starts_with("HTTP/1.1 200") && seen.contains(text),
                "{driver} {path}: {seen:?}"
            );
        }
    }
    server.wait_for_line(case.log);
    let wanted = match (closed, gets) {
        (Never, _) => 0,
        (Once, Answer(..)) => 1,
        (Once, Cut(_)) => 2,
    };
    let plain = path.split('?').next().expect("a path");
    let mut seen = Vec::new();
    until("what was returned is closed", patience(), || {
        let closed = server.get("/closed").response().json();
        for name in closed.as_array().expect("a list") {
            seen.push(name.as_str().expect("a name").to_owned());
        }
        seen.len() >= wanted
    });
    assert_eq!(seen, vec![plain.to_owned(); wanted], "{driver} {path}");
}

fn check_all(cases: &[Case]) {
    for driver in DRIVERS {
        let server = start(driver);
        let before = server.worker_pids();
        for case in cases {
            check(&server, driver, case);
        }
        // Had anything been closed a second time, it would be here by now.
        assert_eq!(
            server.get("/closed").response().text(),
            "[]",
            "{driver}: closed twice"
        );
        assert_eq!(server.get("/").response().text(), "hello world!");
        assert_eq!(server.worker_pids(), before, "{driver}: the worker lives");
    }
}

#[test]
fn an_app_that_is_not_callable_is_exit_code_4() {
    for driver in DRIVERS {
        let server = Rgun::app("bad:not_callable").args(["-k", driver]).spawn();
        server.assert_exits(4).within(patience());
        server.wait_for_line("Application object must be callable.");
    }
}

#[test]
fn what_is_returned_must_be_an_iterable_of_bytes() {
    check_all(&[
        case(
            "/none",
            PAGE,
            "returned NoneType, which is no iterable",
            Never,
        ),
        case("/number", PAGE, "returned int, which is no iterable", Never),
        case(
            "/not-iterable",
            PAGE,
            "returned NotIterable, which is no",
            Once,
        ),
        case("/text", PAGE, "chunks must be bytes, not str", Never),
        case("/text-chunk", PAGE, "request GET /text-chunk", Once),
        case("/text-later", Cut("bytes"), "request GET /text-later", Once),
        case("/text-written", PAGE, "write() takes bytes, not str", Never),
    ]);
}

#[test]
fn heads_that_no_client_may_see_are_500() {
    check_all(&[
        case(
            "/newline",
            PAGE,
            "ValueError: Invalid value of header 'X-Bad'",
            Never,
        ),
        case(
            "/newline-in-name",
            PAGE,
            r"ValueError: Invalid header name 'X-Bad\r\n",
            Never,
        ),
        case(
            "/newline-in-status",
            PAGE,
            r"ValueError: Invalid status '200 OK\r\n",
            Never,
        ),
        case(
            "/bytes-value",
            PAGE,
            "TypeError: b'bytes' is not a string",
            Never,
        ),
        case(
            "/bytes-name",
            PAGE,
            "TypeError: b'X-Bad' is not a string",
            Never,
        ),
        case("/number-value", PAGE, "TypeError: 5 is not a string", Never),
        case("/not-latin1", PAGE, "request GET /not-latin1", Never),
        case(
            "/no-pair",
            PAGE,
            "a header must be a (name, value) tuple, not str",
            Never,
        ),
        case("/none-headers", PAGE, "request GET /none-headers", Never),
        case("/no-number", PAGE, "ValueError: Invalid status 'OK'", Never),
        case(
            "/number-status",
            PAGE,
            "TypeError: 200 is not a string",
            Never,
        ),
        case(
            "/interim",
            PAGE,
            "ValueError: Invalid status '100 Continue'",
            Never,
        ),
        case(
            "/two-lengths",
            PAGE,
            "Invalid value of header 'Content-Length'",
            Never,
        ),
    ]);
}

#[test]
fn start_response_is_called_once_and_in_time() {
    let never = "the application returned without having called start_response()";
    check_all(&[
        case("/no-start", PAGE, never, Once),
        case("/no-start-empty", PAGE, "request GET /no-start-empty", Once),
        case("/no-start-list", PAGE, "request GET /no-start-list", Never),
        case(
            "/written-too-early",
            PAGE,
            "write() before start_response()",
            Never,
        ),
        case(
            "/twice",
            PAGE,
            "AssertionError: Response headers already set!",
            Never,
        ),
    ]);
}

#[test]
fn exc_info_replaces_a_head_that_is_not_out_and_is_raised_after_that() {
    for driver in DRIVERS {
        let server = start(driver);
        let answer = server.get("/exc-info-before").response();
        assert_eq!(
            (answer.status(), answer.reason()),
            (503, "Sorry"),
            "{driver}"
        );
        assert_eq!(answer.text(), "replaced");
        assert_eq!(
            server.count_lines("before the head went"),
            0,
            "no error of ours"
        );
        let line = "TypeError: exc_info must be what sys.exc_info() returns";
        let answer = server.get("/exc-info-wrong").response();
        // Before the head is out nobody looks at it.
        assert_eq!(
            (answer.status(), server.count_lines(line)),
            (503, 0),
            "{driver}"
        );
    }
    check_all(&[case(
        "/exc-info-after",
        Cut("begun"),
        "ValueError: after the head went",
        Once,
    )]);
}

#[test]
fn exceptions_are_500_before_the_head_and_a_cut_after() {
    check_all(&[
        case("/raises", PAGE, "ValueError: raised at once", Never),
        case(
            "/raises-started",
            PAGE,
            "ValueError: raised after start_response",
            Never,
        ),
        case("/raises-first", PAGE, "ValueError: raised at first", Once),
        case(
            "/raises-later",
            Cut("begun"),
            "ValueError: raised in the middle",
            Once,
        ),
        // Nothing is missing for the client.
        case(
            "/raises-at-the-end",
            Answer(200, "whole"),
            "ValueError: raised at the end",
            Once,
        ),
        case(
            "/raises-in-close",
            Answer(200, "whole"),
            "ValueError: raised in close",
            Once,
        ),
    ]);
}

#[test]
fn a_body_is_as_long_as_its_content_length_or_cut() {
    let longer = "longer than its Content-Length";
    check_all(&[
        case(
            "/longer",
            Answer(200, "four"),
            "request GET /longer: the app's body",
            Once,
        ),
        case("/longer-later", Answer(200, "four"), longer, Once),
        case(
            "/longer-list",
            Answer(200, "four"),
            "request GET /longer-list: ",
            Never,
        ),
        case(
            "/shorter",
            Cut("four"),
            "GET /shorter: the app's body ended 36 bytes before its Content-Length",
            Once,
        ),
        case(
            "/shorter-list",
            PAGE,
            "the app's body has 4 bytes, its Content-Length is 40",
            Never,
        ),
        case(
            "/shorter-empty",
            PAGE,
            "the app's body has 0 bytes, its Content-Length is 40",
            Once,
        ),
    ]);
    for driver in DRIVERS {
        let server = start(driver);
        let mut client = server.connect();
        // The connection stays in step, whatever the app has added.
        for path in ["/longer", "/longer-later", "/longer-list", "/"] {
            let text = if path == "/" { "hello world!" } else { "four" };
            assert_eq!(client.get(path).text(), text, "{driver} {path}");
        }
        server.wait_for_line(
            "An application's body is longer than its Content-Length: GET /longer-later",
        );
    }
}

#[test]
fn what_fails_after_the_answer_is_told_with_its_request() {
    for driver in DRIVERS {
        let server = start(driver);
        for (path, line) in [
            ("/raises-at-the-end?1", "Error after the end of a response"),
            ("/raises-in-close?2", "Error closing a response"),
        ] {
            assert_eq!(server.get(path).response().text(), "whole", "{driver}");
            server.wait_for_line(&format!("{line}: GET {path}"));
        }
    }
}

#[test]
fn exceptions_that_end_programs_end_requests() {
    for name in ["SystemExit", "KeyboardInterrupt", "GeneratorExit"] {
        let path = |when: &str| -> &'static str {
            Box::leak(format!("/exits?how={name}&when={when}").into_boxed_str())
        };
        check_all(&[
            case(path("called"), PAGE, path("called"), Never),
            case(path("first"), PAGE, path("first"), Once),
            case(path("middle"), Cut("begun"), path("middle"), Once),
            case(
                path("close"),
                Answer(200, "whole"),
                "Error closing a response",
                Once,
            ),
        ]);
    }
}

#[test]
fn a_body_whose_client_leaves_is_closed_once() {
    for driver in DRIVERS {
        let server = start(driver);
        for _ in 0..3 {
            let mut client = server.connect();
            client.send_get("/endless");
            until("the answer begins", patience(), || client.has_bytes());
        }
        let mut seen = Vec::new();
        until("all are closed", patience(), || {
            let closed = server.get("/closed").response().json();
            seen.extend(
                closed
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(ToString::to_string),
            );
            seen.len() >= 3
        });
        assert_eq!(server.get("/closed").response().text(), "[]", "{driver}");
        let kinds: BTreeSet<_> = seen.iter().map(String::as_str).collect();
        assert_eq!((seen.len(), kinds.len()), (3, 1), "{driver}: {seen:?}");
    }
}
