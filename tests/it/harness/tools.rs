//! Real tools around the server: Redis, HAProxy, `wrk`, `ab`. One that is missing fails the test.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Address, patience, until};

/// A `redis-server` on a free port, with nothing kept; stopped when dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Redis {
    /// Starts it and waits until it listens.
    pub(crate) fn start() -> Self {
        // Free now; another process could take it before Redis does, so a few are tried.
        for _ in 0..5 {
            let port = free_port();
            let directory = TempDir::with_prefix("rgun-redis-").expect("a temporary directory");
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
                .args(["--maxclients", "4000"])
                .arg("--dir")
                .arg(directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("redis-server is installed (`bash tests/run` installs it)");
            let mut redis = Self {
                child,
                port,
                _directory: directory,
            };
            let mut ended = false;
            until("redis-server listens", patience(), || {
                ended = redis.child.try_wait().is_ok_and(|status| status.is_some());
                ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            if !ended {
                return redis;
            }
        }
        panic!("redis-server found no free port in five tries");
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An `haproxy` that hands connections on as they are, behind the header of its `send`; stopped when dropped.
pub(crate) struct HaProxy {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl HaProxy {
    /// Starts one in front of `server` and waits until it listens. `send` is what its `server` line says: `send-proxy`.
    pub(crate) fn in_front_of(server: &Address, send: &str) -> Self {
        let server = match server {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix@{}", path.display()),
            Address::Abstract(name) => format!("abns@{name}"),
        };
        for _ in 0..5 {
            let port = free_port();
            let directory =
                TempDir::with_prefix("rgun-haproxy-").expect("a temporary directory");
            let file = directory.path().join("haproxy.cfg");
            let text = format!(
                "defaults\n    mode tcp\n    timeout connect 60s\n    timeout client 60s\n    timeout server 60s\n\
                 frontend all\n    bind 127.0.0.1:{port}\n    default_backend rgun\n\
                 backend rgun\n    server rgun {server} {send}\n"
            );
            fs::write(&file, text).expect("the directory takes files");
            // Debian has it where only root looks.
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
            let child = Command::new("sh")
                .args(["-c", "exec haproxy -db -f \"$1\"", "sh"])
                .arg(&file)
                .env("PATH", path)
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("there is a shell");
            let mut proxy = Self {
                child,
                port,
                _directory: directory,
            };
            let mut ended = None;
            until("haproxy listens", patience(), || {
                ended = proxy.child.try_wait().expect("it is a child");
                ended.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            match ended.and_then(|status| status.code()) {
                None => return proxy,
                Some(127) => panic!("haproxy is installed by `bash tests/run`"),
                Some(_) => {}
            }
        }
        panic!("haproxy found no free port in five tries");
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody listens at, now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("the kernel has a free port")
        .port()
}

/// What a load generator counted.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) complete: u64,
    /// Answers a second.
    pub(crate) per_second: f64,
    /// Connect, read, write errors, wrong lengths, statuses that are not 2xx, time-outs: any kind, in words.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// At least `least` requests were answered, and none failed in any way.
    #[track_caller]
    pub(crate) fn assert_clean(&self, least: u64) {
        assert!(self.failures.is_empty(), "failures: {self:?}");
        assert!(
            self.complete >= least,
            "fewer than {least} requests: {self:?}"
        );
        assert!(self.per_second > 0.0, "no rate: {self:?}");
    }
}

/// `wrk -t threads -c connections -d seconds URL`.
#[track_caller]
pub(crate) fn wrk(threads: usize, connections: usize, seconds: usize, url: &str) -> Load {
    let text = run(
        "wrk",
        &[
            &format!("-t{threads}"),
            &format!("-c{connections}"),
            &format!("-d{seconds}s"),
            "--timeout",
            "20s",
            url,
        ],
    );
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            load.complete = count.parse().expect("wrk writes a number");
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            load.per_second = rate.trim().parse().expect("wrk writes a number");
        } else if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            load.failures.push(line.to_owned());
        }
    }
    load
}

/// `ab -q -c connections -n requests [more] URL`.
#[track_caller]
pub(crate) fn ab(connections: usize, requests: usize, more: &[&str], url: &str) -> Load {
    let (connections, requests) = (connections.to_string(), requests.to_string());
    let mut args = vec!["-q", "-s", "20", "-c", &connections, "-n", &requests];
    args.extend(more);
    args.push(url);
    let text = run("ab", &args);
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        let Some((name, value)) = line.split_once(':') else {
            if line.starts_with('(') {
                load.failures.push(line.to_owned());
            }
            continue;
        };
        let value = value.trim();
        match name {
            "Complete requests" => load.complete = value.parse().expect("ab writes a number"),
            "Requests per second" => {
                let number = value.split_whitespace().next().unwrap_or_default();
                load.per_second = number.parse().expect("ab writes a number");
            }
            "Failed requests" | "Write errors" | "Non-2xx responses" if value != "0" => {
                load.failures.push(line.to_owned());
            }
            _ => {}
        }
    }
    load
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (`bash tests/run` installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
