//! `wsgi.early_hints`: interim responses of WSGI apps.

use std::fs;

use crate::harness::{Client, Response, Rgun, Server};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];
const LINKS: [&str; 2] = ["</a.css>; rel=preload", "</b.js>; rel=preload"];

fn hints(driver: &str) -> Server {
    Rgun::app("hints:app").args(["-k", driver]).start()
}

#[track_caller]
fn hint(client: &mut Client) -> Response {
    let hint = client.one_response("GET").expect("a hint");
    assert_eq!((hint.status(), hint.reason()), (103, "Early Hints"));
    hint
}

#[track_caller]
fn assert_answers(client: &mut Client, text: &str) {
    let answer = client.one_response("GET").expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, text));
}

#[test]
fn hints_come_before_the_answer() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        for _ in 0..3 {
            client.send_get("/plain");
            assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
            assert_eq!(hint(&mut client).header("x-second"), Some("1"));
            assert_answers(&mut client, "plain");
            client.send_get("/started");
            assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
            assert_answers(&mut client, "started");
        }
    }
}

#[test]
fn hints_are_with_the_client_while_the_app_is_at_work() {
    for driver in DRIVERS {
        let server = hints(driver);
        for way in ["held", "busy"] {
            let file = server.directory().join(way);
            let mut client = server.connect();
            client.send_get(&format!("/{way}?{}", file.display()));
            assert_eq!(hint(&mut client).all("link"), LINKS, "{driver} {way}");
            fs::write(&file, "").expect("the directory takes files");
            assert_answers(&mut client, way);
        }
    }
}

#[test]
fn requests_at_the_same_time_have_hints_of_their_own() {
    for driver in ["gevent", "gthread"] {
        let server = Rgun::app("hints:app")
            .args(["-k", driver, "--threads", "3"])
            .start();
        let file = server.directory().join("go");
        let held: Vec<_> = (0..3)
            .map(|number| {
                let query = format!(
                    "{}/.{}/go",
                    server.directory().display(),
                    "/.".repeat(number)
                );
                let mut client = server.connect();
                client.send_get(&format!("/held?{query}"));
                assert_eq!(
                    hint(&mut client).header("x-query"),
                    Some(query.as_str()),
                    "{driver}"
                );
                client
            })
            .collect();
        fs::write(&file, "").expect("the directory takes files");
        for mut client in held {
            assert_answers(&mut client, "held");
        }
    }
}

#[test]
fn hints_come_behind_bodies_short_and_long() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        for length in [1, 200_000] {
            client.send(format!(
                "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            ));
            let length = length.to_string();
            assert_eq!(
                hint(&mut client).header("x-length"),
                Some(length.as_str()),
                "{driver}"
            );
            assert_answers(&mut client, "body");
        }
    }
}

#[test]
fn once_the_response_has_begun_there_are_no_hints() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        for (way, text) in [
            ("/generated", "generated late"),
            ("/written", "written late"),
        ] {
            client.send_get(way);
            assert_eq!(hint(&mut client).all("link"), LINKS, "{driver} {way}");
            assert_answers(&mut client, text);
        }
        client.send_get("/begun-meanwhile");
        assert_answers(&mut client, "begun");
    }
}

#[test]
fn http_1_0_clients_get_no_hints() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        client.send("GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_answers(&mut client, "plain");
        client.send_get("/plain");
        assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
    }
}

#[test]
fn what_hints_may_not_have_is_left_out_or_refused() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        client.send_get("/odd");
        let odd = hint(&mut client);
        assert_eq!(odd.header("x-bytes"), odd.header("x-list"), "{driver}");
        assert!(odd.header("x-bytes").is_some());
        for left_out in ["connection", "content-length", "transfer-encoding"] {
            assert_eq!(odd.header(left_out), None, "{driver}");
        }
        assert_answers(&mut client, "odd");
        client.send_get("/wrong");
        assert_answers(&mut client, "wrong");
    }
}

#[test]
fn the_callable_belongs_to_its_request() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        for _ in 0..2 {
            client.send_get("/keep");
            assert_answers(&mut client, "keep");
            client.send_get("/kept");
            assert_answers(&mut client, "kept");
        }
        client.send_get("/plain");
        assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
    }
}

#[test]
fn a_thread_of_the_apps_may_send_hints() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        client.send_get("/thread");
        assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
        assert_answers(&mut client, "thread");
    }
}

#[test]
fn hints_of_pipelined_requests_stand_between_the_answers() {
    for driver in DRIVERS {
        let server = hints(driver);
        let mut client = server.connect();
        client.send("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
        for _ in 0..3 {
            assert_eq!(hint(&mut client).all("link"), LINKS, "{driver}");
            assert_eq!(hint(&mut client).header("x-second"), Some("1"));
            assert_answers(&mut client, "plain");
        }
    }
}
