//! ASGI's HTTP to the letter, over a real socket, on both event loops.

use std::fs;

use serde_json::Value;

use crate::harness::client::End;
use crate::harness::{Client, Rgun, Server, apps, millis, patience, secs, until};

pub(crate) const LOOPS: [&str; 2] = ["asyncio", "uvloop"];

/// An app on one of the loops.
pub(crate) fn asgi(app: &str, event_loop: &str) -> Rgun {
    Rgun::app(app).args(["-k", "asgi", "--asgi-loop", event_loop])
}

fn started(event_loop: &str) -> Server {
    asgi("asgi:app", event_loop).start()
}

/// An answer that is no failure.
#[track_caller]
fn text(client: &mut Client, request: &str) -> String {
    let answer = client.ask(request);
    assert_eq!(answer.status(), 200, "{request}: {}", answer.text());
    answer.text()
}

/// The scope of one request as the app saw it: the `repr` of each value, and its type.
fn scope(server: &Server, request: &str) -> (Value, Value) {
    let answer = server.connect().ask(request);
    assert_eq!(answer.status(), 200, "{request}: {}", answer.text());
    let mut facts = answer.json();
    (facts["scope"].take(), facts["types"].take())
}

#[test]
fn an_answer_is_sent_as_the_app_gave_it() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, "hello world!")
            );
            assert_eq!(answer.end(), End::Length);
            assert_eq!(answer.all("content-length"), ["12"]);
            assert_eq!(answer.all("server"), ["rgun-async"]);
        }
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response_to("HEAD");
        assert_eq!(answer.header("content-length"), Some("12"));
        assert_eq!(
            text(&mut client, "GET /sleep?5 HTTP/1.1\r\nHost: a\r\n\r\n"),
            "slept"
        );
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.response_to("GET").end(), End::Length);
    }
}

#[test]
fn the_scope_is_the_specifications() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let (scope, types) = scope(
            &server,
            "GET /facts/a%20b%2Fc/%c3%a9?q=%20x&y HTTP/1.1\r\nHost: example.com:81\r\n\
             X-Many: a\r\nCookie: a=1\r\nX-Many: b\r\nX-High: \u{e9}\r\n\r\n",
        );
        let port = server.port();
        for (key, value) in [
            ("type", "'http'"),
            ("asgi", "{'version': '3.0', 'spec_version': '2.5'}"),
            ("http_version", "'1.1'"),
            ("method", "'GET'"),
            ("scheme", "'http'"),
            ("path", "'/facts/a b/c/\u{e9}'"),
            ("raw_path", "b'/facts/a%20b%2Fc/%c3%a9'"),
            ("query_string", "b'q=%20x&y'"),
            ("root_path", "''"),
            ("server", &format!("('127.0.0.1', {port})")),
            ("state", "{}"),
        ] {
            assert_eq!(scope[key], value, "{event_loop}: {key}");
        }
        let headers = scope["headers"].as_str().expect("a repr");
        for pair in [
            "(b'host', b'example.com:81')",
            "(b'x-many', b'a')",
            "(b'x-many', b'b')",
            "(b'cookie', b'a=1')",
            r"(b'x-high', b'\xc3\xa9')",
        ] {
            assert!(headers.contains(pair), "{event_loop}: {pair} in {headers}");
        }
        assert!(
            scope["client"]
                .as_str()
                .is_some_and(|client| client.starts_with("('127.0.0.1', ")),
            "{}",
            scope["client"]
        );
        let extensions = scope["extensions"].as_str().expect("a repr");
        for name in ["http.response.pathsend", "http.response.early_hint"] {
            assert!(extensions.contains(name), "{extensions}");
        }
        assert!(!extensions.contains("trailers"), "{extensions}");
        for (key, kind) in [
            ("headers", "list"),
            ("client", "tuple"),
            ("raw_path", "bytes"),
        ] {
            assert_eq!(types[key], kind, "{event_loop}: {key}");
        }
    }
}

#[test]
fn a_header_of_one_request_is_not_in_the_next() {
    let server = started("asyncio");
    let mut client = server.connect();
    client.ask("POST /facts?a=b HTTP/1.0\r\nHost: one\r\nX-Secret: 1\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc");
    let facts = client
        .ask("GET /facts HTTP/1.1\r\nHost: two\r\n\r\n")
        .json();
    assert_eq!(facts["scope"]["headers"], "[(b'host', b'two')]");
    assert_eq!(facts["scope"]["method"], "'GET'");
    assert_eq!(facts["scope"]["http_version"], "'1.1'");
    assert_eq!(facts["scope"]["query_string"], "b''");
}

#[test]
fn a_root_path_is_at_the_front_of_the_path_once() {
    let server = Rgun::app("asgi_scope:app")
        .args(["-k", "asgi", "--root-path", "/api/"])
        .start();
    for (sent, path) in [
        ("/facts", "'/api/facts'"),
        ("/api/facts", "'/api/facts'"),
        ("/apix/facts", "'/api/apix/facts'"),
        ("/api", "'/api'"),
    ] {
        let (scope, _) = scope(&server, &format!("GET {sent} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(scope["path"], path, "{sent}");
        assert_eq!(scope["root_path"], "'/api'");
    }
    // As with WSGI, a trusted proxy may say where the app is mounted.
    let (scope, _) = scope(
        &server,
        "GET /x HTTP/1.1\r\nHost: a\r\nScript_Name: /shop\r\n\r\n",
    );
    assert_eq!(scope["root_path"], "'/shop'");
    assert_eq!(scope["path"], "'/shop/x'");
}

#[test]
fn a_trusted_proxy_tells_the_scheme_and_others_do_not() {
    const REQUEST: &str = "GET /facts HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
    let trusting = started("asyncio");
    assert_eq!(scope(&trusting, REQUEST).0["scheme"], "'https'");
    let wary = Rgun::app("asgi:app")
        .args(["-k", "asgi", "--forwarded-allow-ips", "10.0.0.1"])
        .start();
    assert_eq!(scope(&wary, REQUEST).0["scheme"], "'http'");
}

#[test]
fn a_unix_socket_has_a_path_and_no_client() {
    let rgun = asgi("asgi:app", "asyncio");
    let socket = rgun.directory().join("server.sock");
    let server = rgun.bind(format!("unix:{}", socket.display())).start();
    let (scope, _) = scope(&server, "GET /facts HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(scope["client"], "None");
    assert_eq!(scope["server"], format!("('{}', None)", socket.display()));
}

#[test]
fn every_request_has_a_context_and_a_real_task_of_its_own() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        for value in ["a", "b", "c"] {
            let request = format!("GET /context?{value} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(text(&mut client, &request), "nothing Task True True");
        }
    }
}

#[test]
fn what_an_app_keeps_of_a_request_leads_to_no_other() {
    let server = started("asyncio");
    let mut client = server.connect();
    assert_eq!(client.get("/kept").text(), "1 []");
    assert_eq!(client.get("/kept").text(), "1 ['RuntimeError']");
    assert_eq!(
        client.get("/kept").text(),
        "1 ['RuntimeError', 'RuntimeError']"
    );
}

#[test]
fn a_body_comes_whole_in_pieces_and_in_chunks() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        assert_eq!(
            text(
                &mut client,
                "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
            ),
            "4 bytes in 1 messages"
        );
        assert_eq!(
            text(
                &mut client,
                "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            ),
            "abcde"
        );
        assert_eq!(
            text(&mut client, "GET /count HTTP/1.1\r\nHost: a\r\n\r\n"),
            "0 bytes in 1 messages"
        );
        let body = "x".repeat(1_000_000);
        let request =
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{body}");
        assert!(text(&mut client, &request) == body);
        // The connection goes on.
        assert_eq!(client.get("/").text(), "hello world!");
    }
}

#[test]
fn a_message_is_answered_before_the_next_one_is_sent() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send("POST /piecewise HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
        for piece in ["ab", "cd", "ef"] {
            client.send(piece);
            client.wait_for_bytes(&format!("{piece}\r\n"));
        }
    }
}

#[test]
fn a_client_that_waits_to_continue_is_told_so_by_an_app_that_reads() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        let head = |path| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
            )
        };
        client.send(head("/echo"));
        assert_eq!(
            client.one_response("POST").expect("an answer").status(),
            100
        );
        client.send("body");
        assert_eq!(client.response_to("POST").text(), "body");
        client.send(head("/hello"));
        assert_eq!(
            client.one_response("POST").expect("an answer").status(),
            200
        );
    }
}

#[test]
fn an_upload_waits_for_the_app() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send(format!(
            "POST /sleep?2000 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            256 << 20
        ));
        // Nobody reads: what the sockets hold is all that goes.
        let sent = client.send_until_blocked(millis(500));
        assert!(sent < 64 << 20, "{event_loop}: {sent} bytes were taken");
    }
}

#[test]
fn a_receive_that_is_given_up_loses_nothing() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send("POST /timed HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
        server.wait_for_line("gave up");
        client.send("body");
        assert_eq!(client.response_to("POST").text(), "body after 1");
    }
}

#[test]
fn a_response_is_streamed_as_the_app_sends_it() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send_get("/streams?400");
        client.wait_for_bytes("one \r\n");
        assert!(
            client.stays_silent_for(millis(100)),
            "{event_loop}: sent too early"
        );
        let answer = server.get("/streams?1").response();
        assert_eq!(
            (answer.text().as_str(), answer.end()),
            ("one two three", End::LastChunk)
        );
        let mut old = server.connect();
        old.send("GET /streams?1 HTTP/1.0\r\n\r\n");
        let answer = old.response_to("GET");
        assert_eq!(
            (answer.text().as_str(), answer.end()),
            ("one two three", End::Close)
        );
        let mut client = server.connect();
        client.send("HEAD /streams?1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 200);
        assert_eq!(client.get("/").text(), "hello world!");
        assert_eq!(server.count_lines("ERROR"), 0);
    }
}

#[test]
fn an_app_waits_for_a_client_that_does_not_read() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send_get("/flood");
        server.wait_for_line("flooded 1");
        until("the app has to wait", patience(), || {
            let before = server.count_lines("flooded");
            std::thread::sleep(millis(200));
            server.count_lines("flooded") == before
        });
        let flooded = server.count_lines("flooded");
        assert!(
            flooded < 32,
            "{event_loop}: {flooded} MiB went to a client that reads none"
        );
        let answer = client.response_to("GET");
        assert_eq!(answer.body().len(), 64 << 20, "{event_loop}");
    }
}

#[test]
fn bodiless_answers_take_what_the_app_sends_and_send_none() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        for status in [204, 304] {
            let answer = client.get(&format!("/nothing?{status}"));
            assert_eq!((answer.status(), answer.end()), (status, End::Bodiless));
        }
        assert_eq!(client.get("/nothing?200").text(), "abcde");
        assert_eq!(server.count_lines("ERROR"), 0);
    }
}

#[test]
fn an_answer_before_the_body_was_read_ends_the_request() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        let request = "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nunread";
        assert_eq!(text(&mut client, &request[..request.len() - 1]), "early");
        server.wait_for_line("after the answer: http.disconnect");
        assert_eq!(client.get("/").text(), "hello world!");
    }
}

#[test]
fn an_app_that_reads_on_after_all_it_announced_is_not_left_waiting() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send("POST /sated HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
        assert_eq!(client.response_to("POST").text(), "full");
        server.wait_for_line("then came http.");
    }
}

#[test]
fn an_app_hears_that_its_client_has_gone() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        for request in [
            "GET /leave HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /leave HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
        ] {
            let before = server.count_lines("send raised ClientDisconnected");
            let mut client = server.connect();
            client.send(request);
            server.wait_for_line("waiting");
            drop(client);
            server.wait_for_lines("heard http.disconnect", before + 1);
            server.wait_for_lines("send raised ClientDisconnected", before + 1);
        }
        assert_eq!(server.count_lines("ERROR"), 0, "{event_loop}");
    }
}

#[test]
fn an_app_that_does_not_listen_is_cancelled_after_the_grace_period() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop)
            .args(["--asgi-disconnect-grace-period", "0.2"])
            .start();
        let mut client = server.connect();
        client.send_get("/deaf");
        server.wait_for_line("deaf");
        drop(client);
        server.wait_for_line("cancelled");
        assert_eq!(server.count_lines("ERROR"), 0, "{event_loop}");
    }
}

#[test]
fn a_client_that_closes_its_half_gets_a_quick_answer() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send_get("/sleep?300");
        client.half_close();
        assert_eq!(client.response_to("GET").text(), "slept");
    }
}

#[test]
fn work_after_the_answer_is_not_cut_as_its_client_has_left() {
    for event_loop in LOOPS {
        let server = asgi("asgi:app", event_loop)
            .args(["--asgi-disconnect-grace-period", "0.3"])
            .start();
        let mut client = server.connect();
        client.send_get("/half");
        client.half_close();
        assert_eq!(client.response_to("GET").text(), "in time");
        server.wait_for_line("worked on");
    }
}

#[test]
fn an_app_that_gives_up_receiving_again_and_again_leaves_nothing_behind() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        assert_eq!(
            server.get("/patient").response().text(),
            "True",
            "{event_loop}"
        );
    }
}

#[test]
fn a_client_that_goes_in_the_midst_of_a_stream_ends_it() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send_get("/chatty");
        client.wait_for_bytes("chat");
        drop(client);
        server.wait_for_line("chat ended by ClientDisconnected");
        assert_eq!(server.count_lines("ERROR"), 0, "{event_loop}");
    }
}

#[test]
fn a_request_behind_one_whose_client_waits_is_answered_too() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send("GET /sleep?100 HTTP/1.1\r\nHost: a\r\n\r\n");
        server.get("/").response();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.half_close();
        assert_eq!(client.response_to("GET").text(), "slept");
        assert_eq!(client.response_to("GET").text(), "hello world!");
        assert!(client.closes_within(secs(5)));
    }
}

#[test]
fn a_broken_body_is_no_end_to_the_app_and_400_to_the_client() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        let answer = client.ask(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        );
        assert_eq!(answer.status(), 400, "{event_loop}");
        let server = asgi("asgi:app", event_loop)
            .args(["--limit-request-body", "10"])
            .start();
        let answer = server.connect().ask(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             10\r\n0123456789abcdef\r\n0\r\n\r\n",
        );
        assert_eq!(answer.status(), 413, "{event_loop}");
    }
}

#[test]
fn early_hints_come_before_the_answer() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        for path in ["/hints", "/hints?100"] {
            let mut client = server.connect();
            client.send_get(path);
            for _ in 0..2 {
                let hint = client.one_response("GET").expect("a hint");
                assert_eq!(hint.status(), 103);
                assert_eq!(
                    hint.all("link"),
                    ["</a.css>; rel=preload", "</b.js>; rel=preload"]
                );
            }
            let answer = client.one_response("GET").expect("an answer");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hinted"));
            assert_eq!(answer.header("x-final"), Some("1"));
        }
        let mut old = server.connect();
        old.send("GET /hints HTTP/1.0\r\n\r\n");
        let answer = old.one_response("GET").expect("an answer");
        assert_eq!(answer.status(), 200, "HTTP/1.0 knows no interim answers");
    }
}

#[test]
fn early_hints_do_not_come_into_an_earlier_answer() {
    let server = started("asyncio");
    let mut client = server.connect();
    client.send(
        "GET /path HTTP/1.1\r\nHost: a\r\n\r\nGET /hints HTTP/1.1\r\nHost: a\r\n\r\n\
         GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let file = fs::read(apps().join("asgi.py")).expect("the app's source");
    assert_eq!(client.response_to("GET").body(), file);
    assert_eq!(client.response_to("GET").text(), "hinted");
    assert_eq!(client.response_to("GET").text(), "hello world!");
}

#[test]
fn a_path_is_sent_by_the_server() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        let file = fs::read(apps().join("asgi.py")).expect("the app's source");
        let answer = client.get("/path");
        assert_eq!(answer.body(), file);
        assert_eq!(answer.end(), End::Length);
        assert_eq!(client.get("/nopath").text(), "not there");
        client.send("HEAD /path HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response_to("HEAD");
        assert_eq!(
            answer.header("content-length"),
            Some(&*file.len().to_string())
        );
    }
}

#[test]
fn trailers_are_sent_to_who_takes_them() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut client = server.connect();
        client.send(
            "GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n",
        );
        let all = String::from_utf8(client.rest().expect("an answer")).expect("text");
        assert!(
            all.ends_with("0\r\nx-sum: 2\r\n\r\n"),
            "{event_loop}: {all:?}"
        );
        let answer = server.get("/trailers").response();
        assert_eq!(
            (answer.text().as_str(), answer.end()),
            ("one two", End::LastChunk)
        );
        let (scope, _) = scope(
            &server,
            "GET /facts HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        );
        let extensions = scope["extensions"].as_str().expect("a repr");
        assert!(
            extensions.contains("http.response.trailers"),
            "{extensions}"
        );
    }
}

#[test]
fn an_app_may_be_any_callable_that_gives_an_awaitable() {
    for (app, answer) in [
        ("asgi:by_method", "by a method"),
        ("asgi:by_awaitable", "by an awaitable"),
    ] {
        for event_loop in LOOPS {
            let server = asgi(app, event_loop)
                .args(["--asgi-lifespan", "off"])
                .start();
            assert_eq!(server.get("/").response().text(), answer);
        }
    }
}

#[test]
fn hundreds_of_requests_wait_at_once_in_one_worker() {
    for event_loop in LOOPS {
        let server = started(event_loop);
        let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
        let begin = std::time::Instant::now();
        for client in &mut clients {
            client.send_get("/sleep?500");
        }
        for client in &mut clients {
            assert_eq!(client.response_to("GET").text(), "slept");
        }
        assert!(
            begin.elapsed() < secs(20),
            "{event_loop}: one after another"
        );
    }
}
