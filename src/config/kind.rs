//! Kinds: how a setting's text or TOML becomes its value, in which unit and range, and how it is written back.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{AppPath, LogTarget};

/// A setting's value as its source has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// From a flag; one that was repeated has several.
    Words(Vec<String>),
    /// From an environment variable.
    Variable(String),
    /// From the file.
    Item(Item),
}

impl Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Words(words) => f.write_str(&words.join(" ")),
            Self::Variable(text) => f.write_str(text),
            Self::Item(item) => item.fmt(f),
        }
    }
}

/// A value of the TOML file, as far as settings have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A string.
    Text(String),
    /// An integer or a float, in decimal.
    Number(String),
    /// `true`, `false`.
    Bool(bool),
    /// An array.
    List(Vec<Item>),
    /// A table, inline or not.
    Table(Vec<(String, Item)>),
    /// What no setting takes: a date.
    Other(&'static str),
}

impl Item {
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) | Self::Number(text) => f.write_str(text),
            Self::Bool(switch) => switch.fmt(f),
            Self::List(_) | Self::Table(_) | Self::Other(_) => f.write_str(self.type_name()),
        }
    }
}

/// How a setting is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without a value: it is there or not.
    Switch,
    /// With one value; the last one counts.
    One,
    /// With a value, repeated.
    Many,
}

/// How one setting is read and written.
pub(crate) trait Kind {
    /// What `Config` holds.
    type Value;
    /// How its flag looks.
    const FORM: Form = Form::One;
    /// Whether a TOML number does.
    const NUMERIC: bool = false;

    /// From one word. The error continues a sentence that starts with the value: `must be …`.
    fn parse(word: &str) -> Result<Self::Value, String>;

    /// As TOML.
    fn show(value: &Self::Value) -> String;

    /// From whatever the source gave.
    fn read(raw: &Raw) -> Result<Self::Value, String> {
        match raw {
            Raw::Words(words) => Self::parse(words.last().map_or("", String::as_str)),
            Raw::Variable(text) => Self::parse(text),
            Raw::Item(item) => Self::parse(&scalar(item, Self::NUMERIC)?),
        }
    }
}

fn scalar(item: &Item, numeric: bool) -> Result<String, String> {
    match item {
        Item::Text(text) => Ok(text.clone()),
        Item::Number(text) if numeric => Ok(text.clone()),
        other @ (Item::Number(_)
        | Item::Bool(_)
        | Item::List(_)
        | Item::Table(_)
        | Item::Other(_)) => {
            let wanted = if numeric { "a number or a string" } else { "a string" };
            Err(format!("must be {wanted}, not {}", other.type_name()))
        }
    }
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// On or off.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;
    const FORM: Form = Form::Switch;

    fn parse(word: &str) -> Result<bool, String> {
        match word.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }

    fn read(raw: &Raw) -> Result<bool, String> {
        match raw {
            Raw::Words(words) => Self::parse(words.last().map_or("", String::as_str)),
            Raw::Variable(text) => Self::parse(text),
            Raw::Item(Item::Bool(value)) => Ok(*value),
            Raw::Item(other) => {
                Err(format!("must be true or false, not {}", other.type_name()))
            }
        }
    }
}

/// A whole number from `MIN` to `MAX`.
pub(crate) struct Whole<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T, const MIN: u64, const MAX: u64> Kind for Whole<T, MIN, MAX>
where
    T: TryFrom<u64> + Display,
{
    type Value = T;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<T, String> {
        in_range(word.trim().parse().ok(), MIN, MAX)
            .ok_or_else(|| format!("must be a whole number {}", range(MIN, MAX)))
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

fn in_range<T: TryFrom<u64>>(number: Option<u64>, min: u64, max: u64) -> Option<T> {
    number.filter(|number| (min..=max).contains(number)).and_then(|number| number.try_into().ok())
}

fn range(min: u64, max: u64) -> String {
    if max == u64::MAX { format!("from {min} up") } else { format!("from {min} to {max}") }
}

/// The number of workers: `auto` is two for each CPU and one more, by Gunicorn's advice.
pub(crate) struct Workers;

/// The most workers there may be.
pub(super) const WORKERS_MAX: u64 = 1024;

impl Kind for Workers {
    type Value = usize;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<usize, String> {
        if word.trim().eq_ignore_ascii_case("auto") {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok((2 * cpus + 1).min(usize::try_from(WORKERS_MAX).unwrap_or(usize::MAX)));
        }
        in_range(word.trim().parse().ok(), 1, WORKERS_MAX)
            .ok_or_else(|| format!("must be a whole number {}, or auto", range(1, WORKERS_MAX)))
    }

    fn show(value: &usize) -> String {
        value.to_string()
    }
}

/// A time span; a bare number is seconds.
pub(crate) struct Seconds;

/// The longest time span: a year.
const LONGEST: f64 = 365.0 * 86_400.0;

impl Kind for Seconds {
    type Value = Duration;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<Duration, String> {
        let word = word.trim();
        let unit = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (number, unit) = word.split_at(unit);
        let scale = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => 0.0,
        };
        // A leading digit keeps `inf`, `-0` and the like out; the filter keeps what is too long out.
        number
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|_| number.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
            .map(|number| number * scale)
            .filter(|seconds| scale > 0.0 && *seconds <= LONGEST)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| {
                "must be seconds from 0 up, or with a unit: 30, 0.5, 500ms, 2m, 1h (at most a year)"
                    .to_owned()
            })
    }

    fn show(value: &Duration) -> String {
        if value.subsec_nanos() == 0 {
            value.as_secs().to_string()
        } else {
            value.as_secs_f64().to_string()
        }
    }
}

/// A size in bytes, at most `MAX`; units are powers of 1024.
pub(crate) struct Bytes<T, const MAX: u64>(PhantomData<T>);

impl<T, const MAX: u64> Kind for Bytes<T, MAX>
where
    T: TryFrom<u64> + Copy,
    u64: TryFrom<T>,
{
    type Value = T;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<T, String> {
        let word = word.trim();
        let unit = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (number, unit) = word.split_at(unit);
        let scale = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kib" => Some(1 << 10),
            "m" | "mib" => Some(1 << 20),
            "g" | "gib" => Some(1 << 30),
            "t" | "tib" => Some(1_u64 << 40),
            _ => None,
        };
        let bytes = number
            .trim()
            .parse::<u64>()
            .ok()
            .zip(scale)
            .and_then(|(number, scale)| number.checked_mul(scale));
        in_range(bytes, 0, MAX).ok_or_else(|| {
            format!(
                "must be bytes {}, or with a unit of 1024s: 8190, 64k, 1MiB, 1GiB",
                range(0, MAX)
            )
        })
    }

    fn show(value: &T) -> String {
        let bytes = u64::try_from(*value).unwrap_or(u64::MAX);
        for (unit, scale) in
            [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        {
            if bytes >= scale && bytes.is_multiple_of(scale) {
                return quoted(&format!("{}{unit}", bytes / scale));
            }
        }
        bytes.to_string()
    }
}

/// A file mode's mask: `0o27`, `027` and decimal `23` are the same (Gunicorn: `auto_int`).
pub(crate) struct Mask;

impl Kind for Mask {
    type Value = u32;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<u32, String> {
        let word = word.trim();
        let digits = word.strip_prefix("0o").or_else(|| word.strip_prefix("0O"));
        let mask = match (digits, word.strip_prefix('0')) {
            (Some(octal), _) => u32::from_str_radix(octal, 8).ok(),
            (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
            _ => word.parse().ok(),
        };
        mask.filter(|mask| *mask <= 0o777)
            .ok_or_else(|| "must be an octal mask from 0 to 0o777, such as 0o27 or 027".to_owned())
    }

    fn show(value: &u32) -> String {
        if *value == 0 { "0".to_owned() } else { format!("0o{value:o}") }
    }
}

/// Text, as it is.
pub(crate) struct Text;

impl Kind for Text {
    type Value = String;

    fn parse(word: &str) -> Result<String, String> {
        match word.contains('\0') {
            true => Err("must not have a zero byte".to_owned()),
            false => Ok(word.to_owned()),
        }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A file's or directory's path.
pub(crate) struct File;

impl Kind for File {
    type Value = PathBuf;

    fn parse(word: &str) -> Result<PathBuf, String> {
        match word {
            "" => Err("must be a path".to_owned()),
            word => Text::parse(word).map(PathBuf::from),
        }
    }

    fn show(value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }
}

/// A user's or group's name or number.
pub(crate) struct Account;

impl Kind for Account {
    type Value = String;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<String, String> {
        Text::parse(word.trim())
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A request header's name, as in WSGI: upper case, with underscores or hyphens.
pub(crate) struct HeaderName;

impl Kind for HeaderName {
    type Value = String;

    fn parse(word: &str) -> Result<String, String> {
        let name = word.trim().to_ascii_uppercase();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !name.is_empty() && name.chars().all(token) {
            Ok(name)
        } else {
            Err(format!("{word:?} is no header's name"))
        }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A type that parses and prints itself.
pub(crate) struct Word<T>(PhantomData<T>);

impl<T> Kind for Word<T>
where
    T: std::str::FromStr<Err = String> + Display,
{
    type Value = T;

    fn parse(word: &str) -> Result<T, String> {
        word.parse()
    }

    fn show(value: &T) -> String {
        quoted(&value.to_string())
    }
}

/// The app's path.
pub(crate) type App = Word<AppPath>;

/// A log's destination.
pub(crate) type Log = Word<LogTarget>;

/// Comma separated networks, or a TOML array of them.
pub(crate) struct Networks;

impl Kind for Networks {
    type Value = super::value::AllowList;

    fn parse(word: &str) -> Result<Self::Value, String> {
        word.parse()
    }

    fn show(value: &Self::Value) -> String {
        quoted(&value.to_string())
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        match raw {
            Raw::Words(words) => Self::parse(&words.join(",")),
            Raw::Variable(text) => Self::parse(text),
            Raw::Item(Item::List(items)) => {
                let words: Result<Vec<_>, _> =
                    items.iter().map(|item| scalar(item, false)).collect();
                Self::parse(&words?.join(","))
            }
            Raw::Item(item) => Self::parse(&scalar(item, false)?),
        }
    }
}

/// What may be absent: an empty text is `None`.
pub(crate) struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const NUMERIC: bool = K::NUMERIC;

    fn parse(word: &str) -> Result<Self::Value, String> {
        if word.is_empty() { Ok(None) } else { K::parse(word).map(Some) }
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "\"\"".to_owned(), K::show)
    }
}

/// Several of a kind: the flag repeated, commas within a text, or a TOML array (whose strings keep their commas).
pub(crate) struct Many<K>(PhantomData<K>);

impl<K: Kind> Kind for Many<K> {
    type Value = Vec<K::Value>;
    const FORM: Form = Form::Many;

    fn parse(word: &str) -> Result<Self::Value, String> {
        word.split(',').map(str::trim).filter(|word| !word.is_empty()).map(K::parse).collect()
    }

    fn show(value: &Self::Value) -> String {
        let shown: Vec<_> = value.iter().map(K::show).collect();
        format!("[{}]", shown.join(", "))
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        match raw {
            Raw::Variable(text) => Self::parse(text),
            Raw::Words(words) => {
                let mut all = Vec::new();
                for word in words {
                    all.append(&mut Self::parse(word)?);
                }
                Ok(all)
            }
            Raw::Item(Item::List(items)) => items
                .iter()
                .map(|item| K::read(&Raw::Item(item.clone())))
                .collect(),
            Raw::Item(Item::Text(text)) => Self::parse(text),
            Raw::Item(other) => Err(format!(
                "must be an array of strings, not {}",
                other.type_name()
            )),
        }
    }
}

/// `NAME=VALUE` pairs; in TOML a table or an array of them, in a variable words as a shell has them. `K` reads the
/// name.
pub(crate) struct Pairs<K>(PhantomData<K>);

impl<K: Kind<Value = String>> Pairs<K> {
    fn pair(word: &str) -> Result<(String, String), String> {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| format!("{word:?} must be NAME=VALUE"))?;
        Ok((K::parse(name)?, Text::parse(value)?))
    }
}

impl<K: Kind<Value = String>> Kind for Pairs<K> {
    type Value = Vec<(String, String)>;
    const FORM: Form = Form::Many;

    fn parse(word: &str) -> Result<Self::Value, String> {
        Ok(vec![Self::pair(word)?])
    }

    fn show(value: &Self::Value) -> String {
        let shown: Vec<_> =
            value.iter().map(|(name, value)| quoted(&format!("{name}={value}"))).collect();
        format!("[{}]", shown.join(", "))
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        match raw {
            Raw::Words(words) => words.iter().map(|word| Self::pair(word)).collect(),
            Raw::Variable(text) => shlex::split(text)
                .ok_or("must be NAME=VALUE words, its quotes closed")?
                .iter()
                .map(|word| Self::pair(word))
                .collect(),
            Raw::Item(Item::List(items)) => {
                items.iter().map(|item| Self::pair(&scalar(item, false)?)).collect()
            }
            Raw::Item(Item::Table(pairs)) => pairs
                .iter()
                .map(|(name, item)| Ok((K::parse(name)?, scalar(item, true)?)))
                .collect(),
            Raw::Item(Item::Text(text)) => Self::parse(text),
            Raw::Item(other) => Err(format!(
                "must be an array of \"NAME=VALUE\" or a table, not {}",
                other.type_name()
            )),
        }
    }
}
