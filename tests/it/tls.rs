//! HTTPS, with curl and OpenSSL as clients: who is shown what, who may come in, and what comes through.

mod files;
mod hostile;
mod http2;
mod sessions;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::harness::tls::{Peer, Pki};
use crate::harness::{Rgun, Server, patience};

const NAME: &str = "a.example";

/// A server with one HTTPS listener, whose certificate is for `NAME`.
fn https(rgun: Rgun, more: &str) -> (Server, Pki) {
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    let bind = pki.bind(&["a"], more);
    (rgun.bind(bind).start(), pki)
}

fn curl(server: &Server, pki: &Pki, words: &[&str]) -> String {
    let port = server.port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time"])
        .arg(patience().as_secs().to_string())
        .args(["--cacert", &pki.word("ca.pem")])
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
        .args(
            words
                .iter()
                .map(|word| word.replace("URL", &format!("https://{NAME}:{port}"))),
        )
        .output()
        .expect("curl is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {words:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_verifies_the_chain_and_keeps_the_connection() {
    let (server, pki) = https(Rgun::app("builtin:hello"), "");
    let told = "%{http_code} %{http_version} %{num_connects} %{ssl_verify_result};";
    for version in [
        ["--tlsv1.2", "--tls-max", "1.2"],
        ["--tlsv1.3", "--tls-max", "1.3"],
    ] {
        let mut words = version.to_vec();
        words.extend([
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            "-w",
            told,
            "URL/",
            "URL/",
        ]);
        assert_eq!(curl(&server, &pki, &words), "200 1.1 1 0;200 1.1 0 0;");
    }
}

#[test]
fn old_http_and_the_access_log_know_of_tls() {
    let rgun = Rgun::app("builtin:hello").args(["--access-logfile", "-"]).args([
        "--access-logformat",
        "%(H)s %(s)s %({wsgi.url_scheme}e)s %({SSL_PROTOCOL}e)s %({SSL_TLS_SNI}e)s %({SSL_CLIENT_S_DN}e)s",
    ]);
    let (server, pki) = https(rgun, "");
    // It names no protocol but http/1.0.
    assert_eq!(curl(&server, &pki, &["--http1.0", "URL/"]), "hello world!");
    let line = format!("HTTP/1.0 200 https TLSv1.3 {NAME} -");
    server.wait_for_output(&line, 1);
}

#[test]
fn where_there_is_no_room_a_client_hears_so_by_tls() {
    let rgun = Rgun::app("tls_facts:wsgi")
        .args(["-k", "gthread", "--threads", "2"])
        .args(["--worker-connections", "1", "--overload-timeout", "0.5"]);
    let (server, pki) = https(rgun, "");
    let (busy, late) = (
        Peer::new(&pki, server.port()),
        Peer::new(&pki, server.port()),
    );
    busy.connect(1, NAME);
    busy.tell(json!({"do": "send", "id": 1, "bytes": "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"}));
    late.connect(1, NAME);
    let answer = late.tell(json!({"do": "request", "id": 1, "path": "/"}));
    assert_eq!(answer["status"], 503);
}

#[test]
fn long_bodies_come_through_whole_both_ways() {
    for class in ["sync", "gevent"] {
        let rgun = Rgun::app("tls_facts:wsgi").args(["-k", class]);
        let body = rgun.write("body", &"0123456789".repeat(1_500_000));
        let (server, pki) = https(rgun, "");
        let data = format!("@{}", body.display());
        let answer = curl(&server, &pki, &["--data-binary", &data, "URL/digest"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["length"], 15_000_000);
        let sum = Command::new("sha256sum")
            .arg(&body)
            .output()
            .expect("coreutils");
        let sum = String::from_utf8(sum.stdout).expect("text");
        assert!(sum.starts_with(answer["digest"].as_str().expect("a digest")));
        let told = curl(
            &server,
            &pki,
            &[
                "-o",
                "/dev/null",
                "-w",
                "%{size_download} %{num_connects};",
                "URL/long",
                "-o",
                "/dev/null",
                "URL/",
            ],
        );
        assert!(told.starts_with("20971520 1;"), "{told}");
        assert!(told.ends_with(" 0;"), "{told}");
    }
}

#[test]
fn each_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let rgun = Rgun::app("builtin:echo");
    let pki = Pki::new(&rgun.directory().join("tls"));
    let first = pki.issue("a", &[NAME]);
    let wild = pki.issue("b", &["*.b.example"]);
    let exact = pki.issue("c", &["c.b.example", "d.example"]);
    let server = rgun.bind(pki.bind(&["a", "b", "c"], "")).start();
    let peer = Peer::new(&pki, server.port());
    for (id, name, serial) in [
        (1, NAME, &first),
        (2, "x.b.example", &wild),
        (3, "c.b.example", &exact),
        (4, "d.example", &exact),
    ] {
        let shown = peer.connect(id, name);
        assert_eq!(shown["serial"], serial.as_str(), "{name}");
        assert_eq!(peer.facts(id, "/")["tls"]["server_name"], name);
    }
    let unnamed = peer.tell(json!({"do": "connect", "id": 5}));
    assert_eq!(unnamed["serial"], first.as_str());
    assert_eq!(peer.facts(5, "/")["tls"]["server_name"], Value::Null);
}

#[test]
fn listeners_have_tls_or_not_each_on_its_own() {
    let rgun = Rgun::app("builtin:echo");
    let pki = Pki::new(&rgun.directory().join("tls"));
    let serial = pki.issue("a", &[NAME]);
    let socket = rgun.directory().join("s");
    let options = pki.bind(&["a"], "");
    let options = options.split_once('?').expect("options").1.to_owned();
    let server = rgun
        .bind(pki.bind(&["a"], ""))
        .bind("http://127.0.0.1:0")
        .bind(format!("https:unix:{}?{options}", socket.display()))
        .start();
    let peer = Peer::new(&pki, server.port());
    peer.connect(1, NAME);
    assert_eq!(peer.facts(1, "/")["scheme"], "https");
    let plain = server.addresses()[1].clone();
    let mut plain = crate::harness::Client::connect(&plain);
    let told: Value = serde_json::from_str(&plain.get("/").text()).expect("JSON");
    assert_eq!(
        (&told["scheme"], &told["tls"]),
        (&json!("http"), &Value::Null)
    );
    let told = json!({"do": "connect", "id": 2, "name": NAME, "path": socket});
    assert_eq!(peer.tell(told)["serial"], serial.as_str());
    assert_eq!(peer.facts(2, "/")["peer"], "unix:");
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let (server, pki) = https(Rgun::app("builtin:echo"), "&proxy=v1");
    let peer = Peer::new(&pki, server.port());
    let first = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    peer.tell(json!({"do": "connect", "id": 1, "name": NAME, "first": first}));
    let facts = peer.facts(1, "/");
    assert_eq!(facts["peer"], "192.0.2.7:4711");
    assert_eq!(facts["tls"]["server_name"], NAME);
    peer.connect(2, NAME);
    let facts = peer.facts(2, "/");
    assert!(
        facts["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with("127.0.0.1:"))
    );
}

/// Gunicorn's own names, for all listeners.
#[test]
fn gunicorns_settings_make_all_plain_binds_https() {
    let rgun = Rgun::app("tls_facts:wsgi").args(["-k", "sync"]);
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    pki.issue("alice", &["alice"]);
    let server = rgun
        .args([
            "--certfile",
            &pki.word("a.pem"),
            "--keyfile",
            &pki.word("a.key"),
        ])
        .args(["--ca-certs", &pki.word("ca.pem"), "--cert-reqs", "2"])
        .args([
            "--ciphers",
            "ECDHE+CHACHA20:ECDHE+AES256",
            "--do-handshake-on-connect",
        ])
        .args(["--ssl-version", "5"])
        .start();
    let line = server.wait_for_line("Listening at: ");
    assert!(line.contains("https://127.0.0.1:"), "{line}");
    server.wait_for_line("--ssl-version: does nothing, as in Gunicorn since 21");
    let peer = Peer::new(&pki, server.port());
    let alice = pki.word("alice");
    let told = json!({"do": "connect", "id": 1, "name": NAME, "cert": alice, "max": "TLSv1_2"});
    assert_eq!(peer.tell(told)["cipher"], "ECDHE-ECDSA-CHACHA20-POLY1305");
    assert_eq!(peer.facts(1, "/")["SSL_CLIENT_VERIFY"], "SUCCESS");
    let told = json!({
        "do": "connect", "id": 2, "name": NAME, "cert": alice, "max": "TLSv1_2",
        "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
    });
    let error = peer.ask(told)["error"].to_string();
    assert!(error.contains("_ALERT_"), "{error}");
}

#[test]
fn clients_come_in_with_a_certificate_or_are_told_why_not() {
    let rgun = Rgun::app("tls_facts:wsgi").args(["-k", "sync"]);
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    let serial = pki.issue("alice", &["alice"]);
    let stranger = Pki::new(&rgun.directory().join("stranger"));
    stranger.issue("mallory", &["mallory"]);
    let ca = format!("&client-ca={}", pki.word("ca.pem"));
    let server = rgun
        .bind(pki.bind(&["a"], &ca))
        .bind(pki.bind(&["a"], &format!("{ca}&client-cert=optional")))
        .start();
    let crate::harness::Address::Tcp(optional) = server.addresses()[1].clone() else {
        panic!("a port");
    };
    let peer = Peer::new(&pki, server.port());
    let connect = |id, port, cert: Option<String>| {
        let told = json!({"do": "connect", "id": id, "name": NAME, "port": port, "cert": cert});
        peer.tell(told);
        // By TLS 1.3 a client hears of a refusal only when it reads.
        peer.ask(json!({"do": "request", "id": id, "path": "/"}))
    };
    let body = |answer: &Value| -> Value {
        let body = answer["body"].as_str();
        serde_json::from_str(body.unwrap_or_else(|| panic!("{answer}"))).expect("JSON")
    };
    let required = server.port();
    let alice = Some(pki.word("alice"));
    let mallory = Some(stranger.word("mallory"));

    for (id, port) in [(1, required), (2, optional.port())] {
        let told = body(&connect(id, port, alice.clone()));
        assert_eq!(told["SSL_CLIENT_VERIFY"], "SUCCESS");
        assert_eq!(told["SSL_CLIENT_S_DN"], "O=Tests,CN=alice");
        assert_eq!(told["SSL_CLIENT_I_DN"], "CN=authority of tls");
        assert_eq!(told["SSL_CLIENT_M_SERIAL"], serial.as_str());
        let pem = std::fs::read_to_string(pki.path("alice.pem")).expect("a file");
        let certificate = told["SSL_CLIENT_CERT"].as_str().expect("a certificate");
        assert_eq!(pem.replace("\r\n", "\n").find(certificate), Some(0));
    }
    let told = body(&connect(3, optional.port(), None));
    assert_eq!(told["SSL_CLIENT_VERIFY"], "NONE");
    assert_eq!(told["SSL_CLIENT_CERT"], Value::Null);

    for (id, port, cert, alert) in [
        (4, required, None, "CERTIFICATE_REQUIRED"),
        (5, required, mallory.clone(), "UNKNOWN_CA"),
        (6, optional.port(), mallory, "UNKNOWN_CA"),
    ] {
        let answer = connect(id, port, cert);
        let error = answer["error"].to_string();
        assert!(error.contains(alert), "{id}: {answer}");
    }
    let line = server.wait_for_line("TLS handshake with 127.0.0.1 failed: ");
    assert!(line.contains("peer sent no certificates"), "{line}");
}

#[test]
fn old_versions_and_unknown_protocols_are_declined() {
    let (server, pki) = https(Rgun::app("builtin:echo"), "&min-version=1.3");
    let peer = Peer::new(&pki, server.port());
    let old = json!({"do": "connect", "id": 1, "name": NAME, "max": "TLSv1_2"});
    let error = peer.ask(old)["error"].to_string();
    assert!(error.contains("PROTOCOL_VERSION"), "{error}");
    let both = json!({"do": "connect", "id": 2, "name": NAME, "alpn": ["spdy/1", "http/1.1"]});
    let shown = peer.tell(both);
    assert_eq!(
        (&shown["version"], &shown["alpn"]),
        (&json!("TLSv1.3"), &json!("http/1.1"))
    );
    let facts = peer.facts(2, "/");
    assert_eq!(facts["tls"]["version"], "TLSv1.3");
    assert_eq!(facts["tls"]["protocol"], "http/1.1");
    assert_eq!(facts["tls"]["cipher"], shown["cipher"]);
    let other = json!({"do": "connect", "id": 3, "name": NAME, "alpn": ["spdy/1"]});
    let error = peer.ask(other)["error"].to_string();
    assert!(error.contains("no application protocol"), "{error}");
}

#[test]
fn apps_of_every_kind_know_the_facts() {
    for class in ["sync", "gevent", "gthread"] {
        let (server, pki) = https(Rgun::app("tls_facts:wsgi").args(["-k", class]), "");
        let peer = Peer::new(&pki, server.port());
        let told = json!({"do": "connect", "id": 1, "name": NAME, "max": "TLSv1_2"});
        let shown = peer.tell(told);
        for _ in 0..3 {
            let facts = peer.facts(1, "/");
            assert_eq!(facts["wsgi.url_scheme"], "https", "{class}");
            assert_eq!(facts["HTTPS"], "on");
            assert_eq!(facts["SSL_PROTOCOL"], "TLSv1.2");
            assert_eq!(facts["SSL_CIPHER"], shown["cipher"]);
            assert_eq!(facts["SSL_TLS_SNI"], NAME);
            assert_eq!(facts["SSL_SESSION_RESUMED"], "Initial");
            assert_eq!(facts["SSL_CLIENT_VERIFY"], "NONE");
        }
        // A trusted proxy in front knows better.
        let told = json!({
            "do": "request", "id": 1, "path": "/", "headers": {"X-Forwarded-Proto": "http"},
        });
        let body = peer.tell(told)["body"].to_string();
        assert!(body.contains(r#"\"wsgi.url_scheme\": \"http\""#), "{body}");
    }
    for event_loop in ["asyncio", "uvloop"] {
        let rgun = Rgun::app("tls_facts:asgi").args(["-k", "asgi", "--asgi-loop", event_loop]);
        let pki = Pki::new(&rgun.directory().join("tls"));
        pki.issue("a", &[NAME]);
        pki.issue("alice", &["alice"]);
        let ca = format!("&client-ca={}", pki.word("ca.pem"));
        let server = rgun.bind(pki.bind(&["a"], &ca)).start();
        let peer = Peer::new(&pki, server.port());
        let told = json!({"do": "connect", "id": 1, "name": NAME, "cert": pki.word("alice")});
        let shown = peer.tell(told);
        let facts = peer.facts(1, "/");
        assert_eq!(facts["scheme"], "https");
        let tls = &facts["tls"];
        assert_eq!(tls["tls_version"], 0x0304);
        assert_eq!(
            (&shown["cipher"], &tls["cipher_suite"]),
            (&json!("TLS_AES_256_GCM_SHA384"), &json!(0x1302))
        );
        assert_eq!(tls["client_cert_name"], "O=Tests,CN=alice");
        assert_eq!(tls["client_cert_error"], Value::Null);
        let chain = tls["client_cert_chain"].as_array().expect("a list");
        assert_eq!(chain.len(), 2);
        let begin = "-----BEGIN CERTIFICATE-----\n";
        assert!(chain[0].as_str().is_some_and(|pem| pem.starts_with(begin)));
        assert!(
            tls["server_cert"]
                .as_str()
                .is_some_and(|pem| pem.starts_with(begin))
        );
    }
}

#[test]
fn websockets_go_through_tls_with_messages_longer_than_any_buffer() {
    let (server, pki) = https(Rgun::app("tls_facts:asgi").args(["-k", "asgi"]), "");
    let peer = Peer::new(&pki, server.port());
    let digest = |text: String| {
        let mut file = std::env::temp_dir();
        file.push(format!("rgun-digest-{}-{}", std::process::id(), text.len()));
        std::fs::write(&file, text).expect("a file");
        let sum = Command::new("sha256sum")
            .arg(&file)
            .output()
            .expect("coreutils");
        let _ = std::fs::remove_file(&file);
        let sum = String::from_utf8(sum.stdout).expect("text");
        sum.split(' ').next().expect("a digest").to_owned()
    };
    let told = json!({"do": "websocket", "name": NAME, "path": "/", "messages": ["scope"]});
    let answer = peer.tell(told);
    assert_eq!(
        answer["answers"],
        json!([digest(r#"["wss", 772]"#.to_owned())])
    );
    let told = json!({
        "do": "websocket", "name": NAME, "path": "/", "messages": ["a", "bc"], "times": 3_000_000,
    });
    let answer = peer.tell(told);
    let expected = [
        digest("a".repeat(3_000_000)),
        digest("bc".repeat(3_000_000)),
    ];
    assert_eq!(answer["answers"], json!(expected));
}

#[test]
fn a_drain_finishes_requests_and_says_goodbye_by_tls() {
    let rgun = Rgun::app("tls_facts:wsgi").args(["-k", "gthread", "--threads", "2"]);
    let (server, pki) = https(rgun, "");
    let (busy, idle) = (
        Peer::new(&pki, server.port()),
        Peer::new(&pki, server.port()),
    );
    busy.connect(1, NAME);
    busy.get(1, "/");
    idle.connect(1, NAME);
    idle.get(1, "/");
    busy.tell(json!({"do": "send", "id": 1, "bytes": "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"}));
    server.signal(Signal::SIGTERM);
    let answer = busy.tell(json!({"do": "response", "id": 1}));
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["headers"]["connection"], "close");
    for peer in [busy, idle] {
        let end = peer.tell(json!({"do": "read_end", "id": 1}));
        assert_eq!((&end["bytes"], &end["clean"]), (&json!(""), &json!(true)));
    }
    server.assert_exits(0).within(patience());
}

#[test]
fn an_idle_connection_ends_by_tls() {
    let rgun = Rgun::app("builtin:hello").args(["--keep-alive", "1"]);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    peer.connect(1, NAME);
    peer.get(1, "/");
    let end = peer.tell(json!({"do": "read_end", "id": 1}));
    assert_eq!(end["clean"], true);
    // And where the client begins with it.
    peer.connect(2, NAME);
    peer.get(2, "/");
    peer.tell(json!({"do": "unwrap", "id": 2}));
}

/// The key is the master's to read; a worker of another user never opens the file.
#[test]
fn keys_are_read_before_privileges_are_dropped() {
    if !geteuid().is_root() {
        return;
    }
    let rgun = Rgun::app("builtin:hello").args(["--user", "nobody"]);
    let pki = Pki::new(&rgun.directory().join("tls"));
    let first = pki.issue("a", &[NAME]);
    let closed = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(pki.path("a.key"), closed(0o600)).expect("ours");
    std::fs::set_permissions(pki.path("."), closed(0o700)).expect("ours");
    let server = rgun.bind(pki.bind(&["a"], "")).workers(2).start();
    let peer = Peer::new(&pki, server.port());
    assert_eq!(peer.connect(1, NAME)["serial"], first.as_str());
    peer.get(1, "/");
    let second = pki.issue("a", &[NAME]);
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    crate::harness::until("the new certificate is shown", patience(), || {
        peer.connect(2, NAME)["serial"] == second.as_str()
    });
}
