//! The command line: flags made from [`SETTINGS`], and the way from the command line to a configuration.
//!
//! [`load`] is a pure function of its [`Sources`] and the configuration file: a reload calls it again with the same.

use std::fmt;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{
    self, CMD_ARGS, Config, FOREIGN, Form, Given, Inputs, Merged, Mistake, Raw, SETTINGS,
    Setting, Source, Takes,
};
use crate::error::Exit;

/// The id of `--config`, which is no setting: it says where settings are.
const CONFIG: &str = "config";

/// Whether the program is given an app to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppArgument {
    /// It is: as the argument, or as `wsgi_app`.
    Required,
    /// It is the app: a user's own binary.
    None,
}

/// The program whose command line it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// `rgun-async`, or the user's binary.
    pub(crate) name: &'static str,
    /// One line on what it is.
    pub(crate) about: &'static str,
    /// Whether an app is its argument.
    pub(crate) app: AppArgument,
}

/// What a configuration is made from, apart from the file. Kept for reloads.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The command line, the program's name first.
    pub(crate) argv: Vec<String>,
    /// The environment at the start.
    pub(crate) env: Vec<(String, String)>,
    /// The directory of the start.
    pub(crate) cwd: PathBuf,
}

impl Sources {
    /// This process's. What is not UTF-8 is read with replacement characters.
    ///
    /// # Errors
    /// The current directory is gone or cannot be read.
    pub(crate) fn of_process() -> std::io::Result<Self> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Ok(Self {
            argv: std::env::args_os().map(text).collect(),
            env: std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            cwd: std::env::current_dir()?,
        })
    }
}

/// Why there is no configuration. `Display` is what to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Help or version: to standard output, exit 0.
    Help(String),
    /// The command line cannot be read: to standard error, exit 2.
    Usage(String),
    /// The configuration is wrong: to standard error, exit 1.
    Mistakes(Vec<Mistake>),
}

impl Outcome {
    /// How the process ends.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Help(_) => Exit::Done,
            Self::Usage(_) => Exit::Usage,
            Self::Mistakes(_) => Exit::Config,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mistakes = match self {
            Self::Help(text) | Self::Usage(text) => return f.write_str(text),
            Self::Mistakes(mistakes) => mistakes,
        };
        if let [only] = mistakes.as_slice() {
            return writeln!(f, "Error: {only}");
        }
        writeln!(
            f,
            "Error: {} mistakes in the configuration:",
            mistakes.len()
        )?;
        mistakes
            .iter()
            .try_for_each(|mistake| writeln!(f, "  {mistake}"))
    }
}

/// A configuration and how it came to be.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// Where each value comes from, by the index of [`SETTINGS`].
    pub(crate) sources: Vec<Source>,
    /// What was given and has no effect: for the log, as warnings.
    pub(crate) notes: Vec<String>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

impl Loaded {
    /// What `--print-config` prints: TOML that gives this configuration again, each line with its source.
    pub(crate) fn print(&self) -> String {
        config::print(&self.config, &self.sources)
    }
}

/// Reads the command line, `RGUN_CMD_ARGS`, the environment and the file.
///
/// # Errors
/// An [`Outcome`] to print and to exit with.
pub(crate) fn load(program: &Program, sources: &Sources) -> Result<Loaded, Outcome> {
    let command = command(program);
    let argv = sources.argv.iter().skip(1).cloned();
    let command_line = parse(command.clone(), argv).map_err(|error| outcome(&error, ""))?;
    let command_variable = command_variable(command, &sources.env)?;
    let inputs = Inputs {
        env: &sources.env,
        cwd: &sources.cwd,
        command_variable,
        command_line,
        takes_app: program.app == AppArgument::Required,
    };
    let Merged {
        config,
        sources,
        notes,
        file,
    } = config::merge(&inputs).map_err(Outcome::Mistakes)?;
    Ok(Loaded {
        config,
        sources,
        notes,
        file,
    })
}

fn command_variable(command: Command, env: &[(String, String)]) -> Result<Given, Outcome> {
    let Some((_, text)) = env.iter().find(|(name, _)| name == CMD_ARGS) else {
        return Ok(Given::default());
    };
    let words = shlex::split(text).ok_or_else(|| {
        Outcome::Usage(format!(
            "error: {CMD_ARGS} has a quote or backslash without its end\n"
        ))
    })?;
    parse(command, words.into_iter()).map_err(|error| outcome(&error, CMD_ARGS))
}

fn parse(command: Command, words: impl Iterator<Item = String>) -> Result<Given, clap::Error> {
    command
        .try_get_matches_from(words)
        .map(|matches| given(&matches))
}

fn outcome(error: &clap::Error, place: &str) -> Outcome {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Outcome::Help(text),
        _ if place.is_empty() => Outcome::Usage(text),
        _ => Outcome::Usage(format!("in {place}: {text}")),
    }
}

fn given(matches: &ArgMatches) -> Given {
    let words = |id: &str| -> Vec<String> {
        let found = matches.try_get_many::<String>(id).ok().flatten();
        found.into_iter().flatten().cloned().collect()
    };
    let switched = |id: &str| {
        matches
            .try_get_one::<bool>(id)
            .ok()
            .flatten()
            .copied()
            .unwrap_or_default()
    };
    let mut given = Given {
        file: words(CONFIG).pop(),
        ..Given::default()
    };
    for (index, setting) in SETTINGS.iter().enumerate() {
        let words = match setting.form {
            Form::Switch if switched(setting.name) => vec!["true".to_owned()],
            Form::Switch => Vec::new(),
            Form::One | Form::Many => words(setting.name),
        };
        if !words.is_empty() {
            given.settings.push((index, Raw::Words(words)));
        }
    }
    let foreign = FOREIGN.iter().filter(|foreign| !foreign.flags.is_empty());
    given.foreign = foreign
        .filter(|foreign| match foreign.takes {
            Takes::Nothing => switched(foreign.name),
            Takes::Value | Takes::Optional => matches.value_source(foreign.name).is_some(),
        })
        .collect();
    given
}

/// The command line of `program`.
pub(crate) fn command(program: &Program) -> Command {
    let version = if program.name == env!("CARGO_PKG_NAME") {
        env!("CARGO_PKG_VERSION")
    } else {
        concat!("with rgun-async ", env!("CARGO_PKG_VERSION"))
    };
    let mut command = Command::new(program.name)
        .about(program.about)
        .version(version)
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .max_term_width(110)
        .after_help("Every setting is also a key of rgun.toml, and in capitals after RGUN_ a variable: --help tells more.")
        .after_long_help(after_help(program))
        .arg(
            Arg::new(CONFIG)
                .short('c')
                .long("config")
                .value_name("FILE")
                .help("The TOML file with settings; without it ./rgun.toml, if it is there")
                .help_heading("General"),
        )
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help("Print a summary (-h) or everything (--help)")
                .help_heading("General"),
        )
        .arg(
            Arg::new("version")
                .short('v')
                .short_alias('V')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version")
                .help_heading("General"),
        );
    for setting in SETTINGS {
        if setting.flags.is_empty() {
            if program.app == AppArgument::Required {
                command = command.arg(documented(Arg::new(setting.name), setting));
            }
        } else {
            let arg = flags(documented(Arg::new(setting.name), setting), setting.flags);
            command = command.arg(arg.help_heading(setting.section));
        }
    }
    for foreign in FOREIGN.iter().filter(|foreign| !foreign.flags.is_empty()) {
        let arg = flags(Arg::new(foreign.name), foreign.flags).hide(true);
        command = command.arg(match foreign.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Value => arg.action(ArgAction::Append),
            Takes::Optional => arg.action(ArgAction::Append).num_args(0..=1),
        });
    }
    command
}

fn documented(arg: Arg, setting: &Setting) -> Arg {
    let mut paragraphs = setting.paragraphs();
    for paragraph in &mut paragraphs {
        paragraph.retain(|c| c != '`');
    }
    let default = setting
        .default_word()
        .map_or_else(String::new, |word| format!(" [default: {word}]"));
    if let Some(summary) = paragraphs.first_mut() {
        let whole = summary.trim_end_matches('.').len();
        summary.truncate(whole);
        summary.push_str(&default);
    }
    let summary = paragraphs.first().cloned().unwrap_or_default();
    let arg = arg
        .help(summary)
        .long_help(paragraphs.join("\n\n"))
        .value_name(setting.value_name);
    match setting.form {
        Form::Switch => arg.action(ArgAction::SetTrue),
        Form::One => arg.action(ArgAction::Set).allow_negative_numbers(true),
        Form::Many => arg.action(ArgAction::Append),
    }
}

/// Gives `arg` its flags: the first short and the first long one are shown, others are aliases.
fn flags(mut arg: Arg, flags: &'static [&'static str]) -> Arg {
    let mut named = false;
    for flag in flags {
        arg = match (flag.strip_prefix("--"), flag.chars().nth(1)) {
            (Some(long), _) if named => arg.alias(long),
            (Some(long), _) => {
                named = true;
                arg.long(long)
            }
            (None, Some(short)) => arg.short(short),
            (None, None) => arg,
        };
    }
    arg
}

fn after_help(program: &Program) -> String {
    let name = program.name;
    let (app, examples) = match program.app {
        AppArgument::Required => (
            " demo:app",
            format!(
                "  {name} -w 4 -b 0.0.0.0:8000 demo:app     four workers for `app` in demo.py\n  \
                   {name} -k gevent 'shop:create_app()'     a factory; many requests at a time in each worker\n  \
                   {name} --check-config demo:app           is everything right? starts nothing\n  \
                   {name} builtin:hello                     an app of its own, to try the server\n"
            ),
        ),
        AppArgument::None => (
            "",
            format!(
                "  {name} -w 4 -b 0.0.0.0:8000      four workers\n  \
                   {name} --check-config            is everything right? starts nothing\n"
            ),
        ),
    };
    format!(
        "Examples:\n{examples}\n\
         Settings, the later over the earlier: defaults, the TOML file (-c FILE, else ./rgun.toml), variables such as \
         RGUN_WORKERS, flags in RGUN_CMD_ARGS, flags. `{name} --print-config{app}` shows what is in force, and where it \
         comes from. PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS change defaults.\n\n\
         Signals to the master: TERM finishes requests and ends, INT and QUIT end at once, HUP reloads configuration and \
         code, USR1 opens the logs anew, USR2 starts a new binary on the same sockets, TTIN and TTOU add and take a \
         worker.\n\n\
         Exit codes: 0 done, 1 configuration or address, 2 command line, 3 a worker could not boot, 4 the app could not \
         be loaded."
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{AllowList, AppPath, Bind, WorkerClass};

    const PROGRAM: Program = Program {
        name: "rgun-async",
        about: "A server.",
        app: AppArgument::Required,
    };

    /// A start in a directory of its own.
    struct Start {
        cwd: tempfile::TempDir,
        env: Vec<(String, String)>,
        program: Program,
    }

    impl Start {
        fn new() -> Self {
            Self {
                cwd: tempfile::tempdir().unwrap(),
                env: Vec::new(),
                program: PROGRAM,
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

        fn load(&self, words: &[&str]) -> Result<Loaded, Outcome> {
            let argv = std::iter::once(&"rgun-async").chain(words);
            let sources = Sources {
                argv: argv.map(|word| (*word).to_owned()).collect(),
                env: self.env.clone(),
                cwd: self.cwd.path().to_owned(),
            };
            load(&self.program, &sources)
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
            name: "myapp",
            ..PROGRAM
        })
        .debug_assert();
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let start = Start::new();
        assert_eq!(start.config(&["app"]).workers, 1);
        assert_eq!(start.source(&["app"], "workers"), "default");
        let start = start.env("WEB_CONCURRENCY", "2");
        assert_eq!(start.config(&["app"]).workers, 2);
        assert_eq!(start.source(&["app"], "workers"), "WEB_CONCURRENCY");
        let start = start.file("# few\nworkers = 3\n");
        assert_eq!(start.config(&["app"]).workers, 3);
        assert_eq!(start.source(&["app"], "workers"), "rgun.toml:2");
        let start = start.env("RGUN_WORKERS", "4");
        assert_eq!(start.config(&["app"]).workers, 4);
        assert_eq!(start.source(&["app"], "workers"), "RGUN_WORKERS");
        let start = start.env("RGUN_CMD_ARGS", "--workers=5 -e 'A=b c'");
        assert_eq!(start.config(&["app"]).workers, 5);
        assert_eq!(start.source(&["app"], "workers"), "RGUN_CMD_ARGS --workers");
        assert_eq!(
            start.config(&["app"]).raw_env,
            [("A".to_owned(), "b c".to_owned())]
        );
        assert_eq!(start.config(&["app", "-w", "6"]).workers, 6);
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
    fn the_last_of_a_repeated_flag_counts() {
        assert_eq!(
            Start::new()
                .config(&["app", "-w", "2", "--workers", "3"])
                .workers,
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
            [Bind::Tcp {
                host: "0.0.0.0".to_owned(),
                port: 5000
            }]
        );
        assert_eq!(config.workers, 1);
        assert_eq!(config.forwarded_allow_ips, AllowList::Everybody);
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_sources() {
        let start = Start::new()
            .file("wokers = 9\ntimeout = \"soon\"\n\nthreads = 4\n[server]\na = 1\n")
            .env("WEB_CONCURRENCY", "many")
            .env("RGUN_BACKLOG", "-1")
            .env("RGUN_CMD_ARGS", "--keep-alive never");
        let words = [
            "-w",
            "0",
            "--preload",
            "-b",
            ":1",
            "-b",
            ":1",
            "--chdir",
            "nowhere",
        ];
        assert_eq!(
            start.mistakes(&words),
            [
                "WEB_CONCURRENCY: \"many\": must be a whole number from 1 to 1024, or auto".to_owned(),
                "rgun.toml:1: \"wokers\" is no setting; did you mean workers?".to_owned(),
                "rgun.toml:2: timeout = \"soon\": must be seconds from 0 up, or with a unit: 30, 0.5, 500ms, 2m, 1h (at most a year)".to_owned(),
                "rgun.toml:4: threads is not here: a worker has one thread; use --worker-class gevent for apps that wait, or more --workers".to_owned(),
                "rgun.toml:5: \"server\" is no setting; settings stand at the top of the file, in no table".to_owned(),
                "RGUN_BACKLOG: \"-1\": must be a whole number from 1 to 2147483647".to_owned(),
                "RGUN_CMD_ARGS --keep-alive: \"never\": must be seconds from 0 up, or with a unit: 30, 0.5, 500ms, 2m, 1h (at most a year)".to_owned(),
                "--preload: is not here: the app is loaded in each worker after the fork, so that a reload gets the new code".to_owned(),
                "--workers: \"0\": must be a whole number from 1 to 1024, or auto".to_owned(),
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
        assert!(
            start.mistakes(&["app", "-c", "conf.py"])[0]
                .contains("Python configuration files are not read yet")
        );
        assert!(start.mistakes(&["app", "-c", "python:conf"])[0].contains("rgun.toml"));
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
        assert_eq!(start.config(&["app"]).workers, 3);
        let loaded = start.load(&["app", "--config", "b.toml"]).unwrap();
        assert_eq!(loaded.config.workers, 4);
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
                "command line: \"builtin:helo\": names no built-in app; there are builtin:hello and builtin:echo; did you mean hello?"
            ]
        );
    }

    #[test]
    fn a_program_that_is_the_app_takes_none() {
        let mut start = Start::new();
        start.program.app = AppArgument::None;
        assert_eq!(start.config(&["-w", "2"]).workers, 2);
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
    fn no_sendfile_is_noted_and_ignored() {
        let loaded = Start::new().load(&["app", "--no-sendfile"]).unwrap();
        assert_eq!(
            loaded.notes,
            ["--no-sendfile: does nothing: files are not sent by sendfile(2)"]
        );
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
    fn every_setting_of_gunicorn_that_is_not_here_is_answered() {
        for foreign in FOREIGN {
            let start = Start::new().file(&format!("{} = 1", foreign.name));
            let told = match start.load(&["app"]) {
                Ok(loaded) => loaded.notes,
                Err(_) => start.mistakes(&["app"]),
            };
            assert_eq!(
                told,
                [format!("rgun.toml:1: {} {}", foreign.name, foreign.answer)]
            );
            for flag in foreign.flags {
                let words = match foreign.takes {
                    Takes::Value => vec!["app", flag, "1"],
                    Takes::Nothing | Takes::Optional => vec!["app", flag],
                };
                let told = match Start::new().load(&words) {
                    Ok(loaded) => loaded.notes,
                    Err(_) => Start::new().mistakes(&words),
                };
                assert!(
                    told.len() == 1 && told[0].ends_with(foreign.answer),
                    "{told:?}"
                );
            }
        }
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
            "gthread",
            "eventlet",
            "tornado",
            "uvicorn.workers.UvicornWorker",
            "asgi",
        ] {
            let mistakes = Start::new().mistakes(&["app", "-k", name]);
            assert!(mistakes[0].contains("gevent"), "{mistakes:?}");
        }
        assert!(
            Start::new().mistakes(&["app", "-k", "gevnet"])[0]
                .ends_with("did you mean gevent?")
        );
    }
}
