//! HTTP/2 by ALPN: who chooses it is served it, and who does not HTTP/1.1.

use std::process::{Command, Stdio};

use super::{curl, https};
use crate::harness::{Rgun, Server, patience};

const VERSION: [&str; 3] = ["-w", " %{http_version} %{http_code}", "URL/a?b"];

fn offering(protocols: &str) -> Rgun {
    Rgun::app("builtin:echo").args(["--http-protocols", protocols])
}

/// What a tool of nghttp2's says of the server.
#[track_caller]
fn tool(name: &str, words: &[&str], server: &Server) -> String {
    let output = Command::new("timeout")
        .arg(patience().as_secs().to_string())
        .arg(name)
        .args(words)
        .arg(format!("https://127.0.0.1:{}/", server.port()))
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name} {words:?}: {text}");
    text
}

#[test]
fn a_client_chooses_by_alpn() {
    for (protocols, chosen) in [
        ("h2,h1", [" 2 200", " 1.1 200", " 1.1 200"]),
        ("h2", [" 2 200", " 1.1 200", " 1.1 200"]),
        ("h1", [" 1.1 200", " 1.1 200", " 1.1 200"]),
    ] {
        let (server, pki) = https(offering(protocols), "");
        for (how, version) in ["--http2", "--http1.1", "--no-alpn"]
            .into_iter()
            .zip(chosen)
        {
            let body = curl(&server, &pki, &[&[how][..], &VERSION].concat());
            assert!(body.ends_with(version), "{protocols} {how}: {body}");
            assert!(body.contains(r#""scheme":"https""#), "{body}");
        }
    }
}

#[test]
fn the_servers_order_decides() {
    for (protocols, version) in [("h2,h1", " 2 200"), ("h1,h2", " 1.1 200")] {
        let (server, pki) = https(offering(protocols), "");
        // curl offers both.
        let body = curl(&server, &pki, &VERSION);
        assert!(body.ends_with(version), "{protocols}: {body}");
    }
}

#[test]
fn many_streams_and_large_bodies_go_through() {
    let (server, pki) = https(offering("h2").workers(2), "");
    let text = tool("h2load", &["-n", "5000", "-c", "20", "-m", "10"], &server);
    assert!(text.contains("5000 succeeded, 0 failed"), "{text}");
    assert!(text.contains("Application protocol: h2"), "{text}");
    let file = server.directory().join("large");
    std::fs::write(&file, vec![b'a'; 3_000_000]).expect("the directory takes files");
    let data = format!("@{}", file.display());
    let body = curl(&server, &pki, &["--http2", "--data-binary", &data, "URL/"]);
    assert!(
        body.contains(&"a".repeat(3_000_000)),
        "{} bytes came",
        body.len()
    );
}

#[test]
fn no_cleartext_ways_within_tls() {
    let rgun = offering("h2,h1").args(["--http2-cleartext", "both"]);
    let (server, pki) = https(rgun, "");
    let words = [
        "--http1.1",
        "-H",
        "Connection: Upgrade, HTTP2-Settings",
        "-H",
        "Upgrade: h2c",
    ];
    let settings = ["-H", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let body = curl(&server, &pki, &[&words[..], &settings, &VERSION].concat());
    assert!(body.ends_with(" 1.1 200"), "{body}");
}
