//! Slow clients never hold an app, and a slow app holds no client that another worker could serve.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, Rgun, Server, patience, process, quiet, secs, until};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

/// One worker; with threads, one more than slow clients hold.
fn start(driver: &str, app: &str) -> Server {
    let rgun = Rgun::app(app).args(["-k", driver]);
    let rgun = if driver == "gthread" {
        rgun.args(["--threads", "2"])
    } else {
        rgun
    };
    rgun.start()
}

/// A client that reads a KB a second until it is told to stop.
struct Slow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Client>,
}

impl Slow {
    fn reads(server: &Server, path: &str) -> Self {
        let mut client = server.connect();
        client.send_get(path);
        until("the answer begins", patience(), || client.has_bytes());
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                client.trickle(100);
                std::thread::sleep(Duration::from_millis(100));
            }
            client
        });
        Self { stop, thread }
    }

    fn stop(self) -> Client {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only reads")
    }
}

/// Ten requests on connections of their own, each at once.
#[track_caller]
fn others_are_served_at_once(server: &Server, path: &str, what: &str) {
    for _ in 0..10 {
        let started = Instant::now();
        assert_eq!(server.get(path).response().status(), 200, "{what}");
        assert!(
            started.elapsed() < secs(2),
            "{what}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_client_that_reads_slowly_holds_nobody() {
    for driver in DRIVERS {
        let server = start(driver, "threads:app");
        let file = server.directory().join("file");
        fs::write(&file, vec![b'f'; 32 << 20]).expect("a file");
        for (path, length) in [
            // A list of 50 MB, a generator, a file.
            ("/pieces?50".to_owned(), 50 << 20),
            ("/stream?16384".to_owned(), 16 << 20),
            (format!("/file?{}", file.display()), 32 << 20),
        ] {
            let slow = Slow::reads(&server, &path);
            others_are_served_at_once(&server, "/thread", &format!("{driver} {path}"));
            let answer = slow.stop().response();
            assert_eq!(answer.body().len(), length, "{driver} {path}");
        }
    }
}

#[test]
fn what_a_slow_client_does_not_read_is_not_made() {
    for driver in DRIVERS {
        let server = start(driver, "threads:app");
        let pid = server.wait_for_workers(1)[0];
        server.get("/thread").response();
        let before = process::status(pid, "VmRSS");
        // 200 MB, if they were.
        let slow = Slow::reads(&server, "/stream?204800");
        others_are_served_at_once(&server, "/thread", driver);
        let after = process::status(pid, "VmRSS");
        assert!(
            after < before + 30 * 1024,
            "{driver}: {before} kB, then {after} kB"
        );
        // It leaves in the middle.
        drop(slow.stop());
        others_are_served_at_once(&server, "/thread", driver);
    }
}

#[test]
fn a_client_that_sends_its_body_slowly_holds_nobody() {
    const LENGTHS: [usize; 4] = [10, 60_000, 100_000, 3_000_000];
    for driver in DRIVERS {
        let server = start(driver, "wsgi:app");
        let mut uploads: Vec<Client> = LENGTHS
            .iter()
            .map(|length| {
                let mut client = server.connect();
                client.send(format!(
                    "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
                ));
                client.send(vec![b'x'; length - 1]);
                client
            })
            .collect();
        let mut half_a_head = server.connect();
        half_a_head.send("GET /hello HT");
        others_are_served_at_once(&server, "/hello", driver);
        for (client, length) in uploads.iter_mut().zip(LENGTHS) {
            client.send("x");
            assert_eq!(client.response().json()["length"], length, "{driver}");
        }
        half_a_head.send("TP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(half_a_head.response().text(), "hello world!");
    }
}

/// Connections that are all one worker's, of two.
fn of_one_worker(server: &Server, count: usize) -> Vec<Client> {
    let mut by_worker: BTreeMap<String, Vec<Client>> = BTreeMap::new();
    until("one worker has enough of them", patience(), || {
        let mut client = server.connect();
        let pid = client.get("/pid").text();
        by_worker.entry(pid).or_default().push(client);
        by_worker.values().any(|clients| clients.len() >= count)
    });
    let mut clients = by_worker
        .into_values()
        .find(|clients| clients.len() >= count)
        .expect("just found");
    clients.truncate(count);
    clients
}

#[test]
fn connections_of_a_busy_sync_worker_come_to_an_idle_one() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 10;
    let _quiet = quiet();
    let server = Rgun::app("wsgi:app")
        .args(["-k", "sync", "--keep-alive", "60"])
        .workers(2)
        .start();
    let clients = of_one_worker(&server, CLIENTS);
    let begin = Arc::new(Barrier::new(CLIENTS + 1));
    let address = server.address();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (begin, address) = (Arc::clone(&begin), address.clone());
            std::thread::spawn(move || {
                begin.wait();
                let mut answered = Vec::new();
                for _ in 0..REQUESTS {
                    let answer = client.get("/slow-pid?50");
                    if answer.says_close() {
                        client = Client::connect(&address);
                    }
                    answered.push(answer.text());
                }
                answered
            })
        })
        .collect();
    begin.wait();
    let started = Instant::now();
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for thread in threads {
        for pid in thread.join().expect("all are answered") {
            *answered.entry(pid).or_default() += 1;
        }
    }
    let elapsed = started.elapsed();
    // One worker would take two seconds, two take one.
    assert!(
        answered.len() == 2
            && answered
                .values()
                .all(|&count| count >= CLIENTS * REQUESTS / 4),
        "{answered:?} in {elapsed:?}"
    );
    assert!(elapsed < secs(2) * 4 / 5, "{elapsed:?}");
}

#[test]
fn connections_are_kept_where_closing_them_would_help_nobody() {
    // Of one worker; of a fast app; and the only one that a slow worker has.
    for (workers, clients, path) in [
        (1, 3, "/slow-pid?20"),
        (2, 4, "/pid"),
        (2, 1, "/slow-pid?20"),
    ] {
        let server = Rgun::app("wsgi:app")
            .args(["-k", "sync"])
            .workers(workers)
            .start();
        let mut clients: Vec<Client> = (0..clients).map(|_| server.connect()).collect();
        for _ in 0..5 {
            for client in &mut clients {
                let answer = client.get(path);
                assert!(
                    !answer.says_close(),
                    "{workers} workers, {path}: {answer:?}"
                );
            }
        }
    }
}
