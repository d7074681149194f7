//! The server under test: the real binary in a process group of its own, its log, its signals, its end.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::log::Log;
use super::quiet::{Share, share};
use super::traffic::Get;
use super::{Address, Client, answer, apps, patience, process, secs, until, venv};

/// The binary that cargo built.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_rgun-async");

/// The program under test: cargo's binary, or what `RGUN_TEST_PROGRAM` names, such as the console script of a wheel.
fn program() -> PathBuf {
    std::env::var_os("RGUN_TEST_PROGRAM").map_or_else(|| BINARY.into(), PathBuf::from)
}

/// A server about to be started.
pub(crate) struct Rgun {
    program: PathBuf,
    wrapper: Vec<OsString>,
    app: Option<String>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Stdio,
    bound: bool,
    levelled: bool,
    by_file: bool,
    workers: usize,
    chdir: Option<PathBuf>,
    directory: TempDir,
}

impl Rgun {
    /// The server with `app` as its app: `builtin:hello`, or a Python one of `tests/apps`.
    pub(crate) fn app(app: &str) -> Self {
        let mut rgun = Self::bare();
        rgun.app = Some(app.to_owned());
        if !app.starts_with("builtin:") {
            rgun.chdir = Some(apps());
            rgun.env.push(("VIRTUAL_ENV".into(), venv().into()));
        }
        rgun
    }

    /// Like [`Self::app`], always by the binary that cargo built: for what only the binary does, which is to find an
    /// interpreter.
    pub(crate) fn binary(app: &str) -> Self {
        Self {
            program: BINARY.into(),
            ..Self::app(app)
        }
    }

    /// The server as its command line alone makes it.
    pub(crate) fn bare() -> Self {
        place_extension();
        Self {
            program: program(),
            wrapper: Vec::new(),
            app: None,
            args: Vec::new(),
            env: Vec::new(),
            stdin: Stdio::null(),
            bound: false,
            levelled: false,
            by_file: false,
            workers: 1,
            chdir: None,
            directory: TempDir::with_prefix("rgun-test-").expect("a temporary directory"),
        }
    }

    /// One of the binaries of `examples/`, which has our command line and its own app.
    pub(crate) fn example(name: &str) -> Self {
        let program = Path::new(BINARY).with_file_name("examples").join(name);
        assert!(
            program.exists(),
            "{} is not built: `cargo build --examples` builds it",
            program.display()
        );
        Self {
            program,
            ..Self::bare()
        }
    }

    /// Started by a path of its own, told here: what stands there at USR2 is the new binary.
    pub(crate) fn replaceable(mut self) -> (Self, PathBuf) {
        let place = self.directory.path().join("server");
        std::os::unix::fs::symlink(&self.program, &place).expect("the directory takes links");
        self.program.clone_from(&place);
        (self, place)
    }

    /// `-w count`.
    pub(crate) fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self.arg("-w").arg(count.to_string())
    }

    /// `-b address`, in place of a free port of 127.0.0.1.
    pub(crate) fn bind(mut self, address: impl AsRef<OsStr>) -> Self {
        self.bound = true;
        self.arg("-b").arg(address)
    }

    /// So many workers are to be ready at the start, whoever says so.
    pub(crate) fn expecting(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The addresses, the log level and the number of workers, which is this, are those of its configuration file.
    pub(crate) fn configured_for(mut self, workers: usize) -> Self {
        self.bound = true;
        self.by_file = true;
        self.workers = workers;
        self
    }

    /// `--log-level level`, in place of `debug`.
    pub(crate) fn log_level(mut self, level: &str) -> Self {
        self.levelled = true;
        self.arg("--log-level").arg(level)
    }

    /// One more word of the command line.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More words of the command line.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// One variable of the environment.
    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The apps are read from here (`--chdir`), not from `tests/apps`.
    pub(crate) fn chdir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.chdir = Some(directory.into());
        self
    }

    /// A command that execs the server: `sh -c 'ulimit -n 64; exec "$@"' sh`.
    pub(crate) fn wrapped<I: IntoIterator<Item: Into<OsString>>>(mut self, words: I) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// What it inherits as file descriptor 0; a wrapping `sh` can move it elsewhere.
    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Where this server's own files go; removed with it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Writes a file into [`Self::directory`] and tells its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("the directory takes files");
        path
    }

    /// Starts it and waits for no line: for servers that should not come up.
    pub(crate) fn spawn(self) -> Server {
        let share = share();
        let mut words = self.wrapper.clone();
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some(chdir) = &self.chdir {
            command.arg("--chdir").arg(chdir);
        }
        if !self.bound {
            command.args(["-b", "127.0.0.1:0"]);
        }
        if !self.levelled && !self.by_file {
            command.args(["--log-level", "debug"]);
        }
        command.args(&self.args).args(&self.app);
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            if text.starts_with("RGUN_") || text.starts_with("PYTHON") {
                command.env_remove(&key);
            }
        }
        for key in [
            "PORT",
            "WEB_CONCURRENCY",
            "FORWARDED_ALLOW_IPS",
            "SENDFILE",
            "SCRIPT_NAME",
            "GUNICORN_CMD_ARGS",
        ] {
            command.env_remove(key);
        }
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(self.stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", words[0].display()));
        Server {
            log: Log::of(child.stderr.take().expect("it is piped")),
            output: Log::of(child.stdout.take().expect("it is piped")),
            group: Pid::from_raw(child.id().try_into().expect("a pid fits")),
            workers: self.workers,
            child: Mutex::new(Running {
                child,
                status: None,
            }),
            directory: self.directory,
            _share: share,
        }
    }

    /// Starts it and waits until each worker says that it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        assert!(
            !self.levelled,
            "the ready lines are of level debug: use start_silent"
        );
        let server = self.spawn();
        server.address();
        server.wait_ready(server.workers);
        server
    }

    /// Starts it and waits until it answers a request, whatever its log says.
    #[track_caller]
    pub(crate) fn start_silent(self) -> Server {
        let server = self.spawn();
        server.wait_for_line("Listening at: ");
        until("the server answers", patience(), || {
            Client::try_connect(&server.address()).is_ok()
        });
        server.get("/").response();
        server
    }
}

/// Puts the extension module that this test run built beside the binary, where `cargo build` puts it.
fn place_extension() {
    static PLACED: Once = Once::new();
    PLACED.call_once(|| {
        let beside = Path::new(BINARY).with_file_name("librgun_async.so");
        let built = beside.with_file_name("deps").join("librgun_async.so");
        let age = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        if age(&built).is_some_and(|built| age(&beside).is_none_or(|old| old < built)) {
            let fresh = beside.with_extension("so.fresh");
            let _ = fs::remove_file(&fresh);
            fs::hard_link(&built, &fresh).expect("a link in the target directory");
            fs::rename(&fresh, &beside).expect("a rename in the target directory");
        }
    });
}

/// A running server. Dropped, its whole process group is killed; if the test fails, its log is printed.
pub(crate) struct Server {
    log: Log,
    output: Log,
    group: Pid,
    workers: usize,
    child: Mutex<Running>,
    directory: TempDir,
    _share: Option<Share>,
}

struct Running {
    child: Child,
    status: Option<ExitStatus>,
}

impl Server {
    /// The master's pid.
    pub(crate) fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// The address it listens at, the first if there are several.
    #[track_caller]
    pub(crate) fn address(&self) -> Address {
        self.addresses().swap_remove(0)
    }

    /// All addresses of the first `Listening at` line.
    #[track_caller]
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let line = self.wait_for_line("Listening at: ");
        let (_, rest) = line
            .split_once("Listening at: ")
            .expect("the line was found by it");
        let (urls, _) = rest
            .rsplit_once(" (")
            .expect("the pid stands in brackets at the end");
        urls.split(',')
            .map(|url| Address::of_url(url.trim()))
            .collect()
    }

    /// The port of the first address.
    #[track_caller]
    pub(crate) fn port(&self) -> u16 {
        match self.address() {
            Address::Tcp(address) => address.port(),
            other @ (Address::Unix(_) | Address::Abstract(_)) => {
                panic!("{other:?} has no port")
            }
        }
    }

    /// `http://127.0.0.1:PORT` + `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    /// Where this server's own files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new connection to the first address.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address())
    }

    /// A GET of `path` on a connection of its own, not yet sent.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Get {
        Get::new(self.address(), path)
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        self.wait_for_lines(text, 1).swap_remove(0)
    }

    /// Waits for `count` lines of the log that contain `text`.
    #[track_caller]
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) -> Vec<String> {
        self.log
            .wait(count, patience(), |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .unwrap_or_else(|| panic!("the log has not {count} times the line {text:?}"))
    }

    /// Waits until `count` workers in all, since the start, have said that they are ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self, count: usize) {
        self.log
            .wait(count, patience(), |line| {
                (line.contains("worker=") && line.ends_with(" ready")).then_some(())
            })
            .unwrap_or_else(|| panic!("the log has not {count} ready lines"));
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// How many lines of the log so far contain `text`.
    pub(crate) fn count_lines(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    /// Waits for `count` lines of standard output that contain `text`.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, text: &str, count: usize) -> Vec<String> {
        self.output
            .wait(count, patience(), |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .unwrap_or_else(|| {
                panic!(
                    "no {count} lines {text:?} in the output: {:#?}",
                    self.output()
                )
            })
    }

    /// The pids of all workers ever booted, in order.
    pub(crate) fn booted(&self) -> Vec<i32> {
        self.log()
            .iter()
            .filter_map(|line| pid_after(line, "Booting worker with pid: "))
            .collect()
    }

    /// The pids of the workers that live.
    pub(crate) fn worker_pids(&self) -> Vec<i32> {
        let booted: BTreeSet<i32> = self.booted().into_iter().collect();
        booted
            .into_iter()
            .filter(|&pid| process::alive(pid))
            .collect()
    }

    /// Waits until exactly `count` workers live, and tells their pids.
    #[track_caller]
    pub(crate) fn wait_for_workers(&self, count: usize) -> Vec<i32> {
        answer(&format!("{count} workers live"), patience(), || {
            Some(self.worker_pids()).filter(|pids| pids.len() == count)
        })
    }

    /// Sends `signal` to the master.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// The master's exit status, once it has ended.
    fn status(&self) -> Option<ExitStatus> {
        let mut running = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if running.status.is_none() {
            running.status = running.child.try_wait().expect("it is our child");
        }
        running.status
    }

    /// The master has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.status().is_none()
    }

    /// The master ends with this exit code.
    pub(crate) fn assert_exits(&self, code: i32) -> Exits<'_> {
        Exits { server: self, code }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.status();
        // A stopped process takes SIGKILL too. The group may be empty already.
        let _ = killpg(self.group, Signal::SIGKILL);
        let mut running = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            let _ = running.child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- status at the failure: {ended:?}; log of {}:",
                self.group
            );
            for line in self.log() {
                eprintln!("    {line}");
            }
            for line in self.output() {
                eprintln!("  > {line}");
            }
        }
    }
}

/// See [`Server::assert_exits`].
#[must_use = "say within which time"]
pub(crate) struct Exits<'a> {
    server: &'a Server,
    code: i32,
}

impl Exits<'_> {
    /// Waits for the end, at most `deadline`.
    #[track_caller]
    pub(crate) fn within(self, deadline: Duration) {
        let status = answer("the master ends", deadline, || self.server.status());
        assert_eq!(
            (status.code(), status.signal()),
            (Some(self.code), None),
            "the master's exit code and the signal that ended it"
        );
        // What it wrote last may still be in the pipes.
        for log in [&self.server.log, &self.server.output] {
            let _ = log.wait(usize::MAX, secs(2), |_| Some(()));
        }
    }
}

/// The number behind `text` in `line`.
pub(crate) fn pid_after(line: &str, text: &str) -> Option<i32> {
    let rest = line.split_once(text)?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
