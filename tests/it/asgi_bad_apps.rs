//! ASGI apps that break the rules: a clear line in the log, the right status or a cut, and the worker lives.

use crate::asgi::{LOOPS, asgi};
use crate::harness::{Client, Rgun, Server, secs};

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// An answer with this status and, if it is no page of ours, this body.
    Answer(u16, &'static str),
    /// A connection that is cut within the answer.
    Cut,
}
use Gets::{Answer, Cut};

const PAGE: Gets = Answer(500, "");

fn got(client: &mut Client, path: &str) -> Gets {
    match client.try_get(path) {
        Ok(answer) if answer.status() == 500 => PAGE,
        Ok(answer) => Answer(answer.status(), answer.text().leak()),
        Err(_) => Cut,
    }
}

/// Asks one worker on each loop for `path`: what the client gets, what the log says, and that the worker goes on.
#[track_caller]
fn check(path: &str, gets: Gets, says: &[&str]) {
    for event_loop in LOOPS {
        let server = asgi("asgi_bad:app", event_loop).start();
        check_on(&server, path, gets, says);
        assert_eq!(
            server.booted().len(),
            1,
            "{event_loop} {path}: the worker died"
        );
    }
}

#[track_caller]
fn check_on(server: &Server, path: &str, gets: Gets, says: &[&str]) {
    assert_eq!(got(&mut server.connect(), path), gets, "{path}");
    for text in says {
        server.wait_for_line(text);
    }
    assert_eq!(
        got(&mut server.connect(), "/good"),
        Answer(200, "good"),
        "after {path}"
    );
}

#[test]
fn an_exception_before_the_answer_is_a_500_with_its_traceback_in_the_log() {
    check(
        "/raises_at_once",
        PAGE,
        &[
            "Error handling request GET /raises_at_once",
            "Traceback (most recent call last):",
            "in raises_at_once",
            "ValueError: at once",
        ],
    );
    check(
        "/raises_later",
        PAGE,
        &["in raises_later", "ValueError: later"],
    );
}

#[test]
fn an_exception_after_the_start_is_a_500_while_nothing_was_sent() {
    // The specification: no head is sent before the first of the body has come.
    check(
        "/raises_after_start",
        PAGE,
        &["ValueError: after the start"],
    );
}

#[test]
fn an_exception_in_the_body_cuts_the_connection() {
    check(
        "/raises_in_body",
        Cut,
        &[
            "Error handling request GET /raises_in_body",
            "ValueError: in the body",
        ],
    );
}

#[test]
fn an_exception_after_the_end_is_logged() {
    check(
        "/raises_after_end",
        Answer(200, "good"),
        &[
            "Error in the application after the end of request GET /raises_after_end:",
            "ValueError: after the end",
        ],
    );
}

#[test]
fn an_app_cannot_end_its_worker() {
    check("/exits", PAGE, &["SystemExit: 9"]);
    check("/exits_later", PAGE, &["SystemExit: 9"]);
    check(
        "/cancels_itself",
        PAGE,
        &["the request's task was cancelled"],
    );
}

#[test]
fn an_app_that_does_not_answer_is_a_500() {
    const SAYS: &str = "the application returned without a response";
    for path in ["/silent", "/silent_later", "/only_start"] {
        check(path, PAGE, &[SAYS]);
    }
}

#[test]
fn an_app_that_stops_within_its_body_is_cut() {
    check(
        "/unfinished",
        Cut,
        &["the application returned before its response was complete"],
    );
}

#[test]
fn messages_out_of_order_raise_in_the_app() {
    const AGAIN: &str = "RuntimeError: Unexpected ASGI message 'http.response.start'";
    check("/starts_twice", PAGE, &[AGAIN]);
    check("/starts_in_body", Cut, &[AGAIN]);
    check(
        "/body_first",
        PAGE,
        &["Unexpected ASGI message 'http.response.body': the response has not started"],
    );
    check(
        "/more_after_end",
        Answer(200, "good"),
        &["Unexpected ASGI message 'http.response.body': the body has ended already"],
    );
    check(
        "/trailers_unasked",
        PAGE,
        &["Unexpected ASGI message 'http.response.trailers'"],
    );
    check(
        "/awaits_twice",
        PAGE,
        &["cannot reuse what has been awaited already"],
    );
}

#[test]
fn messages_that_are_none_raise_in_the_app() {
    check(
        "/unknown_message",
        PAGE,
        &["Unexpected ASGI message 'http.response.dance'"],
    );
    check("/no_type", PAGE, &["KeyError: 'type'"]);
    check(
        "/no_dict",
        PAGE,
        &["TypeError: send() takes a dict, not bytes"],
    );
}

#[test]
fn str_for_bytes_raises_in_the_app() {
    check(
        "/str_body",
        PAGE,
        &["TypeError: the body of a response must be bytes, not str"],
    );
    check(
        "/str_header",
        PAGE,
        &["TypeError: the name of a header must be bytes, not str"],
    );
    check("/odd_header", PAGE, &["a header must be a pair of bytes"]);
}

#[test]
fn a_header_cannot_smuggle_another_one_in() {
    check(
        "/newline_in_header",
        PAGE,
        &["ValueError: Invalid value of header x-evil"],
    );
    check(
        "/newline_at_end_of_header",
        PAGE,
        &["ValueError: Invalid value of header x-evil"],
    );
    check(
        "/newline_in_name",
        PAGE,
        &["ValueError: Invalid header name"],
    );
}

#[test]
fn a_status_that_is_none_raises_in_the_app() {
    check("/bad_status", PAGE, &["ValueError: Invalid status 99"]);
    check("/interim_status", PAGE, &["ValueError: Invalid status 100"]);
    check(
        "/str_status",
        PAGE,
        &["ValueError: Invalid status '200 OK'"],
    );
    check("/no_status", PAGE, &["KeyError: 'status'"]);
}

#[test]
fn a_body_of_another_length_than_announced_is_never_taken_for_the_whole() {
    check("/bad_length", PAGE, &["Content-Length is not one number"]);
    check(
        "/too_short",
        PAGE,
        &["the app's body has 5 bytes, its Content-Length is 10"],
    );
    check(
        "/too_short_in_pieces",
        Cut,
        &["the app's body ended 5 bytes before its Content-Length"],
    );
    check(
        "/too_long",
        Answer(200, "good"),
        &["9 bytes longer than its"],
    );
    check(
        "/too_long_in_pieces",
        Answer(200, "good"),
        &["body is longer than its Content-Length: GET /too_long_in_pieces"],
    );
}

#[test]
fn a_coroutine_that_nobody_awaits_is_warned_of() {
    check(
        "/unawaited",
        Answer(200, "good"),
        &["RuntimeWarning: coroutine 'unawaited.<locals>.forgotten' was never awaited"],
    );
}

#[test]
fn an_app_that_blocks_its_worker_keeps_the_others_waiting_and_no_more() {
    check("/blocks", Answer(200, "good"), &[]);
}

#[test]
fn a_function_that_cannot_be_called_so_is_a_500() {
    for (app, says) in [
        (
            "asgi_bad:two",
            "takes 2 positional arguments but 3 were given",
        ),
        (
            "asgi_bad:not_awaitable",
            "a coroutine was expected, got 'a str'",
        ),
    ] {
        for event_loop in LOOPS {
            let server = Rgun::app(app)
                .args([
                    "-k",
                    "asgi",
                    "--asgi-loop",
                    event_loop,
                    "--asgi-lifespan",
                    "off",
                ])
                .spawn();
            if app == "asgi_bad:two" {
                // Its kind can be seen: it is no ASGI app.
                server.wait_for_line("The application is a WSGI app");
                server.assert_exits(4).within(secs(10));
                continue;
            }
            server.wait_ready(1);
            assert_eq!(got(&mut server.connect(), "/"), PAGE);
            server.wait_for_line(says);
        }
    }
}

#[test]
fn what_cannot_be_called_is_no_app() {
    let server = asgi("asgi_bad:not_callable", "asyncio").spawn();
    server.wait_for_line("Application object must be callable.");
    server.assert_exits(4).within(secs(10));
}
