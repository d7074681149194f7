//! Slow and hostile clients at every protocol: each act costs one connection, and nobody else notices.

mod acts;
mod ordinary;
mod speech;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use acts::{Act, Ends};
use speech::Speech;
use wire::{Door, NAME, Wire, client};

use crate::harness::tls::Pki;
use crate::harness::{Address, Rgun, Server, patience, process, secs, until};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C\xC0\x00\x02\x07\xC6\x33\x64\x01\x12\x67\x01\xBB";

/// One worker, short deadlines, and everything that it says.
fn patient(rgun: Rgun) -> Rgun {
    rgun.args(["--header-timeout", "2", "--body-timeout", "2"])
        .args(["--tls-handshake-timeout", "2", "--write-timeout", "1"])
        .args(["--keep-alive", "1", "--overload-timeout", "20"])
        .args([
            "--websocket-ping-interval",
            "1",
            "--websocket-ping-timeout",
            "1",
        ])
        .args(["--websocket-max-message-size", "64KiB"])
}

fn address(server: &Server, place: usize) -> std::net::SocketAddr {
    match server.addresses().swap_remove(place) {
        Address::Tcp(address) => address,
        other @ (Address::Unix(_) | Address::Abstract(_)) => panic!("{other:?} is no port"),
    }
}

/// A Python app behind every protocol that it can have, and its doors.
fn apps_of(more: impl FnOnce(Rgun) -> Rgun) -> (Server, Vec<Door>) {
    let rgun = Rgun::app("hostile:app").args(["-k", "asgi"]);
    let rgun = more(rgun.args(["--http-protocols", "h2,h1", "--http2-cleartext", "both"]));
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    let server = rgun
        .bind("http://127.0.0.1:0")
        .bind("http://127.0.0.1:0?proxy=auto")
        .bind(pki.bind(&["a"], ""))
        .bind(pki.bind(&["a"], "&proxy=auto"))
        .bind("uwsgi://127.0.0.1:0")
        .bind("uwsgi://127.0.0.1:0?proxy=auto")
        .bind("tcp://127.0.0.1:0=hostile:lines")
        .bind("tcp://127.0.0.1:0=hostile:lines?proxy=auto")
        .start();
    let tls = |protocol| Some(client(&pki.path("ca.pem"), protocol));
    let all: [(_, _, &[u8], _, _); 16] = [
        ("http", 0, b"", None, Speech::Http1),
        ("WebSocket", 0, b"", None, Speech::WebSocket),
        ("h2c", 0, b"", None, Speech::Http2),
        ("http behind PROXY v1", 1, V1, None, Speech::Http1),
        ("http behind PROXY v2", 1, V2, None, Speech::Http1),
        ("https", 2, b"", tls("http/1.1"), Speech::Http1),
        ("h2 by TLS", 2, b"", tls("h2"), Speech::Http2),
        (
            "WebSocket by TLS",
            2,
            b"",
            tls("http/1.1"),
            Speech::WebSocket,
        ),
        (
            "https behind PROXY v1",
            3,
            V1,
            tls("http/1.1"),
            Speech::Http1,
        ),
        (
            "https behind PROXY v2",
            3,
            V2,
            tls("http/1.1"),
            Speech::Http1,
        ),
        ("h2 behind PROXY v2", 3, V2, tls("h2"), Speech::Http2),
        ("uwsgi", 4, b"", None, Speech::Uwsgi),
        ("uwsgi behind PROXY v1", 5, V1, None, Speech::Uwsgi),
        ("a Python service", 6, b"", None, Speech::Lines),
        (
            "a Python service behind PROXY v1",
            7,
            V1,
            None,
            Speech::Lines,
        ),
        (
            "a Python service behind PROXY v2",
            7,
            V2,
            None,
            Speech::Lines,
        ),
    ];
    let doors = all.map(|(name, place, header, tls, speech)| Door {
        name,
        address: address(&server, place),
        header,
        tls,
        speech,
    });
    (server, doors.into())
}

/// A service in Rust, and its doors.
fn services() -> (Server, Vec<Door>) {
    let rgun = patient(Rgun::example("rpc"));
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    let files = format!("cert={}&key={}", pki.word("a.pem"), pki.word("a.key"));
    let server = rgun
        .bind("tcp://127.0.0.1:0=frames")
        .bind("tcp://127.0.0.1:0=frames?proxy=auto")
        .bind(format!("tcp://127.0.0.1:0=frames?{files}"))
        .start();
    let tls = client(&pki.path("ca.pem"), "rpc");
    let all: [(_, _, &[u8], _); 4] = [
        ("a Rust service", 0, b"", None),
        ("a Rust service behind PROXY v1", 1, V1, None),
        ("a Rust service behind PROXY v2", 1, V2, None),
        ("a Rust service by TLS", 2, b"", Some(tls)),
    ];
    let doors = all.map(|(name, place, header, tls)| Door {
        name,
        address: address(&server, place),
        header,
        tls,
        speech: Speech::Frames,
    });
    (server, doors.into())
}

#[track_caller]
fn assert_served(door: &Door) {
    let served = Wire::open(door).and_then(|mut wire| door.speech.ask(&mut wire));
    served.unwrap_or_else(|error| panic!("{} is not served: {error}", door.name));
}

/// Does every act at every door, those of one door at once; others are served at all doors meanwhile.
#[track_caller]
fn assault(server: &Server, doors: &[Door]) {
    let worker = server.wait_for_workers(1)[0];
    let files = || process::open_files(worker).len();
    for door in doors {
        assert_served(door);
    }
    // What the first requests have opened is closed again, but for what stays.
    until("the first connections are closed", patience(), || {
        let ports = doors
            .iter()
            .map(|door| process::established(door.address.port()));
        ports
            .map(|held| process::holds(worker, &held))
            .sum::<usize>()
            == 0
    });
    let before = files();
    let over = AtomicBool::new(false);
    // Those who do not look whether they are cut stay until that was seen.
    let mut deaf = Vec::new();
    thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                for door in doors {
                    let begun = Instant::now();
                    assert_served(door);
                    longest = longest.max(begun.elapsed());
                }
            }
            longest
        });
        let _end = Over(&over);
        for door in doors {
            let acts = Act::ALL.map(|act| scope.spawn(move || does(act, door)));
            deaf.extend(acts.map(|act| act.join().expect("the act is done")));
            assert_served(door);
        }
        over.store(true, Ordering::Relaxed);
        let longest = neighbour.join().expect("the neighbour is served");
        assert!(longest < secs(5), "a neighbour waited {longest:?}");
    });
    until(
        "the worker has closed what it had opened",
        patience(),
        || files() <= before,
    );
    drop(deaf);
    assert_eq!(server.booted(), [worker]);
    // That a client has broken the rules of a service's own protocol is the service's to say.
    let said = "Error in the service frames (ip=";
    let broken = server.count_lines(said);
    assert!(broken <= 3 * doors.len(), "{broken} errors");
    let mut log = server.log();
    log.retain(|line| !line.contains(said));
    for word in ["panic", "Panic", "Traceback", "[ERROR]", "[CRITICAL]"] {
        let lines: Vec<_> = log.iter().filter(|line| line.contains(word)).collect();
        assert!(lines.is_empty(), "{} lines: {lines:#?}", lines.len());
    }
}

/// The neighbour ends, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One act, and that it ends as it should; tells the connection that is to be ended without anybody looking.
fn does(act: Act, door: &Door) -> Option<Wire> {
    let mut wire = act.at(door)?;
    match act.ends(door) {
        Ends::ByServer => {
            assert!(wire.is_ended(), "{}: {act:?} stays", door.name);
            None
        }
        Ends::Unseen => Some(wire),
        Ends::ByClient => None,
    }
}

#[test]
fn whatever_a_client_does_to_an_app_costs_its_connection_only() {
    let (server, doors) = apps_of(patient);
    assault(&server, &doors);
}

#[test]
fn whatever_a_client_does_to_a_service_costs_its_connection_only() {
    let (server, doors) = services();
    assault(&server, &doors);
}
