//! The Python configuration file (`gunicorn.conf.py`), as far as it is not Python: which file it is, who runs it, and how
//! what it leaves becomes settings, by Gunicorn's rules.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use super::SETTINGS;
use super::declare::Setting;
use super::foreign::FOREIGN;
use super::kind::Form;
use super::raw::{Item, Raw};
use super::value::{LogLevel, WorkerClass, did_you_mean, nearest};
#[cfg(feature = "python")]
use super::{Config, file};

/// Gunicorn's default (`config.get_default_config_file`).
pub(super) const DEFAULT: &str = "gunicorn.conf.py";

/// Where a Python configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `PATH`, `file:PATH`.
    File(PathBuf),
    /// `python:MODULE`.
    Module(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Module(name) => write!(f, "python:{name}"),
        }
    }
}

/// Runs Python configuration files. There is one in an interpreter only.
pub(crate) trait Evaluate: fmt::Debug {
    /// Runs what is at `place`.
    ///
    /// # Errors
    /// Its traceback.
    fn evaluate(&self, place: &Place) -> Result<Evaluated, String>;
}

/// What a Python configuration file leaves.
#[derive(Debug)]
pub(crate) struct Evaluated {
    /// Its globals, without modules, classes and private names.
    pub(crate) globals: Vec<(String, Item)>,
    /// What the log is to be told.
    pub(crate) notes: Vec<String>,
    /// What only the interpreter understands.
    pub(crate) script: Script,
}

/// What the interpreter keeps of a Python configuration file (its server hooks) for as long as a configuration that came
/// from it is in use.
#[derive(Clone, Default)]
pub(crate) struct Script(Option<Rc<dyn Any>>);

impl Script {
    /// Keeps `what`.
    #[cfg(feature = "python")]
    pub(crate) fn new(what: impl Any) -> Self {
        Self(Some(Rc::new(what)))
    }

    /// What is kept, if it is a `T`.
    #[cfg(feature = "python")]
    pub(crate) fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_deref().and_then(<dyn Any>::downcast_ref)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Script" } else { "None" })
    }
}

/// A Python value as `setting` is to read it; `None` leaves the setting as it is.
pub(super) fn raw(setting: &Setting, item: Item) -> Option<Raw> {
    match (setting.form, item) {
        (_, Item::Nothing) => None,
        // Gunicorn: `validate_bool` takes strings, `validate_pos_int` booleans.
        (Form::Switch, Item::Text(text)) => Some(Raw::Variable(text)),
        (Form::One, Item::Bool(switch)) => {
            Some(Raw::Item(Item::Number(u8::from(switch).to_string())))
        }
        (_, item) => Some(Raw::Item(item)),
    }
}

/// What Gunicorn takes for another value without a word, we take with a note: the value to read, and the note.
pub(super) fn corrected(setting: &Setting, raw: &Raw) -> Option<(Raw, String)> {
    let word = match raw {
        Raw::Words(words) => words.last()?.as_str(),
        Raw::Variable(text) | Raw::Item(Item::Text(text) | Item::Number(text)) => text,
        Raw::Item(_) => return None,
    };
    let is = |text: &str, why: &str| {
        Some((
            Raw::Variable(text.to_owned()),
            format!("{raw} {why} {text} counts, as in Gunicorn"),
        ))
    };
    let number = word.trim().parse::<u64>().ok();
    match (setting.name, number) {
        // Gunicorn: `glogging.Logger.setup`.
        ("loglevel", None) if word.parse::<LogLevel>().is_err() => {
            let near = did_you_mean(nearest(word, LogLevel::NAMES.iter().copied()));
            let (value, note) = is("info", "is no level:")?;
            Some((value, format!("{note}{near}")))
        }
        // A class of somebody's own. Those that are known not to do say so in other words.
        ("worker_class", None) if word.contains('.') => {
            let unknown = word.parse::<WorkerClass>().err()?;
            unknown.starts_with("must be one of").then(|| {
                let note = format!("{raw} is no class of ours and is not run: auto counts");
                (Raw::Variable("auto".to_owned()), note)
            })
        }
        // Gunicorn: `http.message.Request`, `Message`.
        ("limit_request_line", Some(8191..)) => is("8190", "is too much:"),
        ("limit_request_fields", Some(0 | 32_769..)) => is("32768", "is not possible:"),
        _ => None,
    }
}

/// The setting that `name` may have been meant to be, where the file does not set that one itself.
pub(super) fn meant(name: &str, item: &Item, given: &[&str]) -> Option<&'static str> {
    const SHORT: usize = 6;
    let flag = format!("--{}", name.replace('_', "-"));
    let function = matches!(item, Item::Other(what) if what == FUNCTION);
    let ours = SETTINGS.iter().filter(|_| !function);
    let by_flag = ours
        .clone()
        .find(|setting| setting.flags.contains(&flag.as_str()))
        .map(|setting| setting.name);
    let hook = |name: &str| super::foreign::is_hook(name) == function;
    let by_name = || {
        let foreign = FOREIGN
            .iter()
            .map(|foreign| foreign.name)
            .filter(|name| hook(name));
        let names = ours.map(|setting| setting.name).chain(foreign);
        let within = if name.len() < SHORT { 1 } else { 2 };
        names
            .map(|known| (strsim::osa_distance(known, name), known))
            .filter(|(distance, _)| *distance <= within)
            .min()
            .map(|(_, known)| known)
    };
    by_flag
        .filter(|_| name.len() >= SHORT)
        .or_else(by_name)
        .filter(|meant| !given.contains(meant))
}

#[cfg(feature = "python")]
impl Config {
    /// Every setting's value.
    pub(crate) fn values(&self) -> Vec<(&'static str, Item)> {
        let shown = |setting: &'static Setting| (setting.name, (setting.show)(self));
        SETTINGS.iter().map(shown).filter_map(read).collect()
    }
}

/// The defaults of Gunicorn's settings that are not here.
#[cfg(feature = "python")]
pub(crate) fn foreign_values() -> Vec<(&'static str, Item)> {
    let settings = FOREIGN
        .iter()
        .filter(|foreign| !super::foreign::is_hook(foreign.name));
    settings
        .filter_map(|foreign| match foreign.default {
            "" => Some((foreign.name, Item::Nothing)),
            text => read((foreign.name, text.to_owned())),
        })
        .collect()
}

#[cfg(feature = "python")]
fn read((name, text): (&'static str, String)) -> Option<(&'static str, Item)> {
    let entries = file::parse(&format!("{name} = {text}"), name).ok()?;
    Some((name, entries.into_iter().next()?.item))
}

/// How a function is called among the values that no setting takes.
pub(crate) const FUNCTION: &str = "a function";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_a_setting_is_found_unless_that_is_there_too() {
        let text = Item::Text("x".to_owned());
        let function = Item::Other(FUNCTION.into());
        assert_eq!(meant("wokers", &text, &[]), Some("workers"));
        assert_eq!(meant("keep_alive", &text, &[]), Some("keepalive"));
        assert_eq!(meant("preload", &text, &[]), Some("preload_app"));
        assert_eq!(meant("log_level", &text, &["loglevel"]), None);
        assert_eq!(meant("cert_file", &text, &[]), Some("certfile"));
        assert_eq!(meant("post_forc", &function, &[]), Some("post_fork"));
        for helper in ["port", "host", "name", "env", "cores", "debug", "base_dir"] {
            assert_eq!(meant(helper, &text, &[]), None, "{helper}");
        }
        assert_eq!(meant("timeouts", &function, &[]), None);
    }
}
