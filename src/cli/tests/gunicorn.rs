//! What Gunicorn's users bring along: every setting, in the Python file, on the command line and in the variable.

use super::*;

/// Gunicorn 27.0.1's settings: `gunicorn.config.KNOWN_SETTINGS`.
const GUNICORN: [&str; 120] = [
    "config",
    "wsgi_app",
    "bind",
    "backlog",
    "workers",
    "worker_class",
    "threads",
    "worker_connections",
    "max_requests",
    "max_requests_jitter",
    "timeout",
    "graceful_timeout",
    "keepalive",
    "limit_request_line",
    "limit_request_fields",
    "limit_request_field_size",
    "reload",
    "reload_engine",
    "reload_extra_files",
    "spew",
    "check_config",
    "print_config",
    "preload_app",
    "sendfile",
    "reuse_port",
    "chdir",
    "daemon",
    "raw_env",
    "pidfile",
    "worker_tmp_dir",
    "user",
    "group",
    "umask",
    "initgroups",
    "tmp_upload_dir",
    "secure_scheme_headers",
    "forwarded_allow_ips",
    "accesslog",
    "disable_redirect_access_to_syslog",
    "access_log_format",
    "errorlog",
    "loglevel",
    "capture_output",
    "logger_class",
    "logconfig",
    "logconfig_dict",
    "logconfig_json",
    "syslog_addr",
    "syslog",
    "syslog_prefix",
    "syslog_facility",
    "enable_stdio_inheritance",
    "statsd_host",
    "dogstatsd_tags",
    "statsd_prefix",
    "enable_backlog_metric",
    "proc_name",
    "default_proc_name",
    "pythonpath",
    "paste",
    "on_starting",
    "on_reload",
    "when_ready",
    "pre_fork",
    "post_fork",
    "post_worker_init",
    "worker_int",
    "worker_abort",
    "pre_exec",
    "pre_request",
    "post_request",
    "child_exit",
    "worker_exit",
    "nworkers_changed",
    "on_exit",
    "ssl_context",
    "proxy_protocol",
    "proxy_allow_ips",
    "protocol",
    "uwsgi_allow_ips",
    "keyfile",
    "certfile",
    "ssl_version",
    "cert_reqs",
    "ca_certs",
    "suppress_ragged_eofs",
    "do_handshake_on_connect",
    "ciphers",
    "http_protocols",
    "http2_cleartext",
    "http2_max_concurrent_streams",
    "http2_initial_window_size",
    "http2_max_frame_size",
    "http2_max_header_list_size",
    "raw_paste_global_conf",
    "permit_obsolete_folding",
    "strip_header_spaces",
    "permit_unconventional_http_method",
    "permit_unconventional_http_version",
    "casefold_http_method",
    "forwarder_headers",
    "header_map",
    "asgi_loop",
    "asgi_lifespan",
    "asgi_disconnect_grace_period",
    "websocket_max_message_size",
    "http_parser",
    "root_path",
    "dirty_apps",
    "dirty_workers",
    "dirty_timeout",
    "dirty_threads",
    "dirty_graceful_timeout",
    "on_dirty_starting",
    "dirty_post_fork",
    "dirty_worker_init",
    "dirty_worker_exit",
    "control_socket",
    "control_socket_mode",
    "control_socket_disable",
];

#[test]
fn every_setting_of_gunicorn_is_ours_or_has_an_answer() {
    let mut ours = 0;
    for name in GUNICORN {
        let setting = SETTINGS.iter().any(|setting| setting.name == name);
        let foreign = FOREIGN.iter().find(|foreign| foreign.name == name);
        assert_ne!(setting, foreign.is_some(), "{name} must be one of the two");
        assert!(
            foreign.is_none_or(|foreign| !foreign.answer.is_empty()),
            "{name}"
        );
        ours += usize::from(setting);
    }
    assert_eq!(GUNICORN.len(), ours + FOREIGN.len());
    let hooks = FOREIGN
        .iter()
        .filter(|foreign| foreign.verdict == Verdict::Hook);
    assert!(
        hooks
            .map(|hook| hook.name)
            .eq(HOOKS.iter().map(|(name, _)| *name))
    );
}

/// A Python file that has been run already.
#[derive(Debug)]
struct Globals(Vec<(String, Item)>);

impl Evaluate for Globals {
    fn evaluate(&self, _: &Place) -> Result<Evaluated, String> {
        Ok(Evaluated {
            globals: self.0.clone(),
            notes: Vec::new(),
            script: Script::default(),
        })
    }
}

/// The start with a `gunicorn.conf.py` of these globals.
fn with(globals: &[(&str, Item)]) -> Start {
    let mut start = Start::new();
    fs::write(start.cwd.path().join("gunicorn.conf.py"), "").unwrap();
    let globals = globals
        .iter()
        .map(|(name, item)| ((*name).to_owned(), item.clone()));
    start.python = Some(Rc::new(Globals(globals.collect())));
    start
}

fn text(text: &str) -> Item {
    Item::Text(text.to_owned())
}

fn number(number: i64) -> Item {
    Item::Number(number.to_string())
}

/// What is told of `name = value` in a Python file: notes, or mistakes.
fn told(name: &str, value: Item) -> (Vec<String>, bool) {
    let start = with(&[(name, value)]);
    match start.load(&["app"]) {
        Ok(loaded) => (loaded.notes, false),
        Err(_) => (start.mistakes(&["app"]), true),
    }
}

#[test]
fn what_is_missing_is_told_and_only_what_breaks_the_service_refused() {
    for foreign in FOREIGN {
        let (lines, refused) = told(foreign.name, number(7));
        match foreign.verdict {
            // The interpreter has those.
            Verdict::Hook | Verdict::Obeyed => assert!(lines.is_empty(), "{lines:?}"),
            Verdict::Noted if foreign.name == "logconfig_dict" => assert!(lines.is_empty()),
            Verdict::Noted | Verdict::Refused | Verdict::Needs(_) => {
                let line = format!("gunicorn.conf.py: {} {}", foreign.name, foreign.answer);
                assert_eq!(lines, [line]);
                assert_eq!(
                    refused,
                    foreign.verdict != Verdict::Noted,
                    "{}",
                    foreign.name
                );
            }
        }
        for flag in foreign.flags {
            let words = match foreign.takes {
                Takes::Value => vec!["app", flag, "7"],
                Takes::Nothing => vec!["app", flag],
            };
            let loaded = Start::new().load(&words);
            let (lines, refused) = match loaded {
                Ok(loaded) => (loaded.notes, false),
                Err(_) => (Start::new().mistakes(&words), true),
            };
            let expected = match foreign.verdict {
                // A switch that is Gunicorn's default.
                _ if foreign.default == "true" => false,
                Verdict::Refused | Verdict::Needs(_) => true,
                Verdict::Noted | Verdict::Obeyed | Verdict::Hook => false,
            };
            assert_eq!(refused, expected, "{words:?}: {lines:?}");
            assert!(
                lines.iter().all(|line| line.ends_with(foreign.answer)),
                "{lines:?}"
            );
        }
    }
    for (name, default) in [
        ("certfile", Item::Nothing),
        ("proxy_protocol", Item::Bool(false)),
        ("protocol", text("http")),
        ("spew", Item::Bool(false)),
        ("http2_max_frame_size", number(16384)),
    ] {
        assert_eq!(told(name, default), (Vec::new(), false), "{name}");
    }
}

#[test]
fn python_values_become_settings_by_gunicorns_rules() {
    let config = with(&[
        (
            "bind",
            Item::List(vec![text("127.0.0.1:1"), text("unix:s")]),
        ),
        ("workers", text("3")),
        ("threads", number(2)),
        ("timeout", Item::Number("1.5".to_owned())),
        ("reload", text("True")),
        ("daemon", Item::Bool(false)),
        ("pidfile", Item::Nothing),
        ("umask", number(0o22)),
        ("user", number(0)),
        ("raw_env", Item::List(vec![text("A=b,c")])),
        (
            "secure_scheme_headers",
            Item::Table(vec![("X-Ssl".to_owned(), text("on"))]),
        ),
        ("forwarded_allow_ips", text("*")),
        ("default_proc_name", text("shop")),
        ("worker_class", text("uvicorn.workers.UvicornWorker")),
        ("cores", number(7)),
    ]);
    let loaded = config.load(&["app"]).unwrap();
    assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
    let config = loaded.config;
    assert_eq!(
        (config.bind.len(), config.workers.least, config.threads),
        (2, 3, 2)
    );
    assert_eq!(config.timeout.as_millis(), 1500);
    assert!(config.reload && !config.daemon && config.pidfile.is_none());
    assert_eq!((config.umask, config.user.as_deref()), (0o22, Some("0")));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.raw_env, [pair("A", "b,c")]);
    assert_eq!(config.secure_scheme_headers, [pair("X-SSL", "on")]);
    assert_eq!(config.forwarded_allow_ips, AllowList::Everybody);
    assert_eq!(config.proc_name.as_deref(), Some("shop"));
    assert_eq!(config.worker_class, WorkerClass::Asgi);
}

#[test]
fn what_gunicorn_takes_for_another_value_is_told() {
    for (name, value, note) in [
        (
            "loglevel",
            text("warn"),
            "gunicorn.conf.py: loglevel = \"warn\" is no level: info counts, as in Gunicorn; did you mean warning?",
        ),
        (
            "limit_request_line",
            number(65_536),
            "gunicorn.conf.py: limit_request_line = 65536 is too much: 8190 counts, as in Gunicorn",
        ),
        (
            "limit_request_fields",
            number(0),
            "gunicorn.conf.py: limit_request_fields = 0 is not possible: 32768 counts, as in Gunicorn",
        ),
        (
            "wokers",
            number(9),
            "gunicorn.conf.py: wokers is no setting and is ignored; did you mean workers?",
        ),
    ] {
        assert_eq!(told(name, value), (vec![note.to_owned()], false));
    }
    let loaded = Start::new()
        .load(&["app", "-k", "shop.workers.Mine"])
        .unwrap();
    assert_eq!(loaded.config.worker_class, WorkerClass::Auto);
    assert_eq!(
        loaded.notes,
        [
            "--worker-class: \"shop.workers.Mine\" is no class of ours and is not run: auto counts"
        ]
    );
    let loaded = Start::new().load(&["app", "--log-level", "trace"]).unwrap();
    assert_eq!(
        loaded.notes,
        ["--log-level: \"trace\" is no level: info counts, as in Gunicorn"]
    );
}

#[test]
fn the_file_is_below_the_variables_and_the_command_line_and_rgun_toml_comes_first() {
    let start = with(&[
        ("workers", number(2)),
        ("threads", number(2)),
        ("backlog", number(2)),
    ])
    .env("GUNICORN_CMD_ARGS", "--threads 3 --backlog 3");
    let config = start.config(&["app", "--backlog", "4"]);
    assert_eq!(
        (config.workers.least, config.threads, config.backlog),
        (2, 3, 4)
    );
    assert_eq!(start.source(&["app"], "workers"), "gunicorn.conf.py");
    let start = start.file("workers = 7");
    assert_eq!(start.config(&["app"]).workers.least, 7);
    fs::write(start.cwd.path().join("named"), "def workers(): pass\n").unwrap();
    assert_eq!(start.config(&["app", "-c", "named"]).workers.least, 2);
    assert_eq!(start.config(&["app", "-c", "python:conf"]).workers.least, 2);
}

#[test]
fn a_process_without_an_interpreter_knows_when_it_needs_one() {
    let mut start = with(&[]);
    start.python = None;
    let wants = |start: &Start, words: &[&str]| wants_python(&PROGRAM, &start.sources(words));
    assert!(wants(&start, &["app"]));
    assert!(wants(&start, &["app", "-c", "gunicorn.conf.py"]));
    assert!(wants(&start, &["app", "-c", "python:conf"]));
    assert!(!wants(&start, &["app", "-c", "no.py"]));
    assert!(!wants(&start, &["app", "--nope"]));
    let note = "gunicorn.conf.py is not read: there is no interpreter in this program, settings are in rgun.toml";
    assert_eq!(start.load(&["app"]).unwrap().notes, [note]);
    let start = start.file("");
    assert!(!wants(&start, &["app"]));
}
