//! USR2, from all sides: each mode, each order of the two masters' ends, each way in which a new one can fail, the
//! subcommand, the service manager. A client is on the server all the time, and every request it makes must be answered.

mod command;
mod failures;
mod manager;
mod orders;

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;

use crate::harness::rgun::pid_after;
use crate::harness::{Address, Client, Rgun, Server, millis, patience, process, until};

/// How a server comes by its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    ReusePort,
    Unix,
    Fd,
    Activated,
}

impl Mode {
    const ALL: [Self; 5] = [
        Self::Shared,
        Self::ReusePort,
        Self::Unix,
        Self::Fd,
        Self::Activated,
    ];

    fn set(self, rgun: Rgun) -> Rgun {
        let inherited = |rgun: Rgun, script: &str| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let script = format!("exec 3<&0 </dev/null; {script} exec \"$@\"");
            rgun.stdin(OwnedFd::from(listener))
                .wrapped(["sh", "-c", &script, "sh"])
        };
        match self {
            Self::Shared => rgun,
            Self::ReusePort => rgun.arg("--reuse-port"),
            Self::Unix => {
                let socket = rgun.directory().join("server.sock");
                rgun.bind(format!("unix:{}", socket.display()))
            }
            Self::Fd => inherited(rgun.bind("fd://3"), ""),
            Self::Activated => inherited(rgun, "LISTEN_PID=$$ LISTEN_FDS=1"),
        }
    }
}

/// A server with a pidfile, and the master of it that serves now.
struct Upgraded {
    server: Server,
    master: i32,
    pidfile: PathBuf,
    workers: usize,
    /// How often there was a new master so far.
    upgrades: usize,
}

impl Upgraded {
    #[track_caller]
    fn start(rgun: Rgun, workers: usize) -> Self {
        let pidfile = rgun.directory().join("server.pid");
        let server = rgun.workers(workers).arg("-p").arg(&pidfile).start();
        let upgraded = Self {
            master: server.pid(),
            server,
            pidfile,
            workers,
            upgrades: 0,
        };
        upgraded.is_alone();
        upgraded
    }

    /// USR2; the new master's pid, once it is there.
    #[track_caller]
    fn usr2(&mut self) -> i32 {
        process::signal(self.master, Signal::SIGUSR2);
        self.upgrades += 1;
        let lines = self
            .server
            .wait_for_lines("Started a new master (pid:", self.upgrades);
        let line = lines.last().expect("one line or more");
        pid_after(line, "(pid:").expect("its pid")
    }

    /// USR2; the new master's pid, once it is ready, and the pidfiles are as they should be.
    #[track_caller]
    fn upgrade(&mut self) -> i32 {
        let new = self.usr2();
        self.server
            .wait_for_line(&format!("The new master (pid:{new}) is ready."));
        assert_eq!(read(&self.pidfile), self.master.to_string());
        assert_eq!(read(&self.second()), new.to_string());
        new
    }

    fn second(&self) -> PathBuf {
        self.pidfile.with_extension("pid.2")
    }

    /// Ends the old master and takes the new one for the server.
    #[track_caller]
    fn retire(&mut self, new: i32, signal: Signal) {
        let old = std::mem::replace(&mut self.master, new);
        process::signal(old, signal);
        self.ends(old);
        self.is_alone();
    }

    /// Ends the new master.
    #[track_caller]
    fn give_up(&self, new: i32, signal: Signal) {
        process::signal(new, signal);
        self.ends(new);
        self.server
            .wait_for_line(&format!("The new master (pid:{new}) has ended"));
        self.is_alone();
    }

    #[track_caller]
    fn ends(&self, pid: i32) {
        if pid == self.server.pid() {
            self.server.assert_exits(0).within(patience());
        }
        until("the master ends", patience(), || !process::alive(pid));
    }

    /// The one master has all the names and all its workers, and serves.
    #[track_caller]
    fn is_alone(&self) {
        until("the pidfile is the only master's", patience(), || {
            read(&self.pidfile) == self.master.to_string() && !self.second().exists()
        });
        until("it has its workers and nobody else", patience(), || {
            process::children(self.master).len() == self.workers
        });
        assert_eq!(ask(&self.server.address()), Ok(200));
        if let Address::Unix(path) = self.server.address() {
            assert!(path.exists(), "the socket's path");
        }
    }

    /// What an upgrade that came to nothing must leave as it was.
    fn facts(&self) -> Facts {
        let mut files: Vec<_> = fs::read_dir(self.server.directory())
            .expect("the directory")
            .flatten()
            .map(|entry| {
                let meta = entry.metadata().expect("a file of it");
                (
                    entry.file_name(),
                    std::os::unix::fs::MetadataExt::ino(&meta),
                )
            })
            .filter(|(name, _)| name != "server")
            .collect();
        files.sort();
        let mut workers = process::children(self.master);
        workers.sort_unstable();
        Facts {
            pidfile: read(&self.pidfile),
            files,
            workers,
            open: process::open_files(self.master).len(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    pidfile: String,
    files: Vec<(std::ffi::OsString, u64)>,
    workers: Vec<i32>,
    open: usize,
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn ask(address: &Address) -> Result<u16, String> {
    let mut client = Client::try_connect(address).map_err(|error| error.to_string())?;
    client.try_get("/").map(|response| response.status())
}

/// Clients that ask all the time, two on new connections and two on connections that they keep.
struct Steady {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    good: usize,
    /// Everything that was not an answer with 200, in words.
    failures: Vec<String>,
}

impl Steady {
    fn on(server: &Server) -> Self {
        Self::at(&server.address())
    }

    fn at(address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [false, true, false, true]
            .into_iter()
            .map(|keeps| {
                let (stop, address) = (Arc::clone(&stop), address.clone());
                std::thread::spawn(move || {
                    let mut seen = Seen::default();
                    let mut kept = None;
                    while !stop.load(Ordering::Relaxed) {
                        kept = seen.ask(kept, &address).filter(|_| keeps);
                        std::thread::sleep(millis(1));
                    }
                    seen
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends them and tells what they saw.
    fn seen(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Seen::default();
        for thread in self.threads {
            let seen = thread.join().expect("the client thread does not panic");
            sum.good += seen.good;
            sum.failures.extend(seen.failures);
        }
        sum
    }

    /// Ends them: all of their requests were answered.
    #[track_caller]
    fn lost_nothing(self) {
        let seen = self.seen();
        assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
        assert!(seen.good > 20, "only {} answers", seen.good);
    }
}

impl Seen {
    /// One request; the connection, where it can be used again.
    fn ask(&mut self, kept: Option<Client>, address: &Address) -> Option<Client> {
        let reused = kept.is_some();
        let mut client = match kept.map_or_else(|| Client::try_connect(address), Ok) {
            Ok(client) => client,
            Err(error) => {
                self.failures.push(format!("connecting: {error}"));
                return None;
            }
        };
        match client.try_get("/") {
            Ok(response) if response.status() == 200 => {
                self.good += 1;
                (!response.says_close()).then_some(client)
            }
            Ok(response) => {
                self.failures.push(response.status().to_string());
                None
            }
            // RFC 9112, 9.3.1: a kept connection may be closed while a request is on its way, and the client asks again. This
            // machine may have stood between the two for longer than a server waits for such a request.
            Err(error) if reused && unanswered(&error) => self.ask(None, address),
            Err(error) => {
                self.failures.push(format!("reused {reused}: {error}"));
                None
            }
        }
    }
}

/// Not a byte of an answer had come.
fn unanswered(error: &str) -> bool {
    error.starts_with("sending: ") || error.ends_with("after \"\"")
}
