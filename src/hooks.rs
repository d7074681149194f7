//! Server hooks: calls at the points of a server's life that Gunicorn has, for whoever wants to do something there.
//!
//! The master's are called in the master, on its one thread, and hold it up; the workers' in each worker. Sources:
//! Gunicorn's `arbiter.py` and `workers/base.py`.

use std::fmt;
use std::os::fd::RawFd;

use crate::config::Config;
use crate::error::Exit;
use crate::scoreboard::Row;

/// The server, as the master sees it at the moment of a call.
#[derive(Debug)]
pub struct Server<'a> {
    /// The configuration; at a reload, the new one.
    pub config: &'a Config,
    /// How many workers are wanted.
    pub workers_wanted: usize,
    /// How many workers have been started so far; the newest one's [`age`](Worker::age).
    pub worker_age: u64,
    /// The workers there are.
    pub workers: Vec<Worker>,
    /// The listening sockets: address as the log has it, and descriptor.
    pub listeners: Vec<(String, RawFd)>,
}

impl<'a> Server<'a> {
    /// A server that has nothing yet.
    pub(crate) fn starting(config: &'a Config) -> Self {
        Self {
            config,
            workers_wanted: config.workers.least,
            worker_age: 0,
            workers: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

/// One worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its place: 0 to N-1, kept by its successors.
    pub slot: u16,
    /// Which configuration and code it runs: counted up by each reload.
    pub generation: u64,
    /// Workers are counted up from 1; an older one has a smaller age, as in Gunicorn.
    pub age: u64,
    /// Its process id, once it is there.
    pub pid: Option<i32>,
    /// The file whose modification time is its last sign of life.
    #[cfg_attr(
        not(feature = "python"),
        expect(dead_code, reason = "an interpreter's hooks touch it")
    )]
    pub(crate) heartbeat: RawFd,
    /// Its counters.
    pub(crate) row: Row,
}

impl Worker {
    /// How many requests it has answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.row.requests()
    }
}

/// A hook failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What the log is to be told; nothing, where it is empty.
    pub message: String,
    /// How the process is to end, where the hook says so.
    pub exit: Option<Exit>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// What a hook returns. A failure ends the master or the worker that the hook was called in, if it is not ending anyway.
pub type Outcome = Result<(), Failed>;

/// The hooks of a server. Each does nothing unless it is given.
pub trait Hooks: fmt::Debug {
    /// In the master, before it binds its addresses.
    ///
    /// # Errors
    /// The server does not start.
    fn on_starting(&self, server: &Server<'_>) -> Outcome {
        let _ = server;
        Ok(())
    }

    /// In the master, at the start (`old` is `None`) and whenever the number of wanted workers is set.
    ///
    /// # Errors
    /// The server stops.
    fn nworkers_changed(&self, server: &Server<'_>, new: usize, old: Option<usize>) -> Outcome {
        let _ = (server, new, old);
        Ok(())
    }

    /// In the master, when it listens, before the first worker.
    ///
    /// # Errors
    /// The server stops.
    fn when_ready(&self, server: &Server<'_>) -> Outcome {
        let _ = server;
        Ok(())
    }

    /// In the master, at a reload (HUP), when the new configuration is in force and before its workers.
    ///
    /// # Errors
    /// The server stops.
    fn on_reload(&self, server: &Server<'_>) -> Outcome {
        let _ = server;
        Ok(())
    }

    /// In the master, just before a worker is forked.
    ///
    /// # Errors
    /// The server stops.
    fn pre_fork(&self, server: &Server<'_>, worker: &Worker) -> Outcome {
        let _ = (server, worker);
        Ok(())
    }

    /// In the master, when the worker is there and has its process id.
    fn forked(&self, worker: &Worker, config: &Config) {
        let _ = (worker, config);
    }

    /// In the worker, just after the fork.
    ///
    /// # Errors
    /// The worker ends as one that cannot boot.
    fn post_fork(&self, worker: &Worker, config: &Config) -> Outcome {
        let _ = (worker, config);
        Ok(())
    }

    /// In the worker, when the app is loaded, before the first request.
    ///
    /// # Errors
    /// The worker ends as one that cannot boot.
    fn post_worker_init(&self, worker: &Worker, config: &Config) -> Outcome {
        let _ = (worker, config);
        Ok(())
    }

    /// In the worker, when it is told to leave at once (INT, QUIT).
    ///
    /// # Errors
    /// They are logged.
    fn worker_int(&self, worker: &Worker, config: &Config) -> Outcome {
        let _ = (worker, config);
        Ok(())
    }

    /// In the worker, as the last thing but the exit handlers of its app.
    ///
    /// # Errors
    /// They are logged.
    fn worker_exit(&self, worker: &Worker, config: &Config) -> Outcome {
        let _ = (worker, config);
        Ok(())
    }

    /// In the master, when a worker has ended.
    ///
    /// # Errors
    /// The server stops.
    fn child_exit(&self, server: &Server<'_>, worker: &Worker) -> Outcome {
        let _ = (server, worker);
        Ok(())
    }

    /// At an upgrade (USR2), in the process that is about to become the new master.
    ///
    /// # Errors
    /// There is no new master.
    fn pre_exec(&self, server: &Server<'_>) -> Outcome {
        let _ = server;
        Ok(())
    }

    /// In the master, as the last thing.
    ///
    /// # Errors
    /// The server ends with 1.
    fn on_exit(&self, server: &Server<'_>) -> Outcome {
        let _ = server;
        Ok(())
    }
}

/// No hooks.
#[derive(Clone, Copy, Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {}
