//! The configuration: merged, valid, immutable.

mod value;

use std::path::PathBuf;
use std::time::Duration;

pub use value::{
    AllowList, AppPath, Bind, HeaderMapping, LogLevel, LogTarget, WorkerClass,
};

/// Every setting's value. Names are Gunicorn's.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Config {
    pub wsgi_app: Option<AppPath>,
    pub bind: Vec<Bind>,
    pub backlog: u32,
    pub workers: usize,
    pub worker_class: WorkerClass,
    pub worker_connections: usize,
    pub max_requests: u64,
    pub max_requests_jitter: u64,
    /// Zero: off.
    pub timeout: Duration,
    pub graceful_timeout: Duration,
    pub keepalive: Duration,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Grace of a body before `min_rate` counts.
    pub body_timeout: Duration,
    /// Grace of a response before `min_rate` counts.
    pub write_timeout: Duration,
    /// Bytes a second below which a body or response that is past its grace is cut.
    pub min_rate: u64,
    /// Zero: no limit.
    pub limit_request_line: usize,
    pub limit_request_fields: usize,
    pub limit_request_field_size: usize,
    /// Zero: no limit.
    pub limit_request_body: u64,
    pub reuse_port: bool,
    pub chdir: Option<PathBuf>,
    pub daemon: bool,
    pub raw_env: Vec<(String, String)>,
    pub pidfile: Option<PathBuf>,
    pub worker_tmp_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub umask: u32,
    pub initgroups: bool,
    pub secure_scheme_headers: Vec<(String, String)>,
    pub forwarded_allow_ips: AllowList,
    pub pythonpath: Vec<PathBuf>,
    pub forwarder_headers: Vec<String>,
    pub header_map: HeaderMapping,
    pub accesslog: Option<LogTarget>,
    pub access_log_format: String,
    pub errorlog: LogTarget,
    pub loglevel: LogLevel,
    pub capture_output: bool,
    pub proc_name: Option<String>,
    pub check_config: bool,
    pub print_config: bool,
}
