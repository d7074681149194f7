//! From a command line to a configuration, or to what is wrong with it.

use std::fs;

use super::*;
use crate::config::{
    Address, AllowList, AppPath, Bind, Evaluated, HOOKS, Place, Script, Verdict, WorkerClass,
};

mod gunicorn;

const PROGRAM: Program = Program {
    name: "rgun-async",
    about: "A server.",
    app: AppArgument::Required,
    services: None,
};

/// A start in a directory of its own.
struct Start {
    cwd: tempfile::TempDir,
    env: Vec<(String, String)>,
    program: Program,
    python: Option<Rc<dyn Evaluate>>,
}

impl Start {
    fn new() -> Self {
        Self {
            cwd: tempfile::tempdir().unwrap(),
            env: Vec::new(),
            program: PROGRAM,
            python: None,
        }
    }

    fn file(self, text: &str) -> Self {
        fs::write(self.cwd.path().join("rgun.toml"), text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn sources(&self, words: &[&str]) -> Sources {
        let argv = std::iter::once(&"rgun-async").chain(words);
        Sources {
            argv: argv.map(|word| (*word).to_owned()).collect(),
            env: self.env.clone(),
            cwd: self.cwd.path().to_owned(),
            python: self.python.clone(),
        }
    }

    fn load(&self, words: &[&str]) -> Result<Loaded, Outcome> {
        load(&self.program, &self.sources(words))
    }

    fn config(&self, words: &[&str]) -> Config {
        self.load(words).unwrap().config
    }

    fn source(&self, words: &[&str], name: &str) -> String {
        let index = SETTINGS
            .iter()
            .position(|setting| setting.name == name)
            .unwrap();
        self.load(words).unwrap().sources[index].to_string()
    }

    fn mistakes(&self, words: &[&str]) -> Vec<String> {
        match self.load(words) {
            Err(Outcome::Mistakes(mistakes)) => {
                mistakes.iter().map(ToString::to_string).collect()
            }
            other => panic!("no mistakes: {other:?}"),
        }
    }
}

#[test]
fn the_command_line_can_be_built() {
    command(&PROGRAM).debug_assert();
    command(&Program {
        app: AppArgument::None,
        services: None,
        name: "myapp",
        ..PROGRAM
    })
    .debug_assert();
}

#[test]
fn later_sources_win_and_are_named() {
    let start = Start::new();
    assert_eq!(start.config(&["app"]).workers.least, 1);
    assert_eq!(start.source(&["app"], "workers"), "default");
    let start = start.env("WEB_CONCURRENCY", "2");
    assert_eq!(start.config(&["app"]).workers.least, 2);
    assert_eq!(start.source(&["app"], "workers"), "WEB_CONCURRENCY");
    let start = start.file("# few\nworkers = 3\n");
    assert_eq!(start.config(&["app"]).workers.least, 3);
    assert_eq!(start.source(&["app"], "workers"), "rgun.toml:2");
    let start = start.env("RGUN_WORKERS", "4");
    assert_eq!(start.config(&["app"]).workers.least, 4);
    assert_eq!(start.source(&["app"], "workers"), "RGUN_WORKERS");
    let start = start.env("RGUN_CMD_ARGS", "--workers=5 -e 'A=b c'");
    assert_eq!(start.config(&["app"]).workers.least, 5);
    assert_eq!(start.source(&["app"], "workers"), "RGUN_CMD_ARGS --workers");
    assert_eq!(
        start.config(&["app"]).raw_env,
        [("A".to_owned(), "b c".to_owned())]
    );
    assert_eq!(start.config(&["app", "-w", "6"]).workers.least, 6);
    assert_eq!(start.source(&["app", "-w", "6"], "workers"), "--workers");
    assert_eq!(start.source(&["app"], "wsgi_app"), "command line");
}

#[test]
fn lists_accumulate_within_a_source_and_replace_between_sources() {
    let start = Start::new().file("bind = [\":1\", \":2\"]");
    assert_eq!(start.config(&["app"]).bind.len(), 2);
    let config = start.config(&["app", "-b", ":3", "-b", "unix:s", "--bind", ":4,:5"]);
    let shown: Vec<_> = config.bind.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["0.0.0.0:3", "unix:s", "0.0.0.0:4", "0.0.0.0:5"]);
}

#[test]
fn gunicorns_variable_counts_where_ours_is_not() {
    let start = Start::new().env("GUNICORN_CMD_ARGS", "--workers 5 --paste=x");
    assert_eq!(
        start.mistakes(&["app"]),
        [
            "GUNICORN_CMD_ARGS --paste: is not here: PasteDeploy files are not read; name a callable, such as MODULE:CALLABLE"
        ]
    );
    let start = Start::new().env("GUNICORN_CMD_ARGS", "--workers 5");
    assert_eq!(start.config(&["app"]).workers.least, 5);
    assert_eq!(
        start.source(&["app"], "workers"),
        "GUNICORN_CMD_ARGS --workers"
    );
    let start = start.env("RGUN_CMD_ARGS", "--threads 2");
    assert_eq!(start.config(&["app"]).workers.least, 1);
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    assert_eq!(
        Start::new()
            .config(&["app", "-w", "2", "--workers", "3"])
            .workers
            .least,
        3
    );
}

#[test]
fn platform_variables_change_defaults_where_they_are_not_empty() {
    let start = Start::new()
        .env("PORT", "5000")
        .env("WEB_CONCURRENCY", "")
        .env("FORWARDED_ALLOW_IPS", "*");
    let config = start.config(&["app"]);
    assert_eq!(
        config.bind,
        [Bind::plain(Address::Tcp {
            host: "0.0.0.0".to_owned(),
            port: 5000
        })]
    );
    assert_eq!(config.workers.least, 1);
    assert_eq!(config.forwarded_allow_ips, AllowList::Everybody);
}

#[test]
fn binds_say_what_they_speak_in_the_file_and_on_the_command_line() {
    let start = Start::new().file(
        "workers = 1\n\n[[bind]]\naddress = \":1\"\n\n[[bind]]\naddress = \"[::]:2\"\nprotocol = \"http\"\nproxy = \"v2\"\n",
    );
    let shown =
        |config: &Config| -> Vec<_> { config.bind.iter().map(ToString::to_string).collect() };
    let config = start.config(&["app"]);
    assert_eq!(shown(&config), ["0.0.0.0:1", "http://[::]:2?proxy=v2"]);
    let config = start.config(&["app", "-b", ":3,http:unix:s?proxy=v1", "-b", "tcp://:4"]);
    assert_eq!(
        shown(&config),
        ["0.0.0.0:3", "http:unix:s?proxy=v1", "0.0.0.0:4"]
    );
    let only = Start::new().file("[bind]\naddress = \":5\"\nprotocol = \"uwsgi\"\n");
    assert_eq!(shown(&only.config(&["app"])), ["uwsgi://0.0.0.0:5"]);
    let words = ["app", "-b", ":1", "-b", "http://:1", "-b", "https://:2"];
    assert_eq!(
        Start::new().mistakes(&words),
        [
            "--bind: \"0.0.0.0:1\": is there twice",
            if cfg!(feature = "tls") {
                "--bind: \"https://0.0.0.0:2\": has no certificate: say ?cert=FILE&key=FILE, or --certfile for all"
            } else {
                "--bind: \"https://0.0.0.0:2\": TLS is not in this build of the server (cargo feature \"tls\")"
            }
        ]
    );
    let start = Start::new().file("[[bind]]\naddress = \":1\"\nworkers = 2\n");
    assert_eq!(
        start.mistakes(&["app"]),
        [
            "rgun.toml:1: bind: \":1\": \"workers\" is a setting for all binds: in the file it stands before the first [[bind]]"
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once_with_their_sources() {
    let start = Start::new()
        .file("wokers = 9\ntimeout = \"soon\"\n\npost_fork = 4\n[server]\na = 1\n")
        .env("WEB_CONCURRENCY", "many")
        .env("RGUN_BACKLOG", "-1")
        .env("RGUN_CMD_ARGS", "--keep-alive never");
    let words = [
        "-w", "0", "--paste", "c.ini", "-b", ":1", "-b", ":1", "--chdir", "nowhere",
    ];
    assert_eq!(
        start.mistakes(&words),
        [
            "WEB_CONCURRENCY: \"many\": must be a whole number from 1 to 1024, or auto, or MIN..MAX of these".to_owned(),
            "rgun.toml:1: \"wokers\" is no setting; did you mean workers?".to_owned(),
            "rgun.toml:2: timeout = \"soon\": must be seconds from 0 up, or with a unit: 30, 0.5, 500ms, 2m, 1h (at most a year)".to_owned(),
            "rgun.toml:4: post_fork is a Python function: server hooks are read from a Python configuration file (gunicorn.conf.py)".to_owned(),
            "rgun.toml:5: \"server\" is no setting; settings stand at the top of the file, in no table".to_owned(),
            "RGUN_BACKLOG: \"-1\": must be a whole number from 1 to 2147483647".to_owned(),
            "RGUN_CMD_ARGS --keep-alive: \"never\": must be seconds from 0 up, or with a unit: 30, 0.5, 500ms, 2m, 1h (at most a year)".to_owned(),
            "--paste: is not here: PasteDeploy files are not read; name a callable, such as MODULE:CALLABLE".to_owned(),
            "--workers: \"0\": must be a whole number from 1 to 1024, or auto, or MIN..MAX of these".to_owned(),
            "No application module specified.".to_owned(),
            "--bind: \"0.0.0.0:1\": is there twice".to_owned(),
            format!("--chdir: {:?}: there is no such directory", start.cwd.path().join("nowhere").display().to_string()),
        ]
    );
    assert_eq!(start.load(&words).unwrap_err().exit(), Exit::Config);
}

#[test]
fn every_syntax_error_of_the_file_has_its_line() {
    let mistakes = Start::new()
        .file("workers = 1\nworkers = 2\nbind = [\n")
        .mistakes(&["app"]);
    assert!(
        mistakes
            .iter()
            .any(|mistake| mistake.starts_with("rgun.toml:2: is not TOML: "))
    );
    assert!(mistakes.len() > 1, "{mistakes:?}");
}

#[test]
fn a_file_that_is_named_must_be_there_and_be_toml() {
    let start = Start::new();
    assert_eq!(
        start.mistakes(&["app", "-c", "no.toml"]),
        ["--config: \"no.toml\": there is no such file"]
    );
    assert_eq!(
        start.mistakes(&["app", "-c", "no.py"]),
        ["--config: \"no.py\": there is no such file"]
    );
    fs::write(start.cwd.path().join("conf.py"), "workers = 2\n").unwrap();
    for name in ["conf.py", "file:conf.py", "python:conf"] {
        let mistakes = start.mistakes(&["app", "-c", name]);
        assert!(
            mistakes[0].contains("no interpreter in this program"),
            "{mistakes:?}"
        );
    }
    assert!(start.mistakes(&["app", "-c", "."])[0].contains("cannot be read"));
    fs::write(
        start.cwd.path().join("bytes.toml"),
        b"workers = 2\nx = \"\xff\"",
    )
    .unwrap();
    assert_eq!(
        start.mistakes(&["app", "-c", "bytes.toml"]),
        ["bytes.toml:2: is not UTF-8 text"]
    );
}

#[test]
fn cmd_args_may_name_the_file_and_the_command_line_wins() {
    let start = Start::new()
        .file("workers = 2")
        .env("RGUN_CMD_ARGS", "-c a.toml");
    fs::write(start.cwd.path().join("a.toml"), "workers = 3").unwrap();
    fs::write(start.cwd.path().join("b.toml"), "workers = 4").unwrap();
    assert_eq!(start.config(&["app"]).workers.least, 3);
    let loaded = start.load(&["app", "--config", "b.toml"]).unwrap();
    assert_eq!(loaded.config.workers.least, 4);
    assert_eq!(loaded.file, Some(start.cwd.path().join("b.toml")));
}

#[test]
fn the_app_may_come_from_the_file() {
    let start = Start::new().file("wsgi_app = \"shop.main:create_app()\"");
    let app = AppPath::Python {
        module: "shop.main".to_owned(),
        attribute: Some("create_app()".to_owned()),
    };
    assert_eq!(start.config(&[]).wsgi_app, Some(app));
    assert_eq!(
        Start::new().mistakes(&[]),
        ["No application module specified."]
    );
    assert_eq!(
        Start::new().mistakes(&["builtin:helo"]),
        [
            "command line: \"builtin:helo\": names no built-in app; there are builtin:hello and builtin:echo and builtin:static:DIRECTORY; did you mean hello?"
        ]
    );
}

#[test]
fn a_program_that_is_the_app_takes_none() {
    let mut start = Start::new();
    start.program.app = AppArgument::None;
    assert_eq!(start.config(&["-w", "2"]).workers.least, 2);
    assert_eq!(start.load(&["app"]).unwrap_err().exit(), Exit::Usage);
    assert_eq!(
        start.file("wsgi_app = \"a\"").mistakes(&[]),
        ["rgun.toml:1: wsgi_app: a: this program is the app itself"]
    );
}

#[test]
fn an_unknown_flag_is_a_usage_error_with_the_nearest_name() {
    let start = Start::new();
    let outcome = start.load(&["--wokers", "3", "app"]).unwrap_err();
    assert_eq!(outcome.exit(), Exit::Usage);
    assert!(outcome.to_string().contains("'--workers'"), "{outcome}");
    assert_eq!(
        start.load(&["app", "--timeout"]).unwrap_err().exit(),
        Exit::Usage
    );
    let start = start.env("RGUN_CMD_ARGS", "--nope");
    let outcome = start.load(&["app"]).unwrap_err();
    assert!(
        outcome.to_string().starts_with("in RGUN_CMD_ARGS: "),
        "{outcome}"
    );
}

#[test]
fn help_and_version_are_outcomes_that_are_done() {
    for flag in ["-h", "--help", "-v", "-V", "--version"] {
        let outcome = Start::new().load(&[flag]).unwrap_err();
        assert_eq!(outcome.exit(), Exit::Done, "{flag}");
    }
    let help = Start::new().load(&["--help"]).unwrap_err().to_string();
    assert!(
        SETTINGS.iter().all(|setting| setting
            .flags
            .iter()
            .take(1)
            .all(|flag| help.contains(flag)))
    );
    assert!(
        !help.contains("--paste"),
        "settings that are not here are not offered"
    );
}

#[test]
fn no_sendfile_switches_it_off() {
    assert!(Start::new().config(&["app"]).sendfile);
    let loaded = Start::new().load(&["app", "--no-sendfile"]).unwrap();
    assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
    assert!(!loaded.config.sendfile);
    let start = Start::new().file("sendfile = false");
    assert!(!start.config(&["app"]).sendfile);
    let start = Start::new().env("SENDFILE", "0");
    assert!(!start.config(&["app"]).sendfile);
}

#[test]
fn a_variable_near_a_setting_is_noted() {
    let loaded = Start::new()
        .env("RGUN_WOKERS", "3")
        .env("RGUN_PORT", "tcp://10.0.0.1:80");
    assert_eq!(
        loaded.load(&["app"]).unwrap().notes,
        ["RGUN_WOKERS is no setting and is ignored; did you mean RGUN_WORKERS?"]
    );
}

#[test]
fn the_printed_configuration_gives_itself_again() {
    let words = [
        "-w",
        "3",
        "-b",
        "[::1]:0",
        "-b",
        "unix:/tmp/a b",
        "-b",
        "unix:@x",
        "-b",
        "fd://3",
        "-e",
        "A=\"1\"",
        "-m",
        "027",
        "-t",
        "0.5",
        "--limit-request-body",
        "3m",
        "--forwarded-allow-ips",
        "10.0.0.0/8,::1",
        "--access-logfile",
        "-",
        "--pid",
        "x.pid",
        "-k",
        "gevent",
        "-D",
        "-u",
        "0",
        "--pythonpath",
        "a,b",
        "pkg.mod:f(1)",
    ];
    let loaded = Start::new().load(&words).unwrap();
    let printed = loaded.print();
    let again = Start::new().file(&printed).load(&[]).unwrap();
    assert!(loaded.config.plan(&again.config).is_empty(), "{printed}");
    assert!(printed.contains("workers = 3  # --workers\n"), "{printed}");
    let mut sorted: Vec<_> = printed.lines().collect();
    sorted.sort_unstable();
    assert!(printed.lines().eq(sorted));
}

#[test]
fn accounts_and_directories_must_exist() {
    let start = Start::new();
    let mistakes = start.mistakes(&[
        "app",
        "-u",
        "no such user",
        "-g",
        "no such group",
        "--worker-tmp-dir",
        "/dev/null",
        "--log-file",
        "a/b.log",
    ]);
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    start.config(&["app", "-u", "4711", "-g", "root", "--log-file", "b.log"]);
}

#[test]
fn worker_classes_of_gunicorn_are_understood() {
    let class = |name| Start::new().config(&["app", "-k", name]).worker_class;
    for name in [
        "gevent",
        "egg:gunicorn#gevent",
        "gunicorn.workers.ggevent.GeventWorker",
        "gevent_pywsgi",
    ] {
        assert_eq!(class(name), WorkerClass::Gevent, "{name}");
    }
    assert_eq!(class("gunicorn.workers.sync.SyncWorker"), WorkerClass::Sync);
    for name in [
        "asgi",
        "uvicorn.workers.UvicornWorker",
        "uvicorn_worker.UvicornH11Worker",
    ] {
        assert_eq!(class(name), WorkerClass::Asgi, "{name}");
    }
    for name in ["gthread", "gunicorn.workers.gthread.ThreadWorker"] {
        assert_eq!(class(name), WorkerClass::Gthread, "{name}");
    }
    for (name, uses) in [
        ("eventlet", ["gevent", "gthread"]),
        (
            "gunicorn.workers.geventlet.EventletWorker",
            ["gevent", "gthread"],
        ),
        ("tornado", ["gevent or gthread", "asgi"]),
        (
            "gunicorn.workers.gtornado.TornadoWorker",
            ["gevent or gthread", "asgi"],
        ),
        ("aiohttp.GunicornWebWorker", ["gevent", "asgi"]),
    ] {
        let mistakes = Start::new().mistakes(&["app", "-k", name]);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        for text in [name, "is not here"].iter().chain(&uses) {
            assert!(mistakes[0].contains(text), "{text:?} in {mistakes:?}");
        }
    }
    assert!(
        Start::new().mistakes(&["app", "-k", "gevnet"])[0].ends_with("did you mean gevent?")
    );
}
