//! Gunicorn's settings that are not here: recognised, so that the answer says why, or what to use.

/// Whether a flag of Gunicorn's has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// No.
    Nothing,
    /// Always.
    Value,
    /// It may.
    Optional,
}

/// A setting of Gunicorn's that is not here.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// Gunicorn's name, the key of its configuration file.
    pub(crate) name: &'static str,
    /// Gunicorn's flags.
    pub(crate) flags: &'static [&'static str],
    /// Whether they have a value.
    pub(crate) takes: Takes,
    /// Whether it is a mistake to give it; else a note tells that it does nothing.
    pub(crate) refused: bool,
    /// The answer.
    pub(crate) answer: &'static str,
}

const fn refuse(
    name: &'static str,
    flags: &'static [&'static str],
    takes: Takes,
    answer: &'static str,
) -> Foreign {
    Foreign {
        name,
        flags,
        takes,
        refused: true,
        answer,
    }
}

/// A setting that only the configuration file has.
const fn key(name: &'static str, answer: &'static str) -> Foreign {
    refuse(name, &[], Takes::Value, answer)
}

const SPEW: &str = "is not here: use a tracer of your language on the worker";
const PASTE: &str =
    "is not here: PasteDeploy files are not read; name a callable, such as MODULE:CALLABLE";
const HTTP_PARSER: &str = "is not here: there is one HTTP parser";
const STRICT: &str = "is not here: requests are read strictly by RFC 9112";
const PROXY: &str = "is not here yet: the PROXY protocol is not read; use X-Forwarded headers and --forwarded-allow-ips";
const UWSGI: &str =
    "is not here yet: the uwsgi protocol is not served; let the proxy speak HTTP";
const TLS: &str = "is not here yet: TLS is not served; end it at a proxy and name that in --forwarded-allow-ips";
const HTTP2: &str = "is not here yet: HTTP/2 is not served; let a proxy speak it to clients";
const SYSLOG: &str = "is not here yet: log to standard error (--error-logfile -) and let the system's log collect it";
const LOGGING: &str = "is not here: logs are not written by Python; see --error-logfile, --log-level and --access-logformat";
const STATSD: &str = "is not here yet: no StatsD metrics are sent";
const STDIO: &str =
    "is not here: name --error-logfile, and --capture-output for what the app prints";
const HOOK: &str = "is not here: hooks are Python functions of Gunicorn's configuration file";
const DIRTY: &str = "is not here: there is no second pool for long jobs; use a job queue";
const CONTROL: &str = "is not here yet: there is no control socket; use signals to the master";

/// Every one of them, in Gunicorn's order.
pub(crate) static FOREIGN: &[Foreign] = &[
    key(
        "config",
        "names the configuration file on the command line only: --config",
    ),
    refuse("http_parser", &["--http-parser"], Takes::Value, HTTP_PARSER),
    refuse("spew", &["--spew"], Takes::Nothing, SPEW),
    Foreign {
        name: "sendfile",
        flags: &["--no-sendfile"],
        takes: Takes::Nothing,
        refused: false,
        answer: "does nothing: files are not sent by sendfile(2)",
    },
    key(
        "tmp_upload_dir",
        "is not here: Gunicorn does not use it either",
    ),
    refuse("paste", &["--paste", "--paster"], Takes::Value, PASTE),
    refuse(
        "raw_paste_global_conf",
        &["--paste-global"],
        Takes::Value,
        PASTE,
    ),
    refuse(
        "proxy_protocol",
        &["--proxy-protocol"],
        Takes::Optional,
        PROXY,
    ),
    refuse(
        "proxy_allow_ips",
        &["--proxy-allow-from"],
        Takes::Value,
        PROXY,
    ),
    refuse("protocol", &["--protocol"], Takes::Value, UWSGI),
    refuse(
        "uwsgi_allow_ips",
        &["--uwsgi-allow-from"],
        Takes::Value,
        UWSGI,
    ),
    refuse(
        "permit_obsolete_folding",
        &["--permit-obsolete-folding"],
        Takes::Nothing,
        STRICT,
    ),
    refuse(
        "strip_header_spaces",
        &["--strip-header-spaces"],
        Takes::Nothing,
        STRICT,
    ),
    refuse(
        "permit_unconventional_http_method",
        &["--permit-unconventional-http-method"],
        Takes::Nothing,
        STRICT,
    ),
    refuse(
        "permit_unconventional_http_version",
        &["--permit-unconventional-http-version"],
        Takes::Nothing,
        STRICT,
    ),
    refuse(
        "casefold_http_method",
        &["--casefold-http-method"],
        Takes::Nothing,
        STRICT,
    ),
    refuse(
        "disable_redirect_access_to_syslog",
        &["--disable-redirect-access-to-syslog"],
        Takes::Nothing,
        SYSLOG,
    ),
    refuse("syslog_addr", &["--log-syslog-to"], Takes::Value, SYSLOG),
    refuse("syslog", &["--log-syslog"], Takes::Nothing, SYSLOG),
    refuse(
        "syslog_prefix",
        &["--log-syslog-prefix"],
        Takes::Value,
        SYSLOG,
    ),
    refuse(
        "syslog_facility",
        &["--log-syslog-facility"],
        Takes::Value,
        SYSLOG,
    ),
    refuse("logger_class", &["--logger-class"], Takes::Value, LOGGING),
    refuse("logconfig", &["--log-config"], Takes::Value, LOGGING),
    key("logconfig_dict", LOGGING),
    refuse(
        "logconfig_json",
        &["--log-config-json"],
        Takes::Value,
        LOGGING,
    ),
    refuse(
        "enable_stdio_inheritance",
        &["-R", "--enable-stdio-inheritance"],
        Takes::Nothing,
        STDIO,
    ),
    refuse("statsd_host", &["--statsd-host"], Takes::Value, STATSD),
    refuse(
        "dogstatsd_tags",
        &["--dogstatsd-tags"],
        Takes::Value,
        STATSD,
    ),
    refuse("statsd_prefix", &["--statsd-prefix"], Takes::Value, STATSD),
    refuse(
        "enable_backlog_metric",
        &["--enable-backlog-metric"],
        Takes::Nothing,
        STATSD,
    ),
    key("default_proc_name", "is Gunicorn's own; use proc_name"),
    key("on_starting", HOOK),
    key("on_reload", HOOK),
    key("when_ready", HOOK),
    key("pre_fork", HOOK),
    key("post_fork", HOOK),
    key("post_worker_init", HOOK),
    key("worker_int", HOOK),
    key("worker_abort", HOOK),
    key("pre_exec", HOOK),
    key("pre_request", HOOK),
    key("post_request", HOOK),
    key("child_exit", HOOK),
    key("worker_exit", HOOK),
    key("nworkers_changed", HOOK),
    key("on_exit", HOOK),
    key("ssl_context", HOOK),
    refuse("keyfile", &["--keyfile"], Takes::Value, TLS),
    refuse("certfile", &["--certfile"], Takes::Value, TLS),
    refuse("ssl_version", &["--ssl-version"], Takes::Value, TLS),
    refuse("cert_reqs", &["--cert-reqs"], Takes::Value, TLS),
    refuse("ca_certs", &["--ca-certs"], Takes::Value, TLS),
    refuse(
        "suppress_ragged_eofs",
        &["--suppress-ragged-eofs"],
        Takes::Nothing,
        TLS,
    ),
    refuse(
        "do_handshake_on_connect",
        &["--do-handshake-on-connect"],
        Takes::Nothing,
        TLS,
    ),
    refuse("ciphers", &["--ciphers"], Takes::Value, TLS),
    refuse("http_protocols", &["--http-protocols"], Takes::Value, HTTP2),
    refuse(
        "http2_cleartext",
        &["--http2-cleartext"],
        Takes::Value,
        HTTP2,
    ),
    refuse(
        "http2_max_concurrent_streams",
        &["--http2-max-concurrent-streams"],
        Takes::Value,
        HTTP2,
    ),
    refuse(
        "http2_initial_window_size",
        &["--http2-initial-window-size"],
        Takes::Value,
        HTTP2,
    ),
    refuse(
        "http2_max_frame_size",
        &["--http2-max-frame-size"],
        Takes::Value,
        HTTP2,
    ),
    refuse(
        "http2_max_header_list_size",
        &["--http2-max-header-list-size"],
        Takes::Value,
        HTTP2,
    ),
    refuse("dirty_apps", &["--dirty-app"], Takes::Value, DIRTY),
    refuse("dirty_workers", &["--dirty-workers"], Takes::Value, DIRTY),
    refuse("dirty_timeout", &["--dirty-timeout"], Takes::Value, DIRTY),
    refuse("dirty_threads", &["--dirty-threads"], Takes::Value, DIRTY),
    refuse(
        "dirty_graceful_timeout",
        &["--dirty-graceful-timeout"],
        Takes::Value,
        DIRTY,
    ),
    key("on_dirty_starting", HOOK),
    key("dirty_post_fork", HOOK),
    key("dirty_worker_init", HOOK),
    key("dirty_worker_exit", HOOK),
    refuse(
        "control_socket",
        &["--control-socket"],
        Takes::Value,
        CONTROL,
    ),
    refuse(
        "control_socket_mode",
        &["--control-socket-mode"],
        Takes::Value,
        CONTROL,
    ),
    refuse(
        "control_socket_disable",
        &["--no-control-socket"],
        Takes::Nothing,
        CONTROL,
    ),
];
