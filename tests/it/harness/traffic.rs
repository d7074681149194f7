//! Requests: one, one in the background, or many until told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Address, Client, Response, Server};

/// A request about to be sent.
pub(crate) struct Get {
    address: Address,
    path: String,
}

impl Get {
    pub(super) fn new(address: Address, path: &str) -> Self {
        Self {
            address,
            path: path.to_owned(),
        }
    }

    /// Sends it and reads the answer.
    #[track_caller]
    pub(crate) fn response(&self) -> Response {
        Client::connect(&self.address).get(&self.path)
    }

    /// Sends it and reads the answer, or says why there is none.
    pub(crate) fn try_response(&self) -> Result<Response, String> {
        let mut client =
            Client::try_connect(&self.address).map_err(|error| error.to_string())?;
        client.try_get(&self.path)
    }

    /// Sends it now; the answer is read in another thread.
    #[track_caller]
    pub(crate) fn in_background(&self) -> InBackground {
        let mut client = Client::connect(&self.address);
        client.send_get(&self.path);
        InBackground {
            thread: std::thread::spawn(move || client.try_response("GET")),
        }
    }
}

/// A request under way.
pub(crate) struct InBackground {
    thread: JoinHandle<Result<Response, String>>,
}

impl InBackground {
    /// Its answer.
    #[track_caller]
    pub(crate) fn response(self) -> Response {
        self.try_response()
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Its answer, or why there is none.
    pub(crate) fn try_response(self) -> Result<Response, String> {
        self.thread
            .join()
            .expect("the reading thread does not panic")
    }
}

/// Asks for `path` over and over from `clients` threads, a connection for each request, until stopped; counts what
/// was answered and what was not.
pub(crate) struct Hammer {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What a [`Hammer`] saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answers with status 200.
    pub(crate) good: usize,
    /// Everything else, in words.
    pub(crate) failures: Vec<String>,
    /// The longest time between two good answers of one client.
    pub(crate) longest: Duration,
}

impl Hammer {
    pub(crate) fn start(server: &Server, path: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let good = Arc::new(AtomicUsize::new(0));
        let threads = (0..clients)
            .map(|_| {
                let get = server.get(path);
                let stop = Arc::clone(&stop);
                let good = Arc::clone(&good);
                std::thread::spawn(move || {
                    let mut tally = Tally::default();
                    let mut last = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        match get.try_response() {
                            Ok(response) if response.status() == 200 => {
                                tally.good += 1;
                                good.fetch_add(1, Ordering::Relaxed);
                                tally.longest = tally.longest.max(last.elapsed());
                                last = Instant::now();
                            }
                            Ok(response) => {
                                tally.failures.push(response.status().to_string());
                            }
                            Err(error) => tally.failures.push(error),
                        }
                    }
                    tally
                })
            })
            .collect();
        Self {
            stop,
            good,
            threads,
        }
    }

    /// How many good answers there have been so far.
    pub(crate) fn answered(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for thread in self.threads {
            let tally = thread.join().expect("the client thread does not panic");
            sum.good += tally.good;
            sum.failures.extend(tally.failures);
            sum.longest = sum.longest.max(tally.longest);
        }
        sum
    }
}
