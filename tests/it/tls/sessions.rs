//! TLS sessions that go on: with other workers, after a reload, and not for ever.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{NAME, https};
use crate::harness::tls::Peer;
use crate::harness::{Rgun, patience, until};

fn resume(peer: &Peer, id: u32, max: &str) -> (bool, u64) {
    let told = json!({"do": "connect", "id": id, "name": NAME, "session": "first", "max": max});
    let resumed = peer.tell(told)["resumed"].as_bool().expect("a bool");
    let facts = peer.facts(id, "/");
    let word = if resumed { "Resumed" } else { "Initial" };
    assert_eq!(facts["SSL_SESSION_RESUMED"], word);
    (resumed, facts["pid"].as_u64().expect("a pid"))
}

/// A session, kept as `first`; the worker that it began with.
fn begin(peer: &Peer, max: &str) -> u64 {
    peer.tell(json!({"do": "connect", "id": 0, "name": NAME, "max": max}));
    let pid = peer.facts(0, "/")["pid"].as_u64().expect("a pid");
    peer.tell(json!({"do": "save", "id": 0, "session": "first"}));
    pid
}

#[test]
fn any_worker_resumes_what_another_began_also_after_a_reload() {
    for max in ["TLSv1_2", "TLSv1_3"] {
        let rgun = Rgun::app("tls_facts:wsgi")
            .args(["-k", "sync", "--keep-alive", "60"])
            .workers(2);
        let (server, pki) = https(rgun, "");
        let peer = Peer::new(&pki, server.port());
        let before = server.worker_pids();
        begin(&peer, max);
        let mut seen = BTreeSet::new();
        let mut id = 0;
        // Connections that stay open spread over the workers.
        until("both workers have been met", patience(), || {
            id += 1;
            let (resumed, pid) = resume(&peer, id, max);
            assert!(resumed, "{max} by worker {pid}");
            seen.insert(pid);
            seen.len() == 2
        });
        server.signal(Signal::SIGHUP);
        server.wait_ready(4);
        until("the old workers have left", patience(), || {
            let now = server.worker_pids();
            now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
        });
        let (resumed, pid) = resume(&peer, 999, max);
        assert!(resumed && !seen.contains(&pid), "{max} after a reload");
    }
}

#[test]
fn a_new_master_resumes_what_the_old_one_began_and_so_does_the_old_one() {
    for max in ["TLSv1_2", "TLSv1_3"] {
        let rgun = Rgun::app("tls_facts:wsgi")
            .args(["-k", "sync", "--keep-alive", "60"])
            .workers(2);
        let (server, pki) = https(rgun, "");
        let peer = Peer::new(&pki, server.port());
        let before: BTreeSet<_> = server.worker_pids().into_iter().collect();
        begin(&peer, max);
        server.signal(Signal::SIGUSR2);
        server.wait_ready(4);
        let is_old = |pid: u64| before.contains(&i32::try_from(pid).expect("a pid"));
        let mut seen = BTreeSet::new();
        let mut id = 0;
        until("workers of both masters have been met", patience(), || {
            id += 1;
            let (resumed, pid) = resume(&peer, id, max);
            assert!(resumed, "{max} by worker {pid}");
            seen.insert(is_old(pid));
            seen.len() == 2
        });
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
        let (resumed, pid) = resume(&peer, 999, max);
        assert!(resumed && !is_old(pid), "{max} after the old master");
    }
}

#[test]
fn a_session_is_forgotten_when_its_time_is_over() {
    let rgun = Rgun::app("tls_facts:wsgi").args(["--tls-session-lifetime", "2", "-k", "sync"]);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    begin(&peer, "TLSv1_3");
    assert!(resume(&peer, 1, "TLSv1_3").0);
    let mut id = 1;
    until("the session is not known any more", patience(), || {
        id += 1;
        !resume(&peer, id, "TLSv1_3").0
    });
}

#[test]
fn without_a_lifetime_there_are_no_sessions() {
    let rgun = Rgun::app("tls_facts:wsgi").args(["--tls-session-lifetime", "0", "-k", "sync"]);
    let (server, pki) = https(rgun, "");
    let peer = Peer::new(&pki, server.port());
    begin(&peer, "TLSv1_3");
    assert!(!resume(&peer, 1, "TLSv1_3").0);
}
