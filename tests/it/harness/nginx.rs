//! A real nginx before the server under test. One that is missing fails the test.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::tools::free_port;
use super::{Address, Client, patience, until};

/// What nginx calls `uwsgi_params`, as its authors ship it.
const PARAMS: &str = "
uwsgi_param  QUERY_STRING       $query_string;
uwsgi_param  REQUEST_METHOD     $request_method;
uwsgi_param  CONTENT_TYPE       $content_type;
uwsgi_param  CONTENT_LENGTH     $content_length;
uwsgi_param  REQUEST_URI        $request_uri;
uwsgi_param  PATH_INFO          $document_uri;
uwsgi_param  DOCUMENT_ROOT      $document_root;
uwsgi_param  SERVER_PROTOCOL    $server_protocol;
uwsgi_param  REQUEST_SCHEME     $scheme;
uwsgi_param  HTTPS              $https if_not_empty;
uwsgi_param  REMOTE_ADDR        $remote_addr;
uwsgi_param  REMOTE_PORT        $remote_port;
uwsgi_param  SERVER_PORT        $server_port;
uwsgi_param  SERVER_NAME        $server_name;
";

/// An nginx on a port of its own; ended when dropped, and its log printed if the test fails.
pub(crate) struct Nginx {
    child: Child,
    address: Address,
    directory: TempDir,
}

impl Nginx {
    /// Before `to`, which speaks uwsgi; `more` are directives of its one location.
    #[track_caller]
    pub(crate) fn uwsgi(to: &Address, more: &str) -> Self {
        Self::start(&format!("{PARAMS}\nuwsgi_pass {};\n{more}\n", upstream(to)))
    }

    #[track_caller]
    fn start(location: &str) -> Self {
        // Free now; another process could take it before nginx does, so a few are tried.
        for _ in 0..5 {
            let port = free_port();
            let directory = TempDir::with_prefix("rgun-nginx-").expect("a temporary directory");
            let child = Self::run(&directory, &config(&directory, port, location));
            let mut nginx = Self {
                child,
                address: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                directory,
            };
            let mut ended = false;
            until("nginx listens", patience(), || {
                ended = nginx.child.try_wait().is_ok_and(|status| status.is_some());
                ended || Client::try_connect(&nginx.address).is_ok()
            });
            if !ended {
                return nginx;
            }
            let log = nginx.log();
            assert!(log.contains("Address already in use"), "nginx: {log}");
        }
        panic!("nginx found no free port in five tries");
    }

    fn run(directory: &TempDir, config: &str) -> Child {
        let path = directory.path().join("nginx.conf");
        fs::write(&path, config).expect("the directory takes files");
        let log = directory.path().join("error.log");
        Command::new("nginx")
            .arg("-e")
            .arg(&log)
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("nginx is installed (`bash tests/run` installs it)")
    }

    /// A connection to it.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Its error log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a pid fits"));
        // Its worker ends with it.
        let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- nginx:\n{}", self.log());
        }
    }
}

fn upstream(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Abstract(name) => panic!("nginx knows no abstract sockets: {name}"),
    }
}

fn config(directory: &TempDir, port: u16, location: &str) -> String {
    let here = directory.path().display();
    let mut config = String::new();
    if nix::unistd::Uid::effective().is_root() {
        // Else its worker could not reach our directories.
        config.push_str("user root root;\n");
    }
    let _ = write!(
        config,
        "daemon off;\npid {here}/pid;\nerror_log {here}/error.log info;\nworker_processes 1;\n\
         events {{ worker_connections 1000; }}\nhttp {{\naccess_log off;\n"
    );
    for kind in ["client_body", "uwsgi", "proxy", "fastcgi", "scgi"] {
        let _ = writeln!(config, "{kind}_temp_path {here}/{kind};");
    }
    let _ = write!(
        config,
        "client_max_body_size 0;\nserver {{\nlisten 127.0.0.1:{port};\nserver_name localhost;\n\
         location / {{\n{location}\n}}\n}}\n}}\n"
    );
    config
}
