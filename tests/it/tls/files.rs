//! Certificates that are replaced on disk, by files that are right and by others.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{NAME, https};
use crate::harness::tls::{Peer, Pki};
use crate::harness::{Rgun, patience, until};

fn shown(peer: &Peer) -> Value {
    peer.connect(1000, NAME)["serial"].clone()
}

#[test]
fn a_reload_takes_a_new_certificate_and_refuses_a_bad_one() {
    let rgun = Rgun::app("builtin:hello")
        .args(["--tls-watch", "off"])
        .workers(2);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    let first = shown(&peer);
    let second = pki.issue("a", &[NAME]);
    assert_eq!(shown(&peer), first, "before the signal");
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    until("the new one is shown", patience(), || {
        shown(&peer) == second.as_str()
    });
    let workers = server.wait_for_workers(2);

    // A certificate whose key was not replaced with it.
    let key = fs::read(pki.path("a.key")).unwrap();
    pki.issue("a", &[NAME]);
    fs::write(pki.path("a.key"), key).unwrap();
    server.signal(Signal::SIGHUP);
    let line = server.wait_for_line("Reload failed, nothing has changed: ");
    assert!(
        line.contains("TLS private key") && line.contains("a.key\": it does not belong to"),
        "{line}"
    );
    assert_eq!(shown(&peer), second.as_str());
    assert_eq!(server.worker_pids(), workers);
    fs::remove_file(pki.path("a.key")).unwrap();
    server.signal(Signal::SIGHUP);
    let lines = server.wait_for_lines("Reload failed, nothing has changed: ", 2);
    assert!(lines[1].contains("No such file"), "{}", lines[1]);
    assert_eq!(shown(&peer), second.as_str());
}

#[test]
fn files_that_change_are_taken_while_connections_live_on() {
    let rgun = Rgun::app("builtin:hello")
        .args(["--keep-alive", "60"])
        .workers(2);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    let workers = server.worker_pids();
    let first = peer.connect(1, NAME)["serial"].clone();
    peer.get(1, "/");
    let second = pki.issue("a", &[NAME]);
    server.wait_for_line("New files of TLS are taken for new handshakes.");
    until("every worker shows the new one", patience(), || {
        (0..8).all(|_| shown(&peer) == second.as_str())
    });
    assert_ne!(first, second.as_str());
    peer.get(1, "/");
    assert_eq!(server.worker_pids(), workers);

    // What is bad changes nothing, and is told once.
    fs::write(pki.path("a.pem"), "nonsense").unwrap();
    let line = server.wait_for_line("Changed files of TLS are not taken");
    assert!(
        line.contains("a.pem\": there is no certificate in it: it is not PEM"),
        "{line}"
    );
    assert_eq!(shown(&peer), second.as_str());
    let third = pki.issue("a", &[NAME]);
    until("the next good one is shown", patience(), || {
        shown(&peer) == third.as_str()
    });
    peer.get(1, "/");
    assert_eq!(server.count_lines("Changed files of TLS are not taken"), 1);
    assert_eq!(server.worker_pids(), workers);
    // Those who come later have it, too.
    server.signal(Signal::SIGTTIN);
    server.wait_ready(3);
    assert!((0..9).all(|_| shown(&peer) == third.as_str()));
}

/// As Kubernetes mounts a secret: the files are links through `..data`, which is swapped in one step.
#[test]
fn a_link_on_the_way_to_the_files_may_be_swapped() {
    let rgun = Rgun::app("builtin:hello");
    let pki = Pki::new(&rgun.directory().join("tls"));
    let put = |version: &str| {
        let (chain, key, serial) = pki.sign(&[NAME]);
        let directory = pki.path(version);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.pem"), chain).unwrap();
        fs::write(directory.join("a.key"), key).unwrap();
        symlink(version, pki.path("..next")).unwrap();
        fs::rename(pki.path("..next"), pki.path("..data")).unwrap();
        serial
    };
    let first = put("..1");
    symlink("..data/a.pem", pki.path("a.pem")).unwrap();
    symlink("..data/a.key", pki.path("a.key")).unwrap();
    let server = rgun.bind(pki.bind(&["a"], "")).start();
    let peer = Peer::new(&pki, server.port());
    assert_eq!(shown(&peer), first.as_str());
    for version in ["..2", "..3"] {
        let next = put(version);
        until("the next one is shown", patience(), || {
            shown(&peer) == next.as_str()
        });
    }
}

#[test]
fn a_start_with_bad_files_says_which_and_why() {
    let rgun = Rgun::app("builtin:hello");
    let pki = Pki::new(&rgun.directory().join("tls"));
    pki.issue("a", &[NAME]);
    fs::copy(pki.path("a.pem"), pki.path("b.pem")).unwrap();
    let server = rgun.bind(pki.bind(&["a", "b"], "")).spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("b.key\": No such file or directory");

    let rgun = Rgun::app("builtin:hello").arg("--check-config");
    let other = Pki::new(&rgun.directory().join("tls"));
    other.issue("a", &[NAME]);
    fs::copy(pki.path("a.key"), other.path("a.key")).unwrap();
    let server = rgun.bind(other.bind(&["a"], "")).spawn();
    server.assert_exits(1).within(patience());
    server.wait_for_line("a.key\": it does not belong to the (first) certificate of");
}

#[test]
fn an_upgrade_reads_the_files_anew_and_a_socket_that_is_handed_on_keeps_its_tls() {
    let rgun = Rgun::app("builtin:hello").args(["--tls-watch", "off", "--reuse-port"]);
    let (server, pki) = https(rgun.workers(2), "");
    let peer = Peer::new(&pki, server.port());
    let first = shown(&peer);
    server.signal(Signal::SIGTTOU);
    server.wait_for_workers(1);
    for _ in 0..10 {
        assert_eq!(shown(&peer), first, "whichever socket the kernel chose");
    }
    let second = pki.issue("a", &[NAME]);
    server.signal(Signal::SIGUSR2);
    server.wait_ready(4);
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    for _ in 0..10 {
        assert_eq!(shown(&peer), second.as_str());
    }
}

type Spoil = fn(&Pki);

/// Each bad state of the files, how it comes to be, and what is said of it.
const BAD: [(&str, Spoil, &str); 6] = [
    (
        "garbage for a certificate",
        |pki| fs::write(pki.path("a.pem"), "garbage").unwrap(),
        "a.pem\": there is no certificate in it",
    ),
    (
        "an empty certificate",
        |pki| fs::write(pki.path("a.pem"), "").unwrap(),
        "a.pem\": there is no certificate in it",
    ),
    (
        "garbage for a key",
        |pki| fs::write(pki.path("a.key"), "garbage").unwrap(),
        "a.key\": there is no private key in it",
    ),
    (
        "a key of another certificate",
        |pki| fs::write(pki.path("a.key"), pki.sign(&[NAME]).1).unwrap(),
        "a.key\": it does not belong to",
    ),
    (
        "no certificate",
        |pki| fs::remove_file(pki.path("a.pem")).unwrap(),
        "a.pem\": No such file",
    ),
    (
        "no key",
        |pki| fs::remove_file(pki.path("a.key")).unwrap(),
        "a.key\": No such file",
    ),
];

#[test]
fn whatever_is_wrong_with_new_files_a_reload_changes_nothing_and_says_which() {
    let rgun = Rgun::app("builtin:hello").args(["--tls-watch", "off", "--keep-alive", "600"]);
    let (server, pki) = https(rgun.workers(2), "");
    let peer = Peer::new(&pki, server.port());
    let first = shown(&peer);
    peer.connect(1, NAME);
    peer.get(1, "/");
    let workers = server.worker_pids();
    for (number, (what, spoil, said)) in BAD.into_iter().enumerate() {
        let kept = ["a.pem", "a.key"].map(|file| fs::read(pki.path(file)).unwrap());
        spoil(&pki);
        server.signal(Signal::SIGHUP);
        let lines = server.wait_for_lines("Reload failed, nothing has changed: ", number + 1);
        assert!(lines[number].contains(said), "{what}: {}", lines[number]);
        assert_eq!(shown(&peer), first, "{what}");
        peer.get(1, "/");
        for (file, bytes) in ["a.pem", "a.key"].into_iter().zip(kept) {
            fs::write(pki.path(file), bytes).unwrap();
        }
    }
    assert_eq!(server.worker_pids(), workers);
    // What is good again is taken, by others, and the connection from before is theirs who began it until it ends.
    let second = pki.issue("a", &[NAME]);
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    until("the new one is shown", patience(), || {
        shown(&peer) == second.as_str()
    });
}

#[test]
fn whatever_is_wrong_with_new_files_the_watch_changes_nothing_and_says_which() {
    let rgun = Rgun::app("builtin:hello").args(["--keep-alive", "600"]);
    let (server, pki) = https(rgun.workers(2), "");
    let peer = Peer::new(&pki, server.port());
    let first = shown(&peer);
    peer.connect(1, NAME);
    peer.get(1, "/");
    let workers = server.worker_pids();
    let kept = ["a.pem", "a.key"].map(|file| fs::read(pki.path(file)).unwrap());
    for (what, spoil, said) in BAD {
        let before = server.count_lines(said);
        spoil(&pki);
        until(&format!("it is said: {what}"), patience(), || {
            server.count_lines(said) > before
        });
        assert_eq!(shown(&peer), first, "{what}");
        peer.get(1, "/");
        for (file, bytes) in ["a.pem", "a.key"].into_iter().zip(&kept) {
            fs::write(pki.path(file), bytes).unwrap();
        }
    }
    assert_eq!(server.worker_pids(), workers);
}

#[test]
fn an_expired_certificate_is_taken_and_warned_of() {
    let rgun = Rgun::app("builtin:hello").args(["--tls-watch", "off"]);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    pki.issue_expired("a", &[NAME]);
    server.signal(Signal::SIGHUP);
    let line = server.wait_for_line("expired on 2020-01-01");
    assert!(
        line.contains("[WARNING]") && line.contains("a.pem\": "),
        "{line}"
    );
    server.wait_ready(2);
    let mut answer = Value::Null;
    until("clients see that it has expired", patience(), || {
        answer = peer.ask(serde_json::json!({"do": "connect", "id": 1, "name": NAME}));
        answer.get("error").is_some()
    });
    assert!(answer["error"].to_string().contains("expired"), "{answer}");
}

#[test]
fn a_new_master_that_cannot_read_its_files_ends_and_the_old_one_goes_on() {
    let rgun = Rgun::app("builtin:hello").args(["--tls-watch", "off", "--keep-alive", "600"]);
    let (server, pki) = https(rgun.workers(2), "");
    let peer = Peer::new(&pki, server.port());
    let first = shown(&peer);
    peer.connect(1, NAME);
    peer.get(1, "/");
    let workers = server.worker_pids();
    let kept = fs::read(pki.path("a.pem")).unwrap();
    for (number, (spoil, said)) in [(BAD[0].1, BAD[0].2), (BAD[4].1, BAD[4].2)]
        .into_iter()
        .enumerate()
    {
        spoil(&pki);
        server.signal(Signal::SIGUSR2);
        let lines = server.wait_for_lines("ended before it was ready", number + 1);
        assert!(
            lines[number].contains("it exited with code 1"),
            "{}",
            lines[number]
        );
        server.wait_for_line(said);
        assert_eq!(shown(&peer), first);
        peer.get(1, "/");
        assert_eq!(server.worker_pids(), workers);
        fs::write(pki.path("a.pem"), &kept).unwrap();
    }
    server.signal(Signal::SIGUSR2);
    server.wait_ready(4);
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert_eq!(shown(&peer), first);
}
