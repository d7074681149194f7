//! The PROXY protocol: what a proxy tells of the client is believed if the proxy is, and a bad header costs its connection.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use nix::sys::signal::Signal;

use crate::harness::tools::HaProxy;
use crate::harness::{Address, Client, Response, Rgun, Server, millis, patience, until};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
/// The same as `V1`, with the name that the client has asked for by TLS and one byte more that says nothing.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x17\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb\
    \x02\0\x04a.bc\x04\0\x01\0";
/// A connection of the proxy's own.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET /environ HTTP/1.1\r\nHost: a\r\n\r\n";

fn whole(header: &[u8], request: &[u8]) -> Vec<u8> {
    [header, request].concat()
}

fn ask(address: &Address, header: &[u8], request: &[u8]) -> Response {
    Client::connect(address).ask(whole(header, request))
}

fn peer(answer: &Response) -> String {
    let told = answer.json()["peer"].clone();
    told.as_str().expect("builtin:echo tells it").to_owned()
}

#[test]
fn a_header_tells_who_the_client_is() {
    let server = Rgun::app("builtin:echo")
        .bind("http://127.0.0.1:0?proxy=auto")
        .start();
    for header in [V1, V2] {
        let mut client = server.connect();
        let answer = client.ask(whole(header, GET));
        assert_eq!(peer(&answer), "192.0.2.7:4711");
        // It holds for the connection.
        assert_eq!(peer(&client.get("/")), "192.0.2.7:4711");
    }
    let answer = ask(&server.address(), V1_IPV6, GET);
    assert_eq!(peer(&answer), "[2001:db8::7]:4711");
    for header in [&b""[..], LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert!(peer(&ask(&server.address(), header, GET)).starts_with("127.0.0.1:"));
    }
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let server = Rgun::app("builtin:echo")
        .bind("http://127.0.0.1:0?proxy=auto")
        .start();
    for header in [V1, V2] {
        let bytes = whole(header, GET);
        for size in [1, 5, 13, 30] {
            let mut client = server.connect();
            for piece in bytes.chunks(size) {
                client.send(piece);
                // Each arrives by itself, mostly; the outcome is the same anyhow.
                std::thread::yield_now();
            }
            assert_eq!(peer(&client.response()), "192.0.2.7:4711");
        }
    }
    // A request that begins as a header does.
    let mut client = server.connect();
    client.send("P");
    assert!(client.stays_silent_for(millis(50)));
    client.send("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn apps_and_the_access_log_see_the_client() {
    for (app, class) in [
        ("wsgi:app", "sync"),
        ("wsgi:app", "gevent"),
        ("wsgi:app", "gthread"),
    ] {
        let server = Rgun::app(app)
            .args(["-k", class, "--threads", "1", "--proxy-protocol", "v1"])
            .args(["--access-logfile", "-"])
            .start();
        let answer = ask(&server.address(), V1, GET).json();
        let environ = &answer["environ"];
        for (key, value) in [
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "4711"),
            ("PROXY_PROTOCOL", "TCP4"),
            ("PROXY_ADDR", "198.51.100.1"),
            ("PROXY_PORT", "443"),
            ("SERVER_NAME", "127.0.0.1"),
        ] {
            assert_eq!(environ[key], value, "{class} {key}");
        }
        server.wait_for_output("192.0.2.7 - - [", 1);
        // Nothing of it is left for the next client.
        let answer = ask(&server.address(), b"", GET).json();
        assert_eq!(answer["environ"]["REMOTE_ADDR"], "127.0.0.1", "{class}");
        assert!(answer["environ"].get("PROXY_ADDR").is_none(), "{class}");
    }
    let server = Rgun::app("asgi_scope:app")
        .args(["-k", "asgi", "--proxy-protocol", "v2"])
        .start();
    let answer = ask(&server.address(), V2, GET).json();
    assert_eq!(answer["scope"]["client"], "('192.0.2.7', 4711)");
}

#[test]
fn unix_listeners_have_it_too() {
    let rgun = Rgun::app("wsgi:app").args(["-k", "sync", "--proxy-allow-from", "10.0.0.1"]);
    let path = rgun.directory().join("s");
    let server = rgun
        .bind("127.0.0.1:0")
        .bind(format!("http:unix:{}?proxy=v2", path.display()))
        .start();
    let environ = |address: &Address, header: &[u8], request: &[u8]| {
        ask(address, header, request).json()["environ"].clone()
    };
    // The other listener takes none, and its clients leave nothing behind.
    let tcp = &server.addresses()[0];
    assert_eq!(environ(tcp, b"", GET)["REMOTE_ADDR"], "127.0.0.1");
    let unix = Address::Unix(path);
    let seen = environ(&unix, V2, GET);
    assert_eq!(seen["REMOTE_ADDR"], "192.0.2.7");
    assert_eq!(seen["REMOTE_PORT"], "4711");
    assert_eq!(
        (&seen["SERVER_NAME"], &seen["SERVER_PORT"]),
        (&"a".into(), &"80".into())
    );
    let nameless = b"GET /environ HTTP/1.0\r\n\r\n";
    let seen = environ(&unix, V2, nameless);
    assert_eq!(seen["SERVER_PORT"], "");
    let seen = environ(&unix, b"", GET);
    assert_eq!(seen["REMOTE_ADDR"], "");
    assert!(seen.get("REMOTE_PORT").is_none());
    assert_eq!(environ(tcp, b"", GET)["SERVER_NAME"], "127.0.0.1");
}

#[test]
fn forwarded_headers_are_believed_by_the_proxys_own_address() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
    for (trusted, scheme) in [("127.0.0.1", "https"), ("192.0.2.0/24", "http")] {
        let server = Rgun::app("builtin:echo")
            .args(["--proxy-protocol", "auto", "--forwarded-allow-ips", trusted])
            .start();
        let answer = ask(&server.address(), V1, request);
        assert_eq!(answer.json()["scheme"], scheme, "{trusted}");
    }
}

#[test]
fn a_header_of_somebody_else_ends_the_connection() {
    let server = Rgun::app("builtin:echo")
        .args(["--proxy-protocol", "--proxy-allow-from", "10.0.0.0/8,::1"])
        .start();
    for (count, header) in [V1, V2, LOCAL].into_iter().enumerate() {
        let mut client = server.connect();
        client.send(whole(header, GET));
        assert_eq!(client.until_end(), b"", "nothing is answered");
        server.wait_for_lines("is not among --proxy-allow-from", count + 1);
    }
    // Without one it is a client like any other.
    assert!(peer(&ask(&server.address(), b"", GET)).starts_with("127.0.0.1:"));
    assert_eq!(server.count_lines("is not among --proxy-allow-from"), 3);
}

#[test]
fn a_bad_header_costs_its_connection_and_a_line() {
    let server = Rgun::app("builtin:echo")
        .args(["--proxy-protocol", "auto"])
        .start();
    let mut neighbour = server.connect();
    assert_eq!(neighbour.get("/").status(), 200);
    let endless = whole(b"PROXY UNKNOWN ", &[b'a'; 4000]);
    let mut long = LOCAL.to_vec();
    long[14..].copy_from_slice(&[0xff, 0xff]);
    let mut unknown = LOCAL.to_vec();
    unknown[12] = 0x2f;
    let bad: [(&[u8], &str); 5] = [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n", "has fields"),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 +1\r\n",
            "has a port",
        ),
        (&endless, "has a line without an end"),
        (&long, "has a length beyond"),
        (&unknown, "has a version or command"),
    ];
    for (header, why) in bad {
        let mut client = server.connect();
        // It may be closed before all of it is sent.
        let _ = client.try_send(whole(header, GET));
        assert_eq!(client.until_end(), b"", "{why}");
        server.wait_for_line(&format!("from ip=127.0.0.1: its PROXY header {why}"));
    }
    assert_eq!(server.count_lines("its PROXY header"), bad.len());
    assert_eq!(neighbour.get("/").status(), 200);
}

#[test]
fn half_a_header_is_waited_for_as_half_a_head_is() {
    let server = Rgun::app("builtin:echo")
        .args(["--proxy-protocol", "auto", "--header-timeout", "1"])
        .start();
    let halves = [&V1[..3], &V1[..20], &V2[..8], &V2[..14], &V2[..20], b""];
    let mut clients: Vec<Client> = halves
        .iter()
        .map(|half| {
            let mut client = server.connect();
            client.send(half);
            client
        })
        .collect();
    for client in &mut clients {
        assert!(client.closes_within(patience()));
    }
    // Who sends no more after half of it is not waited for.
    let server = Rgun::app("builtin:echo")
        .args(["--proxy-protocol", "auto", "--header-timeout", "0"])
        .start();
    for half in halves {
        let mut client = server.connect();
        client.send(half);
        client.half_close();
        assert!(client.closes_within(patience()));
    }
}

#[test]
fn at_the_cap_a_client_behind_a_header_is_told_so() {
    let server = Rgun::app("asgi:app")
        .args([
            "-k",
            "asgi",
            "--proxy-protocol",
            "v1",
            "--access-logfile",
            "-",
        ])
        .args(["--worker-connections", "1", "--overload-timeout", "0.2"])
        .start();
    let mut busy = server.connect();
    busy.send(whole(V1, b"GET /sleep?600000 HTTP/1.1\r\nHost: a\r\n\r\n"));
    // It is inside when the next one is refused.
    let answer = ask(
        &server.address(),
        V1,
        b"GET /refused HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(answer.status(), 503);
    server.wait_for_output("192.0.2.7 - - [", 1);
}

#[test]
fn a_reload_turns_it_on_at_the_same_socket() {
    let rgun = Rgun::app("builtin:echo");
    let directory = rgun.directory();
    let socket = directory.join("s");
    let text = |options: &str| {
        format!(
            "loglevel = \"debug\"\n\n[[bind]]\naddress = \"unix:{}\"\n{options}",
            socket.display()
        )
    };
    let file = rgun.write("conf.toml", &text(""));
    let server = rgun.configured_for(1).arg("-c").arg(&file).start();
    assert_eq!(ask(&server.address(), V1, GET).status(), 400);
    fs::write(directory.join("conf.toml"), text("proxy = \"v1\"\n")).expect("it is ours");
    server.signal(Signal::SIGHUP);
    until("the new worker speaks otherwise", patience(), || {
        let answer = ask(&server.address(), V1, GET);
        answer.status() == 200 && peer(&answer) == "192.0.2.7:4711"
    });
    // The bind keeps its URL.
    assert_eq!(server.count_lines("Listening at: "), 1);
}

#[test]
fn a_socket_that_is_handed_on_is_spoken_on_as_its_bind_says() {
    let server = Rgun::app("builtin:echo")
        .workers(3)
        .bind("127.0.0.1:0")
        .bind("http://127.0.0.1:0?proxy=v2")
        .arg("--reuse-port")
        .start();
    for count in 1..=2 {
        server.signal(Signal::SIGTTOU);
        server.wait_for_lines("workers wanted", count);
    }
    server.wait_for_workers(1);
    server.wait_for_lines("is given another socket", 4);
    // The kernel spreads them over all three sockets of an address.
    for _ in 0..40 {
        let answer = ask(&server.addresses()[1], V2, GET);
        assert_eq!(peer(&answer), "192.0.2.7:4711");
        assert_eq!(ask(&server.addresses()[0], V2, GET).status(), 400);
    }
}

/// A client at 127.0.0.2, by an HAProxy that sends the header of `send`.
fn by_haproxy(server: &Server, address: &Address, send: &str) {
    let proxy = HaProxy::in_front_of(address, send);
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut client = Client::connect_from(source, proxy.address());
    let port = client.port();
    for _ in 0..3 {
        let seen = client.get("/environ").json()["environ"].clone();
        assert_eq!(seen["REMOTE_ADDR"], "127.0.0.2", "{send}");
        assert_eq!(seen["REMOTE_PORT"], port.to_string(), "{send}");
        assert_eq!(seen["PROXY_PORT"], proxy.address().port().to_string());
    }
    drop(proxy);
    assert_eq!(server.count_lines("PROXY header"), 0);
}

#[test]
fn haproxy_tells_the_client_by_either_version_on_either_kind_of_socket() {
    let rgun = Rgun::app("wsgi:app").args(["-k", "gevent", "--proxy-protocol"]);
    let path = rgun.directory().join("s");
    let server = rgun
        .bind("127.0.0.1:0")
        .bind(format!("unix:{}", path.display()))
        .start();
    for address in server.addresses() {
        for send in [
            "send-proxy",
            "send-proxy-v2",
            "send-proxy-v2 proxy-v2-options unique-id,crc32c",
            // Its own connections tell so, by LOCAL.
            "check inter 100 check-send-proxy send-proxy-v2",
        ] {
            by_haproxy(&server, &address, send);
        }
    }
}
