//! A real nginx before the server, by `uwsgi_pass`.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{DRIVERS, front};
use crate::harness::{Address, Client, Nginx, Rgun, Server, patience, until};

/// The whole of `tests/apps/front.py`'s large answers.
const BIG: usize = 10_485_760;

/// `rgun` at a port and at a unix socket, both with uwsgi.
fn start(rgun: Rgun) -> Server {
    let socket = rgun.directory().join("s");
    rgun.bind("uwsgi://127.0.0.1:0")
        .bind(format!("uwsgi:unix:{}", socket.display()))
        .start()
}

fn post(length: usize) -> Vec<u8> {
    let head =
        format!("POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body(length)].concat()
}

fn body(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).expect("a byte"))
        .collect()
}

/// The same in chunks.
fn chunked(length: usize) -> Vec<u8> {
    let mut request =
        b"POST /digest HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body(length).chunks(10_000) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[test]
fn bodies_of_every_kind_arrive_whole() {
    for driver in DRIVERS {
        let server = start(front(driver));
        for address in server.addresses() {
            for more in ["", "uwsgi_request_buffering off;"] {
                let nginx = Nginx::uwsgi(&address, more);
                // The client's connection is kept by nginx, whatever ours is.
                let mut client = nginx.connect();
                let whole: Value = client.ask(post(300_000)).json();
                assert_eq!(whole[0], 300_000, "{driver} {address:?} {more}");
                for (request, length) in [
                    (post(0), 0),
                    (post(1), 1),
                    (post(70_000), 70_000),
                    (chunked(300_000), 300_000),
                    (chunked(0), 0),
                ] {
                    let told: Value = client.ask(request).json();
                    assert_eq!(told[0], length, "{driver} {address:?} {more}");
                    if length == 300_000 {
                        assert_eq!(told, whole, "{driver} {address:?} {more}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_request_that_comes_slowly_is_passed_on_as_it_comes() {
    let server = start(front("asgi"));
    let nginx = Nginx::uwsgi(&server.address(), "uwsgi_request_buffering off;");
    let mut client = nginx.connect();
    let request = post(50_000);
    for piece in request.chunks(7_000) {
        client.send(piece);
    }
    assert_eq!(client.response().json()[0], 50_000);
}

#[test]
fn answers_of_every_kind_come_back_whole() {
    for driver in DRIVERS {
        let server = start(front(driver));
        for address in server.addresses() {
            for more in ["", "uwsgi_buffering off;"] {
                let case = format!("{driver} {address:?} {more}");
                let nginx = Nginx::uwsgi(&address, more);
                let mut client = nginx.connect();
                for path in ["/big", "/stream"] {
                    let answer = client.get(path);
                    assert_eq!(answer.status(), 200, "{case}");
                    assert_eq!(answer.body().len(), BIG, "{case}");
                    assert!(answer.body().ends_with(b"0123456789abcdef"), "{case}");
                }
                client.send("HEAD /big HTTP/1.1\r\nHost: test\r\n\r\n");
                let answer = client.response_to("HEAD");
                assert_eq!(answer.header("content-length"), Some("10485760"), "{case}");
                client.send("HEAD /stream HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(client.response_to("HEAD").status(), 200, "{case}");
                let answer = client.get("/304");
                assert_eq!(
                    (answer.status(), answer.header("etag")),
                    (304, Some("\"a\""))
                );
                assert_eq!(client.get("/204").status(), 204, "{case}");
                assert_eq!(client.get("/raise").status(), 500, "{case}");
                // No interim answer reaches nginx, which would take it for the answer.
                let answer = client.get("/hints");
                assert_eq!((answer.status(), answer.text().as_str()), (200, "hints"));
            }
        }
    }
}

#[test]
fn a_browser_that_keeps_its_connection_is_served_at_once() {
    // nginx passes the client's Connection field on, and closes ours after each answer all the same.
    let server = start(front("sync").args(["--keep-alive", "60"]));
    let nginx = Nginx::uwsgi(&server.address(), "uwsgi_socket_keepalive on;");
    let mut client = nginx.connect();
    for _ in 0..20 {
        client.send("GET /digest HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response().json()[0], 0);
    }
}

#[test]
fn a_client_that_leaves_ends_the_answer() {
    for driver in DRIVERS {
        let server = start(front(driver));
        let nginx = Nginx::uwsgi(&server.address(), "uwsgi_buffering off;");
        let mut client = nginx.connect();
        client.send_get("/endless");
        client.wait_for_bytes("0123456789abcdef");
        drop(client);
        server.wait_for_line("the client is gone");
        let mut client = nginx.connect();
        assert_eq!(client.get("/digest").status(), 200, "{driver}");
    }
}

#[test]
fn a_reload_under_nginx_loses_nothing() {
    let server = start(front("sync").workers(2));
    let nginx = Nginx::uwsgi(&server.address(), "uwsgi_next_upstream off;");
    let before = server.worker_pids();
    let mut client = nginx.connect();
    client.get("/digest");
    server.signal(Signal::SIGHUP);
    until("the new workers have taken over", patience(), || {
        let answer = client.get("/digest");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let now = server.worker_pids();
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
}

/// What an app is asked, whatever the way to it.
const QUESTION: &str = "PUT /a%20b/%C3%A9/c%2Fd?x=%20&y HTTP/1.1\r\nHost: test:81\r\nUser-Agent: tester\r\n\
    Accept: */*\r\nCookie: a=1; b=2\r\nX-Forwarded-For: 192.0.2.9\r\nContent-Type: text/x-test\r\n\
    Content-Length: 2\r\n\r\nab";

/// The answer of a server that speaks HTTP itself, and of the same behind nginx.
fn both_ways(driver: &str, location: &str) -> [BTreeMap<String, Value>; 2] {
    let server = front(driver)
        .bind("127.0.0.1:0")
        .bind("uwsgi://127.0.0.1:0")
        .start();
    let [http, uwsgi]: [Address; 2] = server.addresses().try_into().expect("two");
    let nginx = Nginx::uwsgi(&uwsgi, location);
    [&http, nginx.address()].map(|address| {
        let answer = Client::connect(address).ask(QUESTION);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_slice(answer.body()).expect("an object")
    })
}

/// Takes `names` out, which differ for the reason that the caller knows.
fn without(map: &BTreeMap<String, Value>, names: &[&str]) -> BTreeMap<String, Value> {
    let mut map = map.clone();
    map.retain(|name, _| !names.contains(&name.as_str()));
    map
}

#[test]
fn a_wsgi_app_sees_the_request_that_it_would_see_over_http() {
    for driver in ["sync", "gevent", "gthread"] {
        let [http, uwsgi] = both_ways(driver, "uwsgi_param MY_SETTING here;");
        // The client's port, and what it called.
        let ends = ["REMOTE_PORT", "SERVER_PORT", "SERVER_NAME"];
        // What uWSGI's apps find beside.
        let more = [
            "REQUEST_URI",
            "REQUEST_SCHEME",
            "DOCUMENT_ROOT",
            "MY_SETTING",
        ];
        assert_eq!(
            without(&http, &ends),
            without(&uwsgi, &[&ends[..], &more].concat()),
            "{driver}"
        );
        assert_eq!(uwsgi["PATH_INFO"], "/a b/\u{c3}\u{a9}/c/d");
        assert_eq!(uwsgi["REQUEST_URI"], "/a%20b/%C3%A9/c%2Fd?x=%20&y");
        assert_eq!(uwsgi["REQUEST_URI"], uwsgi["RAW_URI"]);
        assert_eq!(uwsgi["MY_SETTING"], "here");
        assert_eq!(uwsgi["SERVER_NAME"], "localhost");
        assert_eq!(uwsgi["REMOTE_ADDR"], "127.0.0.1");
    }
}

#[test]
fn an_asgi_app_sees_the_request_that_it_would_see_over_http() {
    let [http, uwsgi] = both_ways("asgi", "");
    // The client's port, what it called, and what cannot pass nginx.
    let ends = ["client", "server", "extensions", "headers"];
    assert_eq!(without(&http, &ends), without(&uwsgi, &ends));
    assert_eq!(uwsgi["raw_path"], "/a%20b/%C3%A9/c%2Fd");
    assert_eq!(uwsgi["path"], "/a b/\u{e9}/c/d");
    assert_eq!(uwsgi["client"][0], "127.0.0.1");
    assert_eq!(uwsgi["server"][0], "localhost");
    let sorted = |fields: &Value| {
        let mut fields: Vec<String> = fields
            .as_array()
            .expect("a list")
            .iter()
            .map(Value::to_string)
            .collect();
        fields.sort();
        fields
    };
    assert_eq!(sorted(&http["headers"]), sorted(&uwsgi["headers"]));
}

#[test]
fn a_rust_app_sees_the_request_that_it_would_see_over_http() {
    let [http, uwsgi] = both_ways("builtin", "uwsgi_param HTTPS on;");
    let ends = ["peer", "scheme", "headers"];
    assert_eq!(without(&http, &ends), without(&uwsgi, &ends));
    assert_eq!(
        (&http["scheme"], &uwsgi["scheme"]),
        (&"http".into(), &"https".into())
    );
    assert_eq!(uwsgi["body"], "ab");
}

#[test]
fn an_app_may_be_mounted_below_the_root() {
    for script in ["SCRIPT_NAME /a%20b", "SCRIPT_NAME \"/a b\""] {
        let whole = script.contains('%');
        let location = format!("uwsgi_param {script};");
        let [_, wsgi] = both_ways("sync", &location);
        let [_, asgi] = both_ways("asgi", &location);
        let rest = "/\u{c3}\u{a9}/c/d";
        if whole {
            // Another name than the path begins with: the path lies beneath it.
            assert_eq!(wsgi["SCRIPT_NAME"], "/a%20b");
            assert_eq!(wsgi["PATH_INFO"], format!("/a b{rest}"));
            assert_eq!(asgi["path"], "/a%20b/a b/\u{e9}/c/d");
        } else {
            assert_eq!(wsgi["SCRIPT_NAME"], "/a b");
            assert_eq!(wsgi["PATH_INFO"], rest);
            assert_eq!(asgi["path"], "/a b/\u{e9}/c/d");
            assert_eq!(asgi["root_path"], "/a b");
        }
    }
}

#[test]
fn a_rewritten_request_is_seen_as_it_was_rewritten() {
    for driver in ["sync", "asgi"] {
        let [_, told] = both_ways(driver, "rewrite ^ /new%20place?z=1? break;");
        let (path, query) = match driver {
            "asgi" => ("path", "query_string"),
            _ => ("PATH_INFO", "QUERY_STRING"),
        };
        assert_eq!(told[path], "/new%20place", "{driver}");
        assert_eq!(told[query], "z=1", "{driver}");
    }
}

#[test]
fn a_websocket_passes_nginx() {
    let server = start(front("asgi"));
    let nginx = Nginx::uwsgi(&server.address(), "");
    let mut client = nginx.connect();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let answer = client.one_response("GET").expect("an answer");
    assert_eq!(answer.status(), 101);
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    // "hi", masked by zeros.
    client.send([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    assert_eq!(client.exactly(4), Ok(vec![0x81, 2, b'h', b'i']));
}

#[test]
fn what_nginx_is_set_up_wrong_to_send_is_answered() {
    let server = start(front("sync"));
    let nginx = Nginx::uwsgi(&server.address(), "uwsgi_modifier1 5;");
    assert_eq!(nginx.connect().get("/").status(), 501);
    let nginx = Nginx::uwsgi(&server.address(), "uwsgi_param REMOTE_ADDR nobody;");
    assert_eq!(nginx.connect().get("/").status(), 400);
    assert_eq!(server.count_lines("Traceback"), 0);
}
