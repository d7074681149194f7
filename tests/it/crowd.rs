//! Many new clients at a busy worker. How long they wait is told by how many answers others get meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;

use crate::harness::{Client, Rgun, Server, patience, process, until};

/// Clients that ask again as soon as they are answered.
const BUSY: usize = 8;
/// Clients that come together.
const NEW: usize = 60;

/// An app that holds its worker for a moment, and tells how many requests of busy clients it has had.
const WSGI: &str = "import time\n\
    count = 0\n\
    def app(environ, start_response):\n\
    \x20   global count\n\
    \x20   time.sleep(0.002)\n\
    \x20   count += environ['PATH_INFO'] == '/busy'\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [b'%d' % count]\n";

const ASGI: &str = "import time\n\
    count = 0\n\
    async def app(scope, receive, send):\n\
    \x20   global count\n\
    \x20   if scope['type'] != 'http': raise RuntimeError('http alone')\n\
    \x20   time.sleep(0.002)\n\
    \x20   count += scope['path'] == '/busy'\n\
    \x20   await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
    \x20   await send({'type': 'http.response.body', 'body': b'%d' % count})\n";

/// Clients that ask one request after the other on a connection that they keep, until they are stopped.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..BUSY).map(|_| {
            let mut client = server.connect();
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/busy").status(), 200);
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the clients are served");
        }
    }
}

/// How many requests of busy clients the app has had when it answers this one.
fn count(client: &mut Client) -> usize {
    let text = client.response().text();
    text.parse().expect("a number")
}

/// How many answers busy clients get between the first and the last of the new clients that come together.
fn answers_to_others_meanwhile(server: &Server) -> usize {
    let busy = Busy::start(server);
    until("all busy clients are served", patience(), || {
        let mut client = server.connect();
        client.send_get("/");
        count(&mut client) >= 10 * BUSY
    });
    let worker = server.worker_pids()[0];
    process::signal(worker, Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..NEW).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send_get("/");
    }
    process::signal(worker, Signal::SIGCONT);
    let counts: Vec<usize> = clients.iter_mut().map(count).collect();
    busy.stop();
    let first = counts.iter().min().expect("there are some");
    let last = counts.iter().max().expect("there are some");
    last - first
}

/// One connection was accepted each time the worker looked at its sockets, and most of those who were busy had an answer in
/// between. The bounds lie between what was counted then (sync 345, gevent 72, asyncio 371, uvloop 9,301 at the least) and what
/// is now (28, 8, 25, 473 at the most). Busy clients that are slow to ask again make it less.
#[test]
fn new_clients_of_a_busy_worker_are_accepted_together() {
    for (driver, more, app, bound) in [
        ("sync", &[][..], WSGI, NEW * BUSY / 4),
        ("gevent", &[], WSGI, NEW / 2),
        ("asgi", &["--asgi-loop", "asyncio"], ASGI, NEW * BUSY / 4),
        ("asgi", &["--asgi-loop", "uvloop"], ASGI, NEW * BUSY * 4),
    ] {
        let rgun = Rgun::app("crowded:app").args(["-k", driver]).args(more);
        rgun.write("crowded.py", app);
        let home = rgun.directory();
        let server = rgun.chdir(home).start();
        let others = answers_to_others_meanwhile(&server);
        assert!(
            others < bound,
            "{driver} {more:?}: {others} answers to others before the last of {NEW} had one"
        );
    }
}
