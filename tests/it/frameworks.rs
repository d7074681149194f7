//! Small real apps of the frameworks that people use, under the drivers that can serve them.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::frames::{Frames, frame};
use crate::harness::{Browser, Rgun, Server, apps, patience, until};

const WSGI: [&[&str]; 3] = [
    &["-k", "sync"],
    &["-k", "gevent"],
    &["-k", "gthread", "--threads", "4"],
];
const ASGI: [&[&str]; 2] = [
    &["-k", "asgi", "--asgi-loop", "asyncio"],
    &["-k", "asgi", "--asgi-loop", "uvloop"],
];

/// One worker, so what the app remembers is the same for all.
fn serve(app: &str, driver: &[&str]) -> Server {
    Rgun::app(app)
        .chdir(apps().join("frameworks"))
        .args(driver)
        .args(["--keep-alive", "30"])
        .start()
}

fn browser(server: &Server) -> Browser {
    Browser::of(server, "site.test")
}

fn stop(server: &Server) {
    assert_eq!(server.booted().len(), 1, "no worker died");
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
}

#[test]
fn flask_keeps_sessions_and_logs_people_in() {
    for driver in WSGI {
        let server = serve("flask_notes:app", driver);
        let (mut ann, mut bob) = (browser(&server), browser(&server));
        assert_eq!(ann.get("/").text(), "visit 1");
        assert_eq!(ann.get("/").text(), "visit 2");
        assert_eq!(bob.get("/").text(), "visit 1");
        assert_eq!(bob.get("/private").status(), 401);
        let wrong = ann.post_form("/login", &[("name", "ann"), ("password", "x")]);
        assert_eq!(wrong.status(), 403);
        let right = ann.post_form("/login", &[("name", "Änn & co"), ("password", "sesame")]);
        assert_eq!(
            (right.status(), right.header("location")),
            (302, Some("/private"))
        );
        assert_eq!(ann.get("/private").text(), "for Änn & co: welcome");
        assert_eq!(ann.get("/private").text(), "for Änn & co: ");
        stop(&server);
    }
}

#[test]
fn flask_takes_files_and_refuses_too_much() {
    let small = b"small\r\n--not a boundary\r\n".as_slice();
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    for driver in WSGI {
        let server = serve("flask_notes:app", driver);
        let mut browser = browser(&server);
        let answer = browser.upload(
            "/upload",
            &[("note", "two files")],
            &[("a", "small.txt", small), ("b", "large.bin", &large)],
        );
        assert_eq!(answer.status(), 201);
        let told = answer.json();
        assert_eq!(told["form"], json!({"note": "two files"}));
        assert_eq!(told["files"]["a"]["size"], small.len());
        assert_eq!(told["files"]["a"]["filename"], "small.txt");
        assert_eq!(told["files"]["b"]["size"], large.len());
        assert_eq!(
            told["files"]["b"]["digest"],
            crate::shop::digest(&large),
            "{driver:?}"
        );
        let too_much = vec![b'x'; 17 * 1024 * 1024];
        let refused = browser.upload("/upload", &[], &[("a", "a", &too_much)]);
        assert_eq!(refused.status(), 413, "{driver:?}");
        assert_eq!(browser.get("/").text(), "visit 1", "{driver:?}");
        stop(&server);
    }
}

#[test]
fn flask_streams_sends_files_and_tells_errors() {
    let source =
        std::fs::read(apps().join("frameworks/flask_notes.py")).expect("the app itself");
    for driver in WSGI {
        let server = serve("flask_notes:app", driver);
        let mut browser = browser(&server);
        let stream = browser.get("/stream?lines=5000");
        assert_eq!(stream.text().lines().count(), 5000, "{driver:?}");
        assert!(stream.text().ends_with("/stream 4999\n"));
        let file = browser.get("/file");
        assert_eq!(file.body(), source);
        let etag = file.header("etag").expect("a tag").to_owned();
        let same = browser.ask("GET", "/file", &[("If-None-Match", &etag)], b"");
        assert_eq!(same.status(), 304);
        let part = browser.ask("GET", "/file", &[("Range", "bytes=3-9")], b"");
        assert_eq!((part.status(), part.body()), (206, &source[3..10]));
        assert_eq!(browser.get("/nowhere").text(), "no page /nowhere");
        let broken = browser.get("/broken");
        assert_eq!(
            (broken.status(), broken.text().as_str()),
            (500, "sorry: this page is broken")
        );
        server.wait_for_line("ValueError: this page is broken");
        // The requests' teardown ran.
        let ended = browser.get("/ended").json();
        for entry in [
            json!(["/stream", "NoneType"]),
            json!(["/broken", "ValueError"]),
        ] {
            let told = ended.as_array().expect("a list").contains(&entry);
            assert!(told, "{driver:?}: {entry} is not in {ended}");
        }
        stop(&server);
    }
}

#[test]
fn fastapi_validates_injects_and_answers_afterwards() {
    for driver in ASGI {
        let server = serve("fastapi_orders:app", driver);
        server.wait_for_line("orders: opened");
        let mut browser = browser(&server);
        let key = [("X-Key", "7"), ("Content-Type", "application/json")];
        let mut order = |text: &str| browser.ask("POST", "/orders", &key, text.as_bytes());
        let made = order(r#"{"item": "teapot", "count": 3}"#);
        assert_eq!(made.status(), 201, "{}", made.text());
        assert_eq!(
            made.json(),
            json!({"number": 1, "order": {"item": "teapot", "count": 3}, "who": "customer 7"})
        );
        let bad = order(r#"{"item": "x", "count": 0}"#);
        assert_eq!(bad.status(), 422);
        assert_eq!(bad.json()["detail"].as_array().map(Vec::len), Some(2));
        assert_eq!(order("{not json").status(), 422);
        let sold_out = order(r#"{"item": "unicorn", "count": 1}"#);
        assert_eq!(
            (sold_out.status(), sold_out.json()),
            (409, json!({"sold_out": "unicorn"}))
        );
        let stranger = browser.post_json("/orders", &json!({"item": "teapot", "count": 1}));
        assert_eq!(stranger.status(), 401, "the dependency refuses");
        assert_eq!(
            browser.get("/orders/1").json(),
            json!({"item": "teapot", "count": 3})
        );
        assert_eq!(
            browser.get("/orders/1?fields=count&fields=none").json(),
            json!({"count": 3})
        );
        assert_eq!(browser.get("/orders/0").status(), 422);
        assert_eq!(browser.get("/orders/9").status(), 404);
        until("the background task has run", patience(), || {
            browser.get("/audit").json() == json!(["customer 7 ordered 3 teapot"])
        });
        assert_eq!(browser.get("/threaded").json(), json!({"main": false}));
        stop(&server);
        server.wait_for_line("orders: closed");
    }
}

#[test]
fn fastapi_streams_takes_files_and_fails_legibly() {
    let bytes = vec![0x5a; 4_000_003];
    for driver in ASGI {
        let server = serve("fastapi_orders:app", driver);
        let mut browser = browser(&server);
        let told = browser
            .upload("/digest", &[], &[("file", "a.bin", &bytes)])
            .json();
        assert_eq!(told["size"], bytes.len());
        assert_eq!(told["digest"], crate::shop::digest(&bytes), "{driver:?}");
        let rows = browser.get("/export?lines=20000");
        assert_eq!(rows.text().lines().count(), 20_000, "{driver:?}");
        assert!(rows.text().ends_with("row 19999\n"));
        assert_eq!(rows.header("transfer-encoding"), Some("chunked"));
        let broken = browser.get("/broken");
        assert_eq!(broken.status(), 500);
        server.wait_for_line("RuntimeError: this path is broken");
        assert_eq!(
            browser.get("/openapi.json").json()["info"]["title"],
            "Orders"
        );
        stop(&server);
    }
}

#[test]
fn starlettes_middleware_static_files_and_sessions_work() {
    for driver in ASGI {
        let server = serve("starlette_board:app", driver);
        let mut browser = browser(&server);
        for visit in 1..=3 {
            let front = browser.get("/");
            assert_eq!(front.text(), format!("visit {visit}"));
            assert_eq!(front.header("x-signed"), Some("board"));
            assert!(front.header("x-took").is_some());
        }
        let banned = browser.ask("GET", "/", &[("X-Banned", "1")], b"");
        assert_eq!((banned.status(), banned.text().as_str()), (403, "go away"));
        let plain = browser.get("/long");
        let zipped = browser.ask("GET", "/long", &[("Accept-Encoding", "gzip")], b"");
        assert_eq!(plain.body().len(), 21_000);
        assert_eq!(zipped.header("content-encoding"), Some("gzip"));
        assert_eq!(zipped.body().get(..2), Some(b"\x1f\x8b".as_slice()));
        let css = browser.get("/static/shop.css");
        assert_eq!(
            css.body(),
            std::fs::read(apps().join("frameworks/shop/static/shop.css")).expect("the file")
        );
        let etag = css.header("etag").expect("a tag").to_owned();
        let same = browser.ask("GET", "/static/shop.css", &[("If-None-Match", &etag)], b"");
        assert_eq!(same.status(), 304);
        assert_eq!(browser.get("/static/none.css").status(), 404);
        let sent = vec![b'x'; 2_000_000];
        let measured = browser.ask("POST", "/measure", &[], &sent).json();
        assert_eq!(measured["size"], sent.len());
        assert!(
            measured["pieces"].as_u64() > Some(1),
            "it came as it was sent"
        );
        let scope = browser.get("/scope/a%20b/%C3%A9?q=%20x").json();
        assert_eq!(scope["path"], "/scope/a b/\u{e9}");
        assert_eq!(scope["raw_path"], "/scope/a%20b/%C3%A9");
        assert_eq!(scope["query"], "q=%20x");
        assert_eq!(scope["root_path"], "");
        assert_eq!(scope["client"], "127.0.0.1");
        assert_eq!(scope["server"], json!(["127.0.0.1", server.port()]));
        let url = scope["url"].as_str().expect("text");
        assert!(url.starts_with("http://site.test/scope/a"), "{url}");
        stop(&server);
    }
}

#[test]
fn starlettes_events_come_one_by_one_and_stop_with_the_listener() {
    for driver in ASGI {
        let server = serve("starlette_board:app", driver);
        let mut browser = browser(&server);
        let few = browser.get("/events?count=3");
        assert_eq!(
            few.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
        assert_eq!(
            few.text(),
            "id: 0\ndata: tick 0\n\nid: 1\ndata: tick 1\n\nid: 2\ndata: tick 2\n\n"
        );
        // Without an end: what comes has not been held back.
        let mut listener = server.connect();
        listener.send_get("/events");
        until("the first events are here", patience(), || {
            listener.has_bytes()
        });
        assert_eq!(browser.get("/listening").json(), json!(1));
        drop(listener);
        until("the app knows that the listener left", patience(), || {
            browser.get("/listening").json() == json!(0)
        });
        stop(&server);
    }
}

#[test]
fn quart_serves_forms_streams_and_sessions() {
    for driver in ASGI {
        let server = serve("quart_chat:app", driver);
        let mut browser = browser(&server);
        assert_eq!(browser.get("/").text(), "visit 1, 0 here");
        assert_eq!(browser.get("/").text(), "visit 2, 0 here");
        assert_eq!(browser.post_form("/say", &[("text", "")]).status(), 400);
        let said = browser.post_form("/say", &[("text", "grüß Gott")]);
        assert_eq!(
            (said.status(), said.json()),
            (202, json!({"said": "grüß Gott"}))
        );
        until("it is told", patience(), || {
            browser.get("/history").json() == json!(["grüß Gott"])
        });
        let stream = browser.get("/stream?lines=3000");
        assert_eq!(stream.text().lines().count(), 3000, "{driver:?}");
        assert!(stream.text().ends_with("line 2999\n"));
        let sent = vec![b'x'; 3_000_000];
        assert_eq!(
            browser.ask("POST", "/upload", &[], &sent).json(),
            json!({"size": sent.len()})
        );
        let missing = browser.get("/nowhere");
        assert_eq!(
            (missing.status(), missing.text().as_str()),
            (404, "no such room")
        );
        stop(&server);
        server.wait_for_line("chat: closed");
    }
}

#[test]
fn litestar_says_hello_and_speaks_json() {
    for driver in ASGI {
        let server = serve("litestar_notes:app", driver);
        let mut browser = browser(&server);
        assert_eq!(browser.get("/").text(), "hello from Litestar");
        let note = json!({"title": "tea", "pages": 3});
        let written = browser.post_json("/notes", &note);
        assert_eq!((written.status(), written.json()), (201, note.clone()));
        assert_eq!(browser.get("/notes/tea").json(), note);
        let bad = browser.post_json("/notes", &json!({"title": "tea"}));
        assert_eq!(bad.status(), 400);
        let missing = browser.get("/notes/none");
        assert_eq!(missing.status(), 404);
        assert_eq!(missing.json()["detail"], "no note none");
        assert_eq!(browser.get("/threaded").json(), json!({"main": false}));
        let stream = browser.get("/stream?lines=500");
        assert_eq!(stream.text().lines().count(), 500);
        stop(&server);
    }
}

#[test]
fn fastapis_websocket_echoes_closes_and_notices_who_left() {
    for driver in ASGI {
        let server = serve("fastapi_orders:app", driver);
        let (mut guest, accepted) = Frames::open_with(
            &server,
            "/echo/den",
            "Sec-WebSocket-Protocol: echo.v0, echo.v1\r\n",
        );
        assert_eq!(accepted.header("sec-websocket-protocol"), Some("echo.v1"));
        guest.say("hällo");
        guest.hears(r#"{"room":"den","text":"hällo"}"#);
        guest.say("bye");
        guest.is_closed(4001);
        let mut leaver = Frames::open(&server, "/echo/hall");
        leaver.say("here");
        leaver.hears(r#"{"room":"hall","text":"here"}"#);
        leaver.cut();
        until("the app knows that the guest left", patience(), || {
            browser(&server).get("/audit").json() == json!(["hall left with 1006"])
        });
        stop(&server);
    }
}

#[test]
fn starlettes_websocket_takes_and_gives_bytes() {
    for driver in ASGI {
        let server = serve("starlette_board:app", driver);
        let mut guest = Frames::open(&server, "/reverse");
        let long: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for message in [b"abc".as_slice(), b"", &long] {
            guest.send(frame(0x82, message));
            let backwards: Vec<u8> = message.iter().rev().copied().collect();
            assert!(guest.next() == (0x82, backwards), "{driver:?}");
        }
        drop(guest);
        stop(&server);
    }
}

#[test]
fn quarts_websocket_tells_everybody() {
    for driver in ASGI {
        let server = serve("quart_chat:app", driver);
        let mut ann = Frames::open(&server, "/lobby");
        let mut bob = Frames::open(&server, "/lobby");
        let mut browser = browser(&server);
        assert_eq!(browser.get("/").text(), "visit 1, 2 here");
        ann.say("good day");
        ann.hears("good day");
        bob.hears("good day");
        // And those who are told by a request.
        browser.post_form("/say", &[("text", "dinner")]);
        ann.hears("dinner");
        bob.hears("dinner");
        bob.cut();
        until("one is left", patience(), || {
            browser.get("/").text().ends_with(", 1 here")
        });
        ann.say("alone?");
        ann.hears("alone?");
        drop(ann);
        stop(&server);
    }
}

#[test]
fn litestars_websocket_listener_answers() {
    for driver in ASGI {
        let server = serve("litestar_notes:app", driver);
        let mut guest = Frames::open(&server, "/upper");
        guest.say("tea");
        guest.hears("TEA");
        drop(guest);
        stop(&server);
    }
}
