//! The command line: flags made from [`SETTINGS`], and the way from the command line to a configuration.
//!
//! [`load`] is a pure function of its [`Sources`] and the configuration file: a reload calls it again with the same.

pub(crate) mod upgrade;
pub(crate) mod uwsgi;

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{
    self, CMD_ARGS, Config, Evaluate, FOREIGN, Form, GUNICORN_CMD_ARGS, Given, Inputs, Item,
    Merged, Mistake, Raw, SETTINGS, Setting, Source, Takes,
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
    /// The services that listeners may name; where it is `None` they are Python's, by `MODULE:CALLABLE`.
    pub(crate) services: Option<&'static [String]>,
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
    /// Who runs a Python configuration file, where this process is an interpreter.
    pub(crate) python: Option<Rc<dyn Evaluate>>,
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
            python: None,
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
    let inputs = inputs(program, sources)?;
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

/// Whether the configuration is a Python file. A command line that cannot be read names none.
pub(crate) fn wants_python(program: &Program, sources: &Sources) -> bool {
    inputs(program, sources).is_ok_and(|inputs| config::is_python(&inputs))
}

fn inputs<'a>(program: &Program, sources: &'a Sources) -> Result<Inputs<'a>, Outcome> {
    let command = command(program);
    let argv = sources.argv.iter().skip(1).cloned();
    let command_line = parse(command.clone(), argv).map_err(|error| outcome(&error, ""))?;
    let (variable, command_variable) = command_variable(command, &sources.env)?;
    Ok(Inputs {
        env: &sources.env,
        cwd: &sources.cwd,
        variable,
        command_variable,
        command_line,
        services: program.services,
        takes_app: program.app == AppArgument::Required,
        python: sources.python.as_deref(),
    })
}

/// The flags in `RGUN_CMD_ARGS`, or where that is not there, Gunicorn's variable.
fn command_variable(
    command: Command,
    env: &[(String, String)],
) -> Result<(&'static str, Given), Outcome> {
    let found = [CMD_ARGS, GUNICORN_CMD_ARGS]
        .into_iter()
        .find_map(|variable| {
            let (_, text) = env.iter().find(|(name, _)| name == variable)?;
            Some((variable, text))
        });
    let Some((variable, text)) = found else {
        return Ok((CMD_ARGS, Given::default()));
    };
    let words = shlex::split(text).ok_or_else(|| {
        Outcome::Usage(format!(
            "error: {variable} has a quote or backslash without its end\n"
        ))
    })?;
    let given = parse(command, words.into_iter()).map_err(|error| outcome(&error, variable))?;
    Ok((variable, given))
}

fn parse(command: Command, words: impl Iterator<Item = String>) -> Result<Given, clap::Error> {
    command
        .try_get_matches_from(words)
        .map(|matches| given(&matches))
}

fn outcome(error: &clap::Error, place: &str) -> Outcome {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        Outcome::Help(text)
    } else if place.is_empty() {
        Outcome::Usage(text)
    } else {
        Outcome::Usage(format!("in {place}: {text}"))
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
            Form::One | Form::Optional | Form::Many => words(setting.name),
        };
        if !words.is_empty() {
            given.settings.push((index, Raw::Words(words)));
        }
    }
    for foreign in FOREIGN.iter().filter(|foreign| !foreign.flags.is_empty()) {
        let value = match foreign.takes {
            Takes::Nothing if switched(foreign.name) => Item::Bool(true),
            Takes::Nothing => continue,
            Takes::Value if matches.value_source(foreign.name).is_none() => {
                continue;
            }
            Takes::Value => match words(foreign.name).pop() {
                Some(word) => Item::Text(word),
                None => Item::Bool(true),
            },
        };
        given.foreign.push((foreign, value));
    }
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
                .help("The file with settings, TOML or Python; without it ./rgun.toml, else ./gunicorn.conf.py")
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
        Form::Optional => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .default_missing_value("true"),
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
         Settings, the later over the earlier: defaults, the file (-c FILE, else ./rgun.toml, else ./gunicorn.conf.py), \
         variables such as RGUN_WORKERS, flags in RGUN_CMD_ARGS (or GUNICORN_CMD_ARGS), flags. `{name} --print-config{app}` shows what is in force, and where it \
         comes from. PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS change defaults.\n\n\
         `{name} upgrade --pidfile FILE` replaces a running server by a new start of its command line, without losing a \
         request: `{name} upgrade --help`. `{name} uwsgi get ADDRESS PATH` sends one request by the uwsgi protocol: `{name} uwsgi \
         --help`.\n\n\
         Signals to the master: TERM finishes requests and ends, INT and QUIT end at once, HUP reloads configuration and \
         code, USR1 opens the logs anew, USR2 starts a new binary on the same sockets, TTIN and TTOU add and take a \
         worker.\n\n\
         Exit codes: 0 done, 1 configuration or address, 2 command line, 3 a worker could not boot, 4 the app could not \
         be loaded."
    )
}

#[cfg(test)]
mod tests;
