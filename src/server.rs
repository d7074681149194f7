//! Assembly: reads the configuration, binds, makes the master and hands it the worker. The one file that knows both.

mod anew;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::channel::{Generation, Interface, WorkerContext};
use crate::cli::{self, Loaded, Program, Sources};
use crate::config::{Config, LogTarget};
use crate::error::Exit;
use crate::hooks;
use crate::listener::{BindError, Bound, Inherited, Options, Site};
use crate::master::{
    self, Certificates, Command, Edition, FDS, Master, OldMaster, PARENT, Pidfile,
    PidfileError, READY, Setup, TICKETS,
};
use crate::os::fork::{Hooks, Side, exit_now, fork};
use crate::os::process::unset_env;
use crate::os::signal::Signals;

/// How often an address in use is tried, and the pause between (Gunicorn: `sock.create_sockets`).
const BIND_TRIES: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_secs(1);
/// The first descriptor a socket manager passes (`sd_listen_fds(3)`).
const LISTEN_FDS_START: RawFd = 3;

#[cfg(feature = "python")]
pub(crate) use anew::told;

/// Loads the app in the master.
pub(crate) type Preload = Box<dyn Fn(&Config) -> Result<(), NotPreloaded>>;

/// Why the app is not there.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "python"),
    expect(dead_code, reason = "only a Python app is preloaded")
)]
pub(crate) enum NotPreloaded {
    /// It cannot be loaded; it has been told why.
    Failed(Exit),
    /// It is of this kind, and this process is ready for the other.
    Is(Interface),
}

/// What serves, and what it needs around it.
pub(crate) struct Parts {
    /// As the log says it: `Using worker: sync`.
    pub(crate) kind: String,
    /// A worker's life.
    pub(crate) worker_main: Box<dyn Fn(WorkerContext) -> Exit>,
    /// `--check-config`: loads the app in this process. What is wrong has been told.
    pub(crate) check: Box<dyn Fn(&Config) -> Exit>,
    /// Calls around each fork.
    pub(crate) hooks: Hooks,
    /// Who is called at the points of the server's life.
    pub(crate) server_hooks: Rc<dyn hooks::Hooks>,
    /// `--preload`: loads the app in this process, where that can be. What is wrong has been told.
    pub(crate) preload: Option<Preload>,
    /// How to start this program again, arguments included.
    pub(crate) command: Vec<OsString>,
}

/// The whole program: from the command line to the exit code. `parts` is asked once the configuration is known; it
/// does not return where another program takes over.
pub(crate) fn run(
    program: Program,
    sources: Sources,
    parts: impl FnOnce(&Config) -> Result<Parts, Exit>,
) -> Exit {
    let loaded = match cli::load(&program, &sources) {
        Ok(loaded) => loaded,
        Err(outcome) => return print(&outcome),
    };
    let parts = match parts(&loaded.config) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    // Not before: an interpreter that takes over does it, too.
    if loaded.config.print_config {
        let _ = io::stdout().write_all(loaded.print().as_bytes());
    }
    if loaded.config.check_config || loaded.config.print_config {
        return check(&loaded.config, &parts);
    }
    serve(program, sources, loaded, parts).unwrap_or_else(|failure| {
        failure.tell();
        failure.exit
    })
}

/// Prints what the command line led to, where that is no server.
pub(crate) fn print(outcome: &cli::Outcome) -> Exit {
    let text = outcome.to_string();
    // Nobody is left to tell where the standard streams are gone.
    let _ = if outcome.exit() == Exit::Done {
        io::stdout().write_all(text.as_bytes())
    } else {
        io::stderr().write_all(text.as_bytes())
    };
    outcome.exit()
}

/// Why the server did not start; one message a mistake.
struct Failure {
    exit: Exit,
    messages: Vec<String>,
    /// The error log is there to take them.
    logged: bool,
}

impl Failure {
    fn config(message: String) -> Self {
        Self {
            exit: Exit::Config,
            messages: vec![message],
            logged: false,
        }
    }

    fn tell(&self) {
        for message in &self.messages {
            if self.logged {
                tracing::error!("{message}");
            } else {
                let _ = writeln!(io::stderr(), "Error: {message}");
            }
        }
    }
}

fn check(config: &Config, parts: &Parts) -> Exit {
    if let Err(failure) = enter_directory(config) {
        failure.tell();
        return failure.exit;
    }
    if let Err(mistakes) = Certificates::read(config) {
        let failure = Failure {
            logged: false,
            ..no_tls(mistakes)
        };
        failure.tell();
        return failure.exit;
    }
    crate::os::process::set_all_env(&config.raw_env);
    // Gunicorn's `--check-config` knows two codes.
    if (parts.check)(config) == Exit::Done {
        Exit::Done
    } else {
        Exit::Config
    }
}

fn serve(
    program: Program,
    sources: Sources,
    loaded: Loaded,
    parts: Parts,
) -> Result<Exit, Failure> {
    let Loaded {
        config,
        notes,
        file,
        ..
    } = loaded;
    let (inherited, old, variables) = inherited()?;
    enter_directory(&config)?;
    if config.daemon && old.is_none() {
        daemonize(&config, parts.hooks)
            .map_err(|error| Failure::config(format!("cannot become a daemon: {error}")))?;
    }
    crate::log::start(&config.errorlog, config.loglevel).map_err(|error| {
        Failure::config(format!(
            "cannot open the error log {}: {error}",
            config.errorlog
        ))
    })?;
    if config.capture_output && config.errorlog != LogTarget::Standard {
        crate::log::capture_output().map_err(|error| {
            Failure::config(format!("cannot capture standard output: {error}"))
        })?;
    }
    for note in notes {
        tracing::warn!("{note}");
    }
    if let Some(file) = file {
        tracing::debug!("configuration file: {}", file.display());
    }
    let preloaded = match preload(&config, parts.preload.as_ref()) {
        Ok(preloaded) => preloaded,
        Err(NotPreloaded::Failed(exit)) => return Err(told_already(exit)),
        Err(NotPreloaded::Is(interface)) => {
            let (command, cwd) = (&parts.command, &sources.cwd);
            let given = (&inherited, old.as_ref());
            let error = anew::start(interface, command, cwd, given, variables);
            return Err(logged(Failure::config(format!(
                "cannot start anew: {error}"
            ))));
        }
    };
    let signals = Signals::block()
        .map_err(|error| Failure::config(format!("cannot block signals: {error}")))?;
    if let Err(error) = crate::os::privilege::raise_open_files() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let pidfile = make_pidfile(&config, old.is_some()).map_err(logged)?;
    if let Err(failure) = tell_starting(&config, &*parts.server_hooks) {
        remove(pidfile.as_ref());
        return Err(failure);
    }
    let bound = first_edition(config, inherited, old.is_some(), &signals).map_err(logged);
    let edition = match bound {
        Ok(Some(edition)) => edition,
        Ok(None) => {
            remove(pidfile.as_ref());
            return Ok(Exit::Done);
        }
        Err(failure) => {
            remove(pidfile.as_ref());
            return Err(failure);
        }
    };
    let directory = sources.cwd.clone();
    let setup = Setup {
        name: program.name.to_owned(),
        worker_kind: parts.kind,
        signals,
        pidfile,
        old,
        worker_main: parts.worker_main,
        read_config: Box::new(move |current| read_again(&program, &sources, current)),
        hooks: parts.hooks,
        server_hooks: parts.server_hooks,
        preloaded,
        command: Command {
            arguments: parts.command,
            directory,
        },
    };
    let master = Master::new(setup, edition)
        .map_err(|error| logged(Failure::config(format!("no shared memory: {error}"))))?;
    Ok(master.run())
}

/// Gunicorn: `Arbiter.setup`, `Arbiter.start`.
fn tell_starting(config: &Config, hooks: &dyn hooks::Hooks) -> Result<(), Failure> {
    let server = hooks::Server::starting(config);
    hooks
        .nworkers_changed(&server, config.workers.least, None)
        .and_then(|()| hooks.on_starting(&server))
        .map_err(|failed| Failure {
            exit: failed.exit.unwrap_or(Exit::Config),
            messages: Some(failed.message)
                .filter(|message| !message.is_empty())
                .into_iter()
                .collect(),
            logged: true,
        })
}

/// `--preload`: whether the workers are forked with their app. Before signals are blocked, so that they end an import that
/// does not, and before there is anything to clean up.
fn preload(config: &Config, preload: Option<&Preload>) -> Result<bool, NotPreloaded> {
    if !config.preload_app {
        return Ok(false);
    }
    if config.reload {
        tracing::warn!("--preload is ignored: --reload needs workers that load the code anew");
        return Ok(false);
    }
    let Some(preload) = preload else {
        tracing::warn!("--preload is ignored: there is no Python app");
        return Ok(false);
    };
    crate::os::process::set_all_env(&config.raw_env);
    preload(config)?;
    Ok(true)
}

fn no_tls(messages: Vec<String>) -> Failure {
    Failure {
        exit: Exit::Config,
        messages,
        logged: true,
    }
}

fn told_already(exit: Exit) -> Failure {
    Failure {
        exit,
        messages: Vec::new(),
        logged: true,
    }
}

fn logged(failure: Failure) -> Failure {
    Failure {
        logged: true,
        ..failure
    }
}

fn remove(pidfile: Option<&Pidfile>) {
    if let Some(pidfile) = pidfile {
        pidfile.remove();
    }
}

/// On HUP: the same command line and variables, and the file as it is now.
fn read_again(
    program: &Program,
    sources: &Sources,
    current: &Config,
) -> Result<Config, String> {
    let loaded = cli::load(program, sources).map_err(|outcome| outcome.to_string())?;
    let config = loaded.config;
    for note in loaded.notes {
        tracing::warn!("{note}");
    }
    let plan = current.plan(&config);
    if !plan.restart.is_empty() {
        tracing::warn!(
            "changed, but only a restart takes it: {}",
            plan.restart.join(", ")
        );
    }
    Ok(config)
}

fn enter_directory(config: &Config) -> Result<(), Failure> {
    let Some(directory) = &config.chdir else {
        return Ok(());
    };
    std::env::set_current_dir(directory).map_err(|error| {
        Failure::config(format!("can't chdir to '{}': {error}", directory.display()))
    })
}

/// Sockets from an old master (`RGUN_FD`) or a socket manager (`LISTEN_FDS`, systemd), and the old master.
fn inherited() -> Result<(Given, Option<OldMaster>, anew::Variables), Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let old = OldMaster::of_environment();
    let bad = |name: &str, text: &str, error: &dyn std::fmt::Display| {
        Failure::config(format!(
            "{name}={text:?} does not name open sockets: {error}"
        ))
    };
    let given = if let Some(text) = variable(FDS) {
        let numbers: Result<Vec<RawFd>, _> = text.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|error| bad(FDS, &text, &error))?;
        Given::OldMaster(Inherited::adopt(numbers).map_err(|error| bad(FDS, &text, &error))?)
    } else if variable("LISTEN_PID") == Some(std::process::id().to_string()) {
        let text = variable("LISTEN_FDS").unwrap_or_default();
        let count: RawFd = text
            .parse()
            .map_err(|error| bad("LISTEN_FDS", &text, &error))?;
        let numbers = LISTEN_FDS_START..LISTEN_FDS_START.saturating_add(count);
        let inherited =
            Inherited::adopt(numbers).map_err(|error| bad("LISTEN_FDS", &text, &error))?;
        Given::SocketManager(inherited)
    } else {
        Given::OldMaster(Inherited::default())
    };
    let mut variables = anew::Variables::new();
    for name in [
        FDS,
        PARENT,
        READY,
        TICKETS,
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
        unset_env(name);
    }
    Ok((given, old, variables))
}

/// Where inherited sockets come from decides what they mean.
enum Given {
    /// They are matched with the configured addresses.
    OldMaster(Inherited),
    /// They are used instead of the configured addresses, as in Gunicorn.
    SocketManager(Inherited),
}

impl Given {
    fn sockets(&self) -> &Inherited {
        match self {
            Self::OldMaster(sockets) | Self::SocketManager(sockets) => sockets,
        }
    }
}

fn make_pidfile(config: &Config, second: bool) -> Result<Option<Pidfile>, Failure> {
    let Some(path) = &config.pidfile else {
        return Ok(None);
    };
    let create = if second {
        Pidfile::create_second
    } else {
        Pidfile::create
    };
    create(path)
        .map(Some)
        .map_err(|error: PidfileError| Failure::config(crate::error::chain(&error)))
}

/// Binds every address, with patience for those in use; `None` when a signal ended it meanwhile.
fn first_edition(
    config: Config,
    given: Given,
    second: bool,
    signals: &Signals,
) -> Result<Option<Edition>, Failure> {
    let identity = master::identity(&config).map_err(Failure::config)?;
    master::give_logs_away(&config, &identity).map_err(|error| {
        Failure::config(format!(
            "cannot give the logs to the user or group: {error}"
        ))
    })?;
    let certificates = Certificates::read(&config).map_err(no_tls)?;
    let options = master::options(&config, &identity, config.workers.least);
    let mut of_manager = false;
    let opened = match given {
        Given::SocketManager(mut inherited) if !inherited.is_empty() => {
            of_manager = true;
            Some(inherited.take_all(&config, &options).map_err(|error| {
                Failure::config(format!(
                    "LISTEN_FDS does not name listening sockets: {error}"
                ))
            })?)
        }
        Given::SocketManager(inherited) | Given::OldMaster(inherited) => {
            bind_all(&config, inherited, &options, signals)?
        }
    };
    let opened = opened.map(|mut bound| {
        if !second {
            bound.iter_mut().for_each(Bound::claim_path);
        }
        bound
    });
    Ok(opened.map(|bound| Edition {
        generation: Generation(0),
        workers: master::of_config(&config),
        range: master::Range::new(config.workers),
        config: Rc::new(config),
        bound,
        of_manager,
        certificates,
        identity,
        proven: false,
        interface: None,
    }))
}

fn bind_all(
    config: &Config,
    mut inherited: Inherited,
    options: &Options,
    signals: &Signals,
) -> Result<Option<Vec<Bound>>, Failure> {
    let sites = config.bind.iter().map(|bind| Site::new(bind, config));
    let sites: Vec<_> = sites.collect();
    let mut bound: Vec<Option<Bound>> = sites.iter().map(|_| None).collect();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut mistakes = Vec::new();
        for (place, site) in bound.iter_mut().zip(&sites) {
            if place.is_some() {
                continue;
            }
            match inherited.take(site, options) {
                Some(Ok(adopted)) => *place = Some(adopted),
                Some(Err(error)) => {
                    let address = &site.address;
                    tracing::error!("cannot use the inherited socket of {address}: {error}");
                }
                None => match Bound::open(site, options) {
                    Ok(opened) => *place = Some(opened),
                    Err(error) => mistakes.push(error),
                },
            }
        }
        if mistakes.is_empty() {
            return Ok(Some(bound.into_iter().flatten().collect()));
        }
        let hopeless = mistakes
            .iter()
            .any(|error| !matches!(error, BindError::InUse(_)));
        if hopeless || tries == BIND_TRIES {
            bound.iter().flatten().for_each(Bound::remove_path);
            let messages = mistakes.iter().map(master::told).collect();
            return Err(Failure {
                exit: Exit::Config,
                messages,
                logged: true,
            });
        }
        for mistake in &mistakes {
            tracing::error!("{mistake}");
        }
        tracing::error!("Retrying in 1 second.");
        if !pause(signals) {
            bound.iter().flatten().for_each(Bound::remove_path);
            return Ok(None);
        }
    }
}

/// Waits for the next try; false when a signal that ends the server came instead.
fn pause(signals: &Signals) -> bool {
    let until = Instant::now() + BIND_PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(
            std::os::fd::AsFd::as_fd(signals),
            PollFlags::POLLIN,
        )];
        let _ = poll(&mut fds, timeout);
        while let Ok(Some(signal)) = signals.next() {
            use nix::sys::signal::Signal::{SIGINT, SIGQUIT, SIGTERM};
            if [SIGTERM, SIGINT, SIGQUIT].contains(&signal) {
                return false;
            }
        }
    }
}

/// `-D`: detaches from the terminal by forking twice (Gunicorn: `util.daemonize`).
fn daemonize(config: &Config, hooks: Hooks) -> io::Result<()> {
    if let Side::Parent(_) = fork(hooks)? {
        exit_now(0);
    }
    nix::unistd::setsid()?;
    if let Side::Parent(_) = fork(hooks)? {
        exit_now(0);
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if config.capture_output {
        // They are about to become the error log.
        return Ok(());
    }
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new("/dev/null"))?;
    nix::unistd::dup2_stdin(&null)?;
    let stays = |is_terminal: bool| config.enable_stdio_inheritance && !is_terminal;
    if !stays(io::stdout().is_terminal()) {
        nix::unistd::dup2_stdout(&null)?;
    }
    if !stays(io::stderr().is_terminal()) {
        nix::unistd::dup2_stderr(&null)?;
    }
    Ok(())
}
