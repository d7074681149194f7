//! Listeners of every kind at one server: the same workers serve them all, also after a reload.

use std::collections::HashSet;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::tls::{Peer, Pki};
use crate::harness::{Address, Client, Packet, Rgun, Server, patience, until};

const NAME: &str = "a.example";
/// Of a proxy, about its client.
const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

fn port(address: &Address) -> u16 {
    match address {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) | Address::Abstract(_) => panic!("{address:?} has no port"),
    }
}

fn http2(pki: &Pki, port: u16) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--http2", "--cacert", &pki.word("ca.pem")])
        .args(["--max-time", &patience().as_secs().to_string()])
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
        .args(["-w", " %{http_version} %{http_code}"])
        .arg(format!("https://{NAME}:{port}/"))
        .output()
        .expect("curl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks once at each of the listeners.
#[track_caller]
fn ask_all(server: &Server, pki: &Pki) {
    let addresses = server.addresses();
    let plain = Client::connect(&addresses[0]).get("/").json();
    assert_eq!(plain["scheme"], "http");

    let secure = http2(pki, port(&addresses[1]));
    assert!(secure.ends_with(" 2 200"), "{secure}");
    assert!(secure.contains(r#""scheme":"https""#), "{secure}");

    let packet = Packet::get("/")
        .var("REMOTE_ADDR", "192.0.2.9")
        .var("REMOTE_PORT", "99")
        .var("HTTPS", "on");
    let told = Client::connect(&addresses[2]).ask(packet.bytes()).json();
    assert_eq!(told["peer"], "192.0.2.9:99");
    assert_eq!(told["scheme"], "https");

    let proxied = Peer::new(pki, port(&addresses[3]));
    proxied.tell(json!({"do": "connect", "id": 1, "name": NAME, "first": HEADER}));
    let told: Value = proxied.facts(1, "/");
    assert_eq!(told["peer"], "192.0.2.7:4711");
    assert_eq!(told["scheme"], "https");
}

#[test]
fn the_same_workers_serve_every_kind_through_a_reload() {
    let rgun = Rgun::app("builtin:echo").workers(2);
    let directory = rgun.directory();
    let pki = Pki::new(&directory.join("tls"));
    pki.issue("a", &[NAME]);
    let server = rgun
        .bind("http://127.0.0.1:0")
        .bind(pki.bind(&["a"], ""))
        .bind(format!("uwsgi:unix:{}/app.sock", directory.display()))
        .bind(pki.bind(&["a"], "&proxy=v1"))
        .args(["--http-protocols", "h2,h1"])
        .start();
    let before: HashSet<_> = server.wait_for_workers(2).into_iter().collect();
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 4);
    for _ in 0..5 {
        ask_all(&server, &pki);
    }
    assert_eq!(
        server.worker_pids().into_iter().collect::<HashSet<_>>(),
        before
    );

    server.signal(Signal::SIGHUP);
    until("the new workers have taken over", patience(), || {
        let now = server.worker_pids();
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(server.addresses(), addresses);
    for _ in 0..5 {
        ask_all(&server, &pki);
    }
}
