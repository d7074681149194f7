//! The worker: one process, one thread, one current-thread runtime that accepts, serves, beats and obeys.

mod accept;
mod code;
mod control;
mod dispatch;
mod gate;
#[cfg(feature = "tls")]
mod secure;
#[cfg(not(feature = "tls"))]
#[path = "plain.rs"]
mod secure;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::app::tcp::StreamApp;
use crate::app::{BootError, Host};
use crate::channel::{Order, Report, WorkerContext};
use crate::config::{Config, Spoken};
use crate::drain::Departure;
use crate::error::Exit;
use crate::heartbeat::Heartbeat;
use crate::hooks::{self, Failed, Hooks};
use crate::last_words;
use crate::listener::Listener;
use crate::log::{AccessSink, flush_access};
use crate::os::epoll::{Before, Epoll};
use crate::os::timer::Timer;
use accept::Acceptor;
use code::Code;
use control::{Control, Told};
use dispatch::Services;
use gate::{Gate, Queue};
use secure::Secure;

/// How often the heartbeat file is touched; more often where `--timeout` is short.
const BEAT: Duration = Duration::from_secs(1);
/// How often connections past their deadlines are looked for.
const SWEEP: Duration = Duration::from_millis(250);
/// The same while the worker waits for them to end.
const LAST_SWEEPS: Duration = Duration::from_millis(50);
/// What is left to the clients of a worker whose master died.
const ORPHAN_GRACE: Duration = Duration::from_millis(300);

/// A worker's whole life, from the fork to its exit code.
pub(crate) fn run<H: Host>(mut context: WorkerContext, host: H) -> Exit {
    tracing::info!("Booting worker with pid: {}", std::process::id());
    let config = Rc::clone(&context.config);
    let hooks = Rc::clone(&context.hooks);
    let worker = context.worker();
    // Before any code that is not ours, which may never end.
    let booted = watch_master(&context)
        .and_then(|()| {
            hooks
                .post_fork(&worker, &config)
                .map_err(|failed| hook_failed(&failed, Exit::WorkerBoot))
        })
        .and_then(|()| boot(&mut context, &host));
    let (exit, host) = match booted {
        Ok((runtime, epoll)) => {
            let host = Rc::new(host);
            let main = serve(context, Rc::clone(&host), epoll);
            let exit = host.drive(runtime, epoll.map(Epoll::number), main);
            (exit, Some(host))
        }
        Err(exit) => (exit, None),
    };
    flush_access();
    tracing::info!("Worker exiting (pid: {})", std::process::id());
    if let Err(failed) = hooks.worker_exit(&worker, &config)
        && !failed.message.is_empty()
    {
        tracing::warn!("Exception during worker exit:\n{failed}");
    }
    if let Some(host) = host {
        host.shutdown();
    }
    exit
}

/// How a worker ends that a hook has failed in: as the hook says, else by `exit`.
fn hook_failed(failed: &Failed, exit: Exit) -> Exit {
    if !failed.message.is_empty() {
        tracing::error!("Exception in worker process\n{failed}");
    }
    failed.exit.unwrap_or(exit)
}

fn boot<H: Host>(
    context: &mut WorkerContext,
    host: &H,
) -> Result<(tokio::runtime::LocalRuntime, Option<Epoll>), Exit> {
    // A worker that is stuck, perhaps in its import, is sent ABRT by the master.
    if let Some(last_words) = context.last_words.take() {
        last_words
            .expect_abort()
            .map_err(|error| cannot_boot("cannot take the signal ABRT", &error))?;
    }
    // Here and not in the master, so that a reload that is given up leaves nothing behind.
    crate::os::process::set_all_env(&context.config.raw_env);
    if let Some(directory) = &context.config.chdir {
        std::env::set_current_dir(directory)
            .map_err(|error| cannot_boot("cannot change to the directory", &error))?;
    }
    let identity = context.identity.assume();
    identity.map_err(|error| cannot_boot("cannot change to the user or group", &error))?;
    // Another user's process is no longer told of it.
    watch_master(context)?;
    host.boot(context).map_err(|error| {
        tell_code(context, host, &error);
        no_app(context, &error)
    })?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io();
    if H::TOKIO_TIME {
        builder.enable_time();
    }
    let before = Before::look();
    host.hooks(&mut builder, Box::new(flush_access));
    let runtime = builder
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| cannot_boot("cannot build the runtime", &error))?;
    Ok((runtime, before.new_one()))
}

fn watch_master(context: &WorkerContext) -> Result<(), Exit> {
    crate::os::orphan::leave_when_master_dies(context.master)
        .map_err(|error| cannot_boot("cannot watch the master's life", &error))
}

/// Tells why there is no app: the log, or the master where another worker can do better.
fn no_app(context: &WorkerContext, error: &BootError) -> Exit {
    match error {
        BootError::Is(interface) => control::tell(&context.channel, Report::Is(*interface)),
        BootError::Boot(_) | BootError::Load(_) => tracing::error!("{error}"),
    }
    error.exit()
}

fn cannot_boot(what: &str, error: &io::Error) -> Exit {
    tracing::error!("{what}: {error}");
    Exit::WorkerBoot
}

/// The files to watch for a change that mends it.
fn tell_code<H: Host>(context: &mut WorkerContext, host: &H, error: &BootError) {
    if let Some(code) = Code::of(context) {
        let mut files = host.code();
        files.extend(code::named_in(&error.to_string()));
        code.tell(files);
    }
}

/// The main future: until told to leave, or until something cannot be had.
async fn serve<H: Host>(mut context: WorkerContext, host: Rc<H>, epoll: Option<Epoll>) -> Exit {
    let app = match host.load(&context).await {
        Ok(app) => app,
        Err(error) => {
            tell_code(&mut context, &*host, &error);
            return no_app(&context, &error);
        }
    };
    let names = dispatch::services(&context.spoken);
    let services = match host.services(&names).await {
        Ok(services) => names.into_iter().map(str::to_owned).zip(services).collect(),
        Err(error) => {
            tell_code(&mut context, &*host, &error);
            return no_app(&context, &error);
        }
    };
    match Worker::new(context, host, app, services, epoll) {
        Ok(Ok(worker)) => worker.run().await,
        Ok(Err(exit)) => exit,
        Err(error) => cannot_boot("cannot start serving", &error),
    }
}

/// A worker that serves.
struct Worker<H: Host> {
    host: Rc<H>,
    services: Rc<Services<H>>,
    /// At each of the configuration's listeners.
    spoken: Vec<Rc<Spoken>>,
    gate: Rc<Gate>,
    /// The runtime's, where it could be found.
    epoll: Option<Epoll>,
    control: Control,
    access: Option<Rc<AccessSink>>,
    graceful: Duration,
    told: Points,
    /// For the worker's end, when there may be no descriptor left.
    deadline: Timer,
    last_sweeps: Timer,
}

/// The points of a worker's life, for those who want to be told.
struct Points {
    hooks: Rc<dyn Hooks>,
    worker: hooks::Worker,
    config: Rc<Config>,
}

impl Points {
    /// It is told to leave at once.
    fn interrupted(&self) {
        if let Err(failed) = self.hooks.worker_int(&self.worker, &self.config) {
            hook_failed(&failed, Exit::Internal);
        }
    }
}

/// How a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Finish within this time.
    Finish(Duration, Departure, Queue),
    /// Now.
    AtOnce,
}

impl<H: Host> Worker<H> {
    fn new(
        mut context: WorkerContext,
        host: Rc<H>,
        app: H::App,
        streams: Vec<(String, Rc<dyn StreamApp>)>,
        epoll: Option<Epoll>,
    ) -> io::Result<Result<Self, Exit>> {
        if let Some(code) = Code::of(&mut context) {
            host.spawn(code.follow(Rc::clone(&host), Timer::new()?));
        }
        let told = Points {
            hooks: Rc::clone(&context.hooks),
            worker: context.worker(),
            config: Rc::clone(&context.config),
        };
        let WorkerContext {
            tls_files,
            ticket_keys,
            config,
            listeners,
            spoken,
            channel,
            heartbeat,
            row,
            ..
        } = context;
        let control = Control::new(channel)?;
        // Now that signals are obeyed: a hook may send one.
        if let Err(failed) = told.hooks.post_worker_init(&told.worker, &config) {
            return Ok(Err(hook_failed(&failed, Exit::WorkerBoot)));
        }
        let access = match &config.accesslog {
            Some(target) => Some(AccessSink::open(target)?),
            None => None,
        };
        let gate = Gate::new(config.worker_connections, row);
        let secure = Secure::new(&config, &spoken, &tls_files, ticket_keys)?;
        let services = Services::new(&host, app, streams, &config, access.clone(), row, secure);
        let connections = Rc::clone(&services.connections);
        last_words::tell_by(Box::new(move |out| connections.tell(out)));
        let worker = Self {
            host,
            services,
            spoken,
            gate,
            epoll,
            control,
            access,
            graceful: config.graceful_timeout,
            told,
            deadline: Timer::new()?,
            last_sweeps: Timer::new()?,
        };
        worker.beat(heartbeat, config.timeout)?;
        worker.sweep()?;
        worker.host.spawn(worker.services.http.send_late());
        for listener in listeners {
            worker.accept_from(listener)?;
        }
        row.start_accepting(std::process::id());
        Ok(Ok(worker))
    }

    async fn run(mut self) -> Exit {
        self.control.report(Report::Ready);
        let leaving = self.until_told_to_leave().await;
        self.gate.row().stop_accepting();
        match leaving {
            Leaving::AtOnce => {
                self.gate.close(Queue::Left);
                self.host.leaving(Instant::now());
            }
            Leaving::Finish(within, departure, queue) => {
                self.gate.close(queue);
                self.host.leaving(Instant::now() + within);
                // The acceptors wake up and take what waits in the kernel's queue before connections are told.
                tokio::task::yield_now().await;
                self.services.connections.drain(Instant::now(), departure);
                self.finish(within).await;
            }
        }
        Exit::Done
    }

    /// Starts to accept from a socket.
    fn accept_from(&self, listener: Listener) -> io::Result<()> {
        let spoken = Rc::clone(listener.spoken());
        let gate = Rc::clone(&self.gate);
        let patience = self.told.config.overload_timeout;
        let acceptor = Acceptor::new(listener, self.epoll, self.host.bell(), gate, patience)?;
        let to = self.services.dispatcher(&spoken);
        self.host.spawn(acceptor.run(to));
        Ok(())
    }

    /// A neighbour leaves, or has died: its socket is this worker's too.
    fn adopt(&self, place: u16, socket: Option<OwnedFd>) {
        let spoken = self.spoken.get(usize::from(place));
        let adopted = socket
            .ok_or_else(|| io::Error::other("no descriptor is free for it"))
            .and_then(|socket| match spoken {
                Some(spoken) => Listener::adopted(socket, Rc::clone(spoken)),
                None => Err(io::Error::other("it is of no listener that is known")),
            })
            .and_then(|listener| self.accept_from(listener));
        match adopted {
            Ok(()) => self.control.report(Report::Adopted),
            Err(error) => {
                tracing::error!("cannot accept from a neighbour's socket: {error}");
                self.control.report(Report::Refused);
            }
        }
    }

    /// New handshakes have other certificates.
    fn certify(&self, letter: Option<OwnedFd>) {
        if let Err(error) = self.services.secure.certify(letter) {
            tracing::error!(
                "cannot take the new files of TLS: {error}; those from before stay"
            );
            self.control.report(Report::Behind);
        }
    }

    /// Obeys until an order, a signal, the request limit or the master's death ends it.
    async fn until_told_to_leave(&mut self) -> Leaving {
        let http = Rc::clone(&self.services.http);
        let mut recycle = std::pin::pin!(http.recycle());
        let mut spent = false;
        loop {
            let told = tokio::select! {
                told = self.control.next() => told,
                () = &mut recycle, if !spent => {
                    // The master starts the successor, and tells when to leave.
                    tracing::info!("Autorestarting worker after current request.");
                    self.control.report(Report::Spent);
                    spent = true;
                    continue;
                }
            };
            if let Some(leaving) = self.obey(told) {
                return leaving;
            }
        }
    }

    fn obey(&self, told: Told) -> Option<Leaving> {
        match told {
            Told::Order(Order::Drain) => Some(Leaving::Finish(
                self.graceful,
                Departure::End,
                Queue::Emptied,
            )),
            Told::Order(Order::Retire) => Some(Leaving::Finish(
                self.graceful,
                Departure::Replaced,
                Queue::Left,
            )),
            Told::Signal(Order::Drain) => {
                self.control.report(Report::Draining);
                // Who sends it to one worker sends it to all of the server, perhaps: then nobody else is left.
                Some(Leaving::Finish(
                    self.graceful,
                    Departure::Replaced,
                    Queue::Emptied,
                ))
            }
            Told::Order(Order::Announce) => {
                self.services.connections.announce();
                None
            }
            Told::Adopt(place, socket) => {
                self.adopt(place, socket);
                None
            }
            Told::Certify(letter) => {
                self.certify(letter);
                None
            }
            // Told otherwise.
            Told::Order(Order::Adopt | Order::Certify)
            | Told::Signal(Order::Retire | Order::Announce | Order::Adopt | Order::Certify) => {
                None
            }
            Told::Order(Order::Quit) => {
                self.told.interrupted();
                Some(Leaving::AtOnce)
            }
            Told::Signal(Order::Quit) => {
                self.told.interrupted();
                self.control.report(Report::Draining);
                Some(Leaving::AtOnce)
            }
            Told::Order(Order::Reopen) => {
                self.reopen();
                None
            }
            Told::Signal(Order::Reopen) => {
                tracing::info!("Handling signal: usr1");
                self.reopen();
                None
            }
            Told::Call => {
                self.gate.call();
                None
            }
            Told::Nothing(signal) => {
                tracing::debug!(
                    "signal {signal} means nothing to a worker: send it to the master"
                );
                None
            }
            Told::Orphaned => {
                let pid = std::process::id();
                tracing::info!("Parent changed, shutting down: <Worker {pid}>");
                let within = self.graceful.min(ORPHAN_GRACE);
                Some(Leaving::Finish(within, Departure::End, Queue::Emptied))
            }
        }
    }

    /// Waits for the connections to end; still obeys an order to hurry.
    async fn finish(&mut self, within: Duration) {
        let (gate, host) = (Rc::clone(&self.gate), Rc::clone(&self.host));
        let mut all_done = std::pin::pin!(async {
            gate.empty().await;
            host.quiet().await;
        });
        let mut until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let told = tokio::select! {
                () = &mut all_done => return,
                () = self.deadline.after(left) => {
                    self.services.connections.abort_all();
                    return;
                }
                () = self.last_sweeps.after(LAST_SWEEPS) => {
                    self.services.connections.sweep(Instant::now());
                    continue;
                }
                told = self.control.next() => told,
            };
            match told {
                Told::Order(Order::Quit) | Told::Signal(Order::Quit) => {
                    self.told.interrupted();
                    return;
                }
                Told::Order(Order::Reopen) | Told::Signal(Order::Reopen) => self.reopen(),
                Told::Orphaned => until = Instant::now() + within.min(ORPHAN_GRACE),
                Told::Order(
                    Order::Drain
                    | Order::Retire
                    | Order::Announce
                    | Order::Adopt
                    | Order::Certify,
                )
                | Told::Signal(
                    Order::Drain
                    | Order::Retire
                    | Order::Announce
                    | Order::Adopt
                    | Order::Certify,
                )
                | Told::Adopt(..)
                | Told::Certify(_)
                | Told::Call
                | Told::Nothing(_) => {}
            }
        }
    }

    fn reopen(&self) {
        if let Err(error) = crate::log::reopen() {
            tracing::error!("cannot reopen the error log: {error}; the old one stays");
        }
        if let Some(access) = &self.access
            && let Err(error) = access.reopen()
        {
            tracing::error!("cannot reopen the access log: {error}; the old one stays");
        }
    }

    /// Touches the heartbeat file from this runtime, and so proves that it and the app on its thread turn.
    fn beat(&self, heartbeat: Heartbeat, limit: Duration) -> io::Result<()> {
        let (gate, host) = (Rc::clone(&self.gate), Rc::clone(&self.host));
        let every = if limit.is_zero() {
            BEAT
        } else {
            BEAT.min(limit / 4)
        };
        let every = every.max(Duration::from_millis(10));
        let timer = Timer::new()?;
        self.host.spawn(async move {
            let mut failing = false;
            loop {
                // A wake-up may have gone to a worker that died or was stopped before it could accept.
                gate.call();
                if host.moves_within(every) {
                    match heartbeat.beat() {
                        Ok(()) => failing = false,
                        Err(error) => {
                            if !std::mem::replace(&mut failing, true) {
                                tracing::error!("cannot touch the heartbeat file: {error}");
                            }
                        }
                    }
                }
                timer.after(every).await;
            }
        });
        Ok(())
    }

    /// Ends connections that are past a deadline; a worker without connections sleeps.
    fn sweep(&self) -> io::Result<()> {
        let connections = Rc::clone(&self.services.connections);
        let gate = Rc::clone(&self.gate);
        let timer = Timer::new()?;
        self.host.spawn(async move {
            loop {
                gate.any().await;
                connections.sweep(Instant::now());
                timer.after(SWEEP).await;
            }
        });
        Ok(())
    }
}
