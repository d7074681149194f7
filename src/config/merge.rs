//! Sources laid over each other; every mistake found on the way is kept.

use std::fmt;
use std::path::{Path, PathBuf};

use super::foreign::{FOREIGN, Foreign};
use super::raw::{Item, Raw};
use super::value::{did_you_mean, nearest};
use super::{Config, SETTINGS, Setting, check, file};

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "rgun.toml";

/// The variable that holds flags.
pub(crate) const CMD_ARGS: &str = "RGUN_CMD_ARGS";

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// An environment variable.
    Variable(String),
    /// The configuration file.
    File {
        /// As it was named.
        path: String,
        /// From 1; 0 is the file as a whole.
        line: usize,
    },
    /// A flag within `RGUN_CMD_ARGS`.
    CommandVariable(String),
    /// A flag.
    Flag(String),
    /// The argument without a flag.
    Argument,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::CommandVariable(flag) => write!(f, "{CMD_ARGS} {flag}"),
            Self::Argument => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was found; nowhere, when something is missing.
    pub source: Option<Source>,
    /// What is wrong, the value and what is allowed.
    pub problem: String,
}

impl Mistake {
    pub(crate) const fn new(source: Source, problem: String) -> Self {
        Self {
            source: Some(source),
            problem,
        }
    }

    pub(super) fn of_file(shown: &str, problem: String) -> Self {
        Self::new(file::at(shown, 0), problem)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{source}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// Which of the two places that have flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `RGUN_CMD_ARGS`.
    CommandVariable,
    /// The command line.
    CommandLine,
}

impl Origin {
    fn source(self, flag: Option<&str>) -> Source {
        let flag = || flag.unwrap_or("APP").to_owned();
        match self {
            Self::CommandVariable => Source::CommandVariable(flag()),
            Self::CommandLine if flag() == "APP" => Source::Argument,
            Self::CommandLine => Source::Flag(flag()),
        }
    }
}

/// What the flags of one place say.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Settings by index into [`SETTINGS`].
    pub(crate) settings: Vec<(usize, Raw)>,
    /// Gunicorn's settings that are not here.
    pub(crate) foreign: Vec<&'static Foreign>,
    /// `--config`.
    pub(crate) file: Option<String>,
}

/// What [`merge`] reads, apart from the file.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// A snapshot of the environment.
    pub(crate) env: &'a [(String, String)],
    /// Relative names are taken from here.
    pub(crate) cwd: &'a Path,
    /// `RGUN_CMD_ARGS`, parsed.
    pub(crate) command_variable: Given,
    /// The command line, parsed.
    pub(crate) command_line: Given,
    /// The program serves the app that it is given; else it is the app.
    pub(crate) takes_app: bool,
}

/// A configuration and where it comes from.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The values.
    pub(crate) config: Config,
    /// For each of [`SETTINGS`].
    pub(crate) sources: Vec<Source>,
    /// What was ignored, for the log.
    pub(crate) notes: Vec<String>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

struct Merge {
    merged: Merged,
    mistakes: Vec<Mistake>,
}

/// Lays the sources over each other and checks the result.
///
/// # Errors
/// Every mistake of every source.
pub(crate) fn merge(inputs: &Inputs<'_>) -> Result<Merged, Vec<Mistake>> {
    let mut merge = Merge {
        merged: Merged {
            config: Config::default(),
            sources: vec![Source::Default; SETTINGS.len()],
            notes: Vec::new(),
            file: None,
        },
        mistakes: Vec::new(),
    };
    merge.platform(inputs.env);
    merge.file(inputs);
    merge.variables(inputs.env);
    merge.flags(&inputs.command_variable, Origin::CommandVariable);
    merge.flags(&inputs.command_line, Origin::CommandLine);
    let Merge {
        mut merged,
        mut mistakes,
    } = merge;
    check::check(&mut merged, inputs, &mut mistakes);
    if mistakes.is_empty() {
        Ok(merged)
    } else {
        Err(mistakes)
    }
}

impl Merge {
    /// The variables that platforms set (Heroku and its kin), as Gunicorn reads them.
    fn platform(&mut self, env: &[(String, String)]) {
        for (variable, name) in [
            ("PORT", "bind"),
            ("WEB_CONCURRENCY", "workers"),
            ("SCRIPT_NAME", "root_path"),
            ("FORWARDED_ALLOW_IPS", "forwarded_allow_ips"),
        ] {
            let Some(value) = variable_of(env, variable) else {
                continue;
            };
            let source = Source::Variable(variable.to_owned());
            if variable != "PORT" {
                self.set_named(name, &Raw::Variable(value.to_owned()), source);
            } else if value.trim().parse::<u16>().is_ok() {
                let bind = format!("0.0.0.0:{}", value.trim());
                self.set_named(name, &Raw::Variable(bind), source);
            } else {
                let problem = format!("{value:?}: must be a port from 0 to 65535");
                self.mistakes.push(Mistake::new(source, problem));
            }
        }
    }

    fn file(&mut self, inputs: &Inputs<'_>) {
        let named = [
            (&inputs.command_line, Source::Flag("--config".to_owned())),
            (
                &inputs.command_variable,
                Source::CommandVariable("--config".to_owned()),
            ),
        ]
        .into_iter()
        .find_map(|(given, source)| given.file.as_deref().map(|name| (name, source)));
        let Some((name, source)) = named else {
            let path = inputs.cwd.join(DEFAULT_FILE);
            match file::read(&path, DEFAULT_FILE) {
                Ok(Some(entries)) => self.entries(entries, DEFAULT_FILE, path),
                Ok(None) => {
                    if inputs.cwd.join("gunicorn.conf.py").exists() {
                        self.merged.notes.push(
                            "gunicorn.conf.py is not read: settings are in rgun.toml here"
                                .to_owned(),
                        );
                    }
                }
                Err(mut mistakes) => self.mistakes.append(&mut mistakes),
            }
            return;
        };
        let name = name.strip_prefix("file:").unwrap_or(name);
        let python = Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "py");
        if python || name.starts_with("python:") {
            let problem = format!(
                "{name:?}: Python configuration files are not read yet; write the settings into a TOML file, such as {DEFAULT_FILE}"
            );
            self.mistakes.push(Mistake::new(source, problem));
            return;
        }
        let path = inputs.cwd.join(name);
        match file::read(&path, name) {
            Ok(Some(entries)) => self.entries(entries, name, path),
            Ok(None) => {
                let problem = format!("{name:?}: there is no such file");
                self.mistakes.push(Mistake::new(source, problem));
            }
            Err(mut mistakes) => self.mistakes.append(&mut mistakes),
        }
    }

    fn entries(&mut self, entries: Vec<file::Entry>, shown: &str, path: PathBuf) {
        self.merged.file = Some(path);
        for file::Entry { key, line, item } in entries {
            let source = file::at(shown, line);
            if let Some(index) = index_of(&key) {
                self.set(index, &Raw::Item(item), source);
            } else if let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == key) {
                self.foreign(foreign, &key, source);
            } else {
                let problem = unknown_key(&key, &item);
                self.mistakes.push(Mistake::new(source, problem));
            }
        }
    }

    fn variables(&mut self, env: &[(String, String)]) {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let variable = setting.variable();
            if let Some(value) = variable_of(env, &variable) {
                let raw = Raw::Variable(value.to_owned());
                self.set(index, &raw, Source::Variable(variable));
            }
        }
        // Others may use the prefix (a service of the name `rgun` in Kubernetes): no mistake, but worth a line.
        for (variable, _) in env {
            let Some(name) = variable.strip_prefix("RGUN_") else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            if let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == name) {
                self.foreign(foreign, "", Source::Variable(variable.clone()));
                continue;
            }
            let near = nearest(&name, SETTINGS.iter().map(|setting| setting.name));
            if let Some(near) =
                near.filter(|near| *near != name && strsim::osa_distance(near, &name) <= 2)
            {
                let near = near.to_ascii_uppercase();
                self.merged.notes.push(format!(
                    "{variable} is no setting and is ignored; did you mean RGUN_{near}?"
                ));
            }
        }
    }

    fn flags(&mut self, given: &Given, origin: Origin) {
        for foreign in &given.foreign {
            let flag = foreign.flags.iter().find(|flag| flag.starts_with("--"));
            let flag = flag.copied().unwrap_or_default();
            self.foreign(foreign, flag, origin.source(Some(flag)));
        }
        for (index, raw) in &given.settings {
            let flag = SETTINGS.get(*index).and_then(Setting::long_flag);
            self.set(*index, raw, origin.source(flag));
        }
    }

    fn foreign(&mut self, foreign: &Foreign, name: &str, source: Source) {
        let said = if matches!(source, Source::File { .. }) {
            format!("{name} ")
        } else {
            String::new()
        };
        let problem = format!("{said}{}", foreign.answer);
        if foreign.refused {
            self.mistakes.push(Mistake::new(source, problem));
        } else {
            self.merged.notes.push(format!("{source}: {problem}"));
        }
    }

    fn set_named(&mut self, name: &str, raw: &Raw, source: Source) {
        if let Some(index) = index_of(name) {
            self.set(index, raw, source);
        }
    }

    fn set(&mut self, index: usize, raw: &Raw, source: Source) {
        let Some(setting) = SETTINGS.get(index) else {
            return;
        };
        if let Err(reason) = (setting.read)(&mut self.merged.config, raw) {
            let in_file = matches!(source, Source::File { .. });
            let key = if in_file {
                format!("{} = ", setting.name)
            } else {
                String::new()
            };
            let problem = format!("{key}{raw}: {reason}");
            self.mistakes.push(Mistake::new(source.clone(), problem));
        }
        if let Some(place) = self.merged.sources.get_mut(index) {
            *place = source;
        }
    }
}

/// A variable that is set and not empty.
fn variable_of<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = env.iter().find(|(variable, _)| variable == name);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

pub(super) fn index_of(name: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.name == name)
}

fn unknown_key(key: &str, item: &Item) -> String {
    let flag = format!("--{}", key.replace('_', "-"));
    let by_flag = SETTINGS
        .iter()
        .find(|setting| setting.flags.contains(&flag.as_str()));
    let near = by_flag
        .map(|setting| setting.name)
        .or_else(|| nearest(key, SETTINGS.iter().map(|setting| setting.name)));
    let what = match item {
        Item::Table(_) if near.is_none() => {
            "is no setting; settings stand at the top of the file, in no table"
        }
        Item::Table(_)
        | Item::Text(_)
        | Item::Number(_)
        | Item::Bool(_)
        | Item::List(_)
        | Item::Other(_) => "is no setting",
    };
    format!("{key:?} {what}{}", did_you_mean(near))
}
