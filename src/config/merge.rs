//! Sources laid over each other; every mistake found on the way is kept.

use std::fmt;
use std::path::{Path, PathBuf};

use super::foreign::{FOREIGN, Foreign, Verdict};
use super::raw::{Item, Raw};
use super::script::{Evaluate, Evaluated, Place};
use super::value::{did_you_mean, nearest};
use super::{Config, SETTINGS, Setting, check, file, script};

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "rgun.toml";

/// The variable that holds flags.
pub(crate) const CMD_ARGS: &str = "RGUN_CMD_ARGS";

/// Gunicorn's, which counts where ours is not there.
pub(crate) const GUNICORN_CMD_ARGS: &str = "GUNICORN_CMD_ARGS";

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
    /// A flag within `RGUN_CMD_ARGS` or `GUNICORN_CMD_ARGS`: the variable and the flag.
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
            Self::Variable(name) | Self::Flag(name) | Self::CommandVariable(name) => {
                f.write_str(name)
            }
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
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
    /// The variable of this name.
    CommandVariable(&'static str),
    /// The command line.
    CommandLine,
}

impl Origin {
    fn source(self, flag: Option<&str>) -> Source {
        let flag = || flag.unwrap_or("APP").to_owned();
        match self {
            Self::CommandVariable(name) => {
                Source::CommandVariable(format!("{name} {}", flag()))
            }
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
    /// Gunicorn's settings that are not here, and their values.
    pub(crate) foreign: Vec<(&'static Foreign, Item)>,
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
    /// The name of the variable that holds flags.
    pub(crate) variable: &'static str,
    /// What it says.
    pub(crate) command_variable: Given,
    /// The command line, parsed.
    pub(crate) command_line: Given,
    /// The services that listeners may name; where it is `None` they are Python's.
    pub(crate) services: Option<&'a [String]>,
    /// The program serves the app that it is given; else it is the app.
    pub(crate) takes_app: bool,
    /// Who runs a Python file, where somebody does.
    pub(crate) python: Option<&'a dyn Evaluate>,
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
    if let Err(failed) = merge.file(inputs) {
        return Err(vec![failed]);
    }
    merge.variables(inputs.env);
    merge.flags(
        &inputs.command_variable,
        Origin::CommandVariable(inputs.variable),
    );
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
            ("SENDFILE", "sendfile"),
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

    /// # Errors
    /// A Python file raised an exception: nothing else is worth telling then.
    fn file(&mut self, inputs: &Inputs<'_>) -> Result<(), Mistake> {
        let Some((name, source)) = named(inputs) else {
            return self.default_file(inputs);
        };
        match kind(name, inputs.cwd) {
            Kind::Toml => {
                let name = name.strip_prefix("file:").unwrap_or(name);
                let path = inputs.cwd.join(name);
                match file::read(&path, name) {
                    Ok(Some(entries)) => self.entries(entries, name, path),
                    Ok(None) => self.mistakes.push(missing(name, source)),
                    Err(mut mistakes) => self.mistakes.append(&mut mistakes),
                }
            }
            Kind::Python(Place::File(path)) if !path.exists() => {
                self.mistakes.push(missing(name, source));
            }
            Kind::Python(place) => {
                if let Some(python) = inputs.python {
                    return self.script(python, &place, name);
                }
                let problem = format!(
                    "{name:?}: is a Python file, for which there is no interpreter in this program; write the settings into a TOML file, such as {DEFAULT_FILE}"
                );
                self.mistakes.push(Mistake::new(source, problem));
            }
        }
        Ok(())
    }

    /// `./rgun.toml`, else `./gunicorn.conf.py`.
    fn default_file(&mut self, inputs: &Inputs<'_>) -> Result<(), Mistake> {
        let path = inputs.cwd.join(DEFAULT_FILE);
        let script = inputs.cwd.join(script::DEFAULT);
        match (file::read(&path, DEFAULT_FILE), inputs.python) {
            (Ok(Some(entries)), _) => self.entries(entries, DEFAULT_FILE, path),
            (Ok(None), Some(python)) if script.exists() => {
                return self.script(python, &Place::File(script), script::DEFAULT);
            }
            (Ok(None), None) if script.exists() => self.merged.notes.push(format!(
                "{} is not read: there is no interpreter in this program, settings are in {DEFAULT_FILE}",
                script::DEFAULT
            )),
            (Ok(None), _) => {}
            (Err(mut mistakes), _) => self.mistakes.append(&mut mistakes),
        }
        Ok(())
    }

    fn script(
        &mut self,
        python: &dyn Evaluate,
        place: &Place,
        shown: &str,
    ) -> Result<(), Mistake> {
        let shown = shown.strip_prefix("file:").unwrap_or(shown);
        let Evaluated {
            globals,
            mut notes,
            script,
        } = python.evaluate(place).map_err(|traceback| {
            Mistake::of_file(shown, format!("cannot be read\n{traceback}"))
        })?;
        self.merged.notes.append(&mut notes);
        self.merged.config.script = script;
        self.merged.file = Some(match place {
            Place::File(path) => path.clone(),
            Place::Module(_) => PathBuf::from(shown),
        });
        let given: Vec<_> = globals.iter().map(|(name, _)| name.clone()).collect();
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        for (name, item) in globals {
            let source = file::at(shown, 0);
            if let Some(index) = index_of(&name) {
                let raw = SETTINGS
                    .get(index)
                    .and_then(|setting| script::raw(setting, item));
                if let Some(raw) = raw {
                    self.set_as_gunicorn(index, &raw, source);
                }
            } else if let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == name) {
                // The interpreter has it.
                if foreign.verdict != Verdict::Hook && name != "logconfig_dict" {
                    self.foreign(foreign, &item, source);
                }
            } else if let Some(meant) = script::meant(&name, &item, &given) {
                self.merged.notes.push(format!(
                    "{shown}: {name} is no setting and is ignored; did you mean {meant}?"
                ));
            }
        }
        Ok(())
    }

    fn entries(&mut self, entries: Vec<file::Entry>, shown: &str, path: PathBuf) {
        self.merged.file = Some(path);
        for file::Entry { key, line, item } in entries {
            let source = file::at(shown, line);
            if let Some(index) = index_of(&key) {
                self.set(index, &Raw::Item(item), source);
            } else if let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == key) {
                self.foreign(foreign, &item, source);
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
        for (variable, value) in env {
            let Some(name) = variable.strip_prefix("RGUN_") else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            if let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == name) {
                let value = Item::Text(value.clone());
                self.foreign(foreign, &value, Source::Variable(variable.clone()));
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
        for (foreign, value) in &given.foreign {
            let flag = foreign.flags.iter().find(|flag| flag.starts_with("--"));
            self.foreign(foreign, value, origin.source(flag.copied()));
        }
        for (index, raw) in &given.settings {
            let flag = SETTINGS.get(*index).and_then(Setting::long_flag);
            self.set_as_gunicorn(*index, raw, origin.source(flag));
        }
    }

    fn foreign(&mut self, foreign: &'static Foreign, value: &Item, source: Source) {
        let said = if matches!(source, Source::File { .. }) {
            format!("{} ", foreign.name)
        } else {
            String::new()
        };
        let problem = format!("{said}{}", foreign.answer);
        match foreign.weigh(value) {
            Verdict::Obeyed if foreign.name == "default_proc_name" => {
                self.default_name(value, source);
            }
            Verdict::Obeyed => {}
            Verdict::Noted => {
                self.merged.notes.push(format!("{source}: {problem}"));
            }
            Verdict::Refused | Verdict::Hook => {
                self.mistakes.push(Mistake::new(source, problem));
            }
        }
    }

    /// `default_proc_name`: the name for where there is no other.
    fn default_name(&mut self, value: &Item, source: Source) {
        if let Item::Text(name) = value
            && self.merged.config.proc_name.is_none()
        {
            let raw = Raw::Variable(name.clone());
            self.set_named("proc_name", &raw, source);
        }
    }

    fn set_named(&mut self, name: &str, raw: &Raw, source: Source) {
        if let Some(index) = index_of(name) {
            self.set(index, raw, source);
        }
    }

    /// For the places that Gunicorn has, too: what it starts with is no mistake.
    fn set_as_gunicorn(&mut self, index: usize, raw: &Raw, source: Source) {
        let corrected = SETTINGS
            .get(index)
            .and_then(|setting| Some((setting, script::corrected(setting, raw)?)));
        match corrected {
            Some((setting, (value, note))) => {
                let name = match source {
                    Source::File { .. } => format!(" {} =", setting.name),
                    Source::Default
                    | Source::Variable(_)
                    | Source::CommandVariable(_)
                    | Source::Flag(_)
                    | Source::Argument => String::new(),
                };
                self.merged.notes.push(format!("{source}:{name} {note}"));
                self.set(index, &value, source);
            }
            None => self.set(index, raw, source),
        }
    }

    fn set(&mut self, index: usize, raw: &Raw, source: Source) {
        let Some(setting) = SETTINGS.get(index) else {
            return;
        };
        if let Err(reason) = (setting.read)(&mut self.merged.config, raw) {
            let in_file = matches!(source, Source::File { .. });
            let problem = match raw {
                // Of which the type says nothing.
                Raw::Item(Item::List(_) | Item::Table(_)) => {
                    format!("{}: {reason}", setting.name)
                }
                Raw::Item(_) | Raw::Words(_) | Raw::Variable(_) if in_file => {
                    format!("{} = {raw}: {reason}", setting.name)
                }
                Raw::Item(_) | Raw::Words(_) | Raw::Variable(_) => format!("{raw}: {reason}"),
            };
            self.mistakes.push(Mistake::new(source.clone(), problem));
        }
        if let Some(place) = self.merged.sources.get_mut(index) {
            *place = source;
        }
    }
}

/// What `--config` names, in the later of the two places.
fn named<'a>(inputs: &'a Inputs<'_>) -> Option<(&'a str, Source)> {
    let flag = Some("--config");
    [
        (&inputs.command_line, Origin::CommandLine),
        (
            &inputs.command_variable,
            Origin::CommandVariable(inputs.variable),
        ),
    ]
    .into_iter()
    .find_map(|(given, origin)| Some((given.file.as_deref()?, origin.source(flag))))
}

fn missing(name: &str, source: Source) -> Mistake {
    Mistake::new(source, format!("{name:?}: there is no such file"))
}

/// In which language a file is.
enum Kind {
    Toml,
    Python(Place),
}

/// By its ending; where that does not tell, what is no TOML is Python, as with Gunicorn.
fn kind(name: &str, cwd: &Path) -> Kind {
    if let Some(module) = name.strip_prefix("python:") {
        return Kind::Python(Place::Module(module.to_owned()));
    }
    let path = cwd.join(name.strip_prefix("file:").unwrap_or(name));
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    let python = match ending {
        Some("py" | "pyc") => true,
        Some("toml") => false,
        Some(_) | None => {
            std::fs::read_to_string(&path).is_ok_and(|text| file::parse(&text, name).is_err())
        }
    };
    if python {
        Kind::Python(Place::File(path))
    } else {
        Kind::Toml
    }
}

/// Whether the configuration is a Python file, which only an interpreter can read.
pub(crate) fn is_python(inputs: &Inputs<'_>) -> bool {
    match named(inputs) {
        Some((name, _)) => match kind(name, inputs.cwd) {
            Kind::Python(Place::File(path)) => path.exists(),
            Kind::Python(Place::Module(_)) => true,
            Kind::Toml => false,
        },
        None => {
            !inputs.cwd.join(DEFAULT_FILE).exists() && inputs.cwd.join(script::DEFAULT).exists()
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
        | Item::Nothing
        | Item::Other(_) => "is no setting",
    };
    format!("{key:?} {what}{}", did_you_mean(near))
}
