//! Kinds: how a setting's text or TOML becomes its value, in which unit and range, and how it is written back.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::{Item, Raw, quoted, scalar};
use super::value::{AppPath, LogTarget, WorkerRange};

/// How a setting is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without a value: it is there or not.
    Switch,
    /// With one value; the last one counts.
    One,
    /// Likewise; without a value it is `true`.
    Optional,
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

/// On, unless the flag is there, whose name says no.
pub(crate) struct Unless;

impl Kind for Unless {
    type Value = bool;
    const FORM: Form = Form::Switch;

    fn parse(word: &str) -> Result<bool, String> {
        Switch::parse(word)
    }

    fn show(value: &bool) -> String {
        Switch::show(value)
    }

    fn read(raw: &Raw) -> Result<bool, String> {
        let value = Switch::read(raw)?;
        Ok(match raw {
            Raw::Words(_) => !value,
            Raw::Variable(_) | Raw::Item(_) => value,
        })
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
    number
        .filter(|number| (min..=max).contains(number))
        .and_then(|number| number.try_into().ok())
}

fn range(min: u64, max: u64) -> String {
    if max == u64::MAX {
        format!("from {min} up")
    } else {
        format!("from {min} to {max}")
    }
}

/// The number of workers, or `MIN..MAX`: `auto` is two for each CPU and one more, by Gunicorn's advice.
pub(crate) struct Workers;

/// The most workers there may be.
pub(super) const WORKERS_MAX: u64 = 1024;

impl Kind for Workers {
    type Value = WorkerRange;
    const NUMERIC: bool = true;

    fn parse(word: &str) -> Result<WorkerRange, String> {
        let Some((least, most)) = word.split_once("..") else {
            return Self::number(word).map(WorkerRange::fixed);
        };
        let (least, most) = (Self::number(least)?, Self::number(most)?);
        if least > most {
            return Err("has more workers at the least than at the most".to_owned());
        }
        Ok(WorkerRange { least, most })
    }

    fn show(value: &WorkerRange) -> String {
        if value.least == value.most {
            value.to_string()
        } else {
            format!("\"{value}\"")
        }
    }
}

impl Workers {
    fn number(word: &str) -> Result<usize, String> {
        if word.trim().eq_ignore_ascii_case("auto") {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok((2 * cpus + 1).min(usize::try_from(WORKERS_MAX).unwrap_or(usize::MAX)));
        }
        in_range(word.trim().parse().ok(), 1, WORKERS_MAX).ok_or_else(|| {
            let range = range(1, WORKERS_MAX);
            format!("must be a whole number {range}, or auto, or MIN..MAX of these")
        })
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
        let unit = word
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(word.len());
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
        let unit = word
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(word.len());
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
        for (unit, scale) in [
            ("TiB", 1_u64 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ] {
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
        mask.filter(|mask| *mask <= 0o777).ok_or_else(|| {
            "must be an octal mask from 0 to 0o777, such as 0o27 or 027".to_owned()
        })
    }

    fn show(value: &u32) -> String {
        if *value == 0 {
            "0".to_owned()
        } else {
            format!("0o{value:o}")
        }
    }
}

/// Text, as it is.
pub(crate) struct Text;

impl Kind for Text {
    type Value = String;

    fn parse(word: &str) -> Result<String, String> {
        if word.contains('\0') {
            return Err("must not have a zero byte".to_owned());
        }
        Ok(word.to_owned())
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

/// The path of a URL, as requests have it: escaped, without a query.
pub(crate) struct UrlPath;

impl Kind for UrlPath {
    type Value = String;

    fn parse(word: &str) -> Result<String, String> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        if word.starts_with('/') && word.bytes().all(fits) {
            Ok(word.to_owned())
        } else {
            Err(format!("{word:?} is no path of a URL, such as /ready"))
        }
    }

    fn show(value: &String) -> String {
        quoted(value)
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

/// Such a type whose word may be left out: `true` is one of its words.
pub(crate) struct Mode<T>(PhantomData<T>);

impl<T> Kind for Mode<T>
where
    T: std::str::FromStr<Err = String> + Display,
{
    type Value = T;
    const FORM: Form = Form::Optional;

    fn parse(word: &str) -> Result<T, String> {
        word.parse()
    }

    fn show(value: &T) -> String {
        quoted(&value.to_string())
    }

    fn read(raw: &Raw) -> Result<T, String> {
        if let Raw::Item(Item::Bool(switch)) = raw {
            return Self::parse(&switch.to_string());
        }
        <Word<T> as Kind>::read(raw)
    }
}

/// A type that parses and prints itself, and may be a number.
pub(crate) struct Code<T>(PhantomData<T>);

impl<T> Kind for Code<T>
where
    T: std::str::FromStr<Err = String> + Display,
{
    type Value = T;
    const NUMERIC: bool = true;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_fractions() {
        for (text, millis) in [
            ("30", 30_000),
            ("0.5", 500),
            (".5", 500),
            ("500ms", 500),
            ("2m", 120_000),
            ("1 h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(
                Seconds::parse(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "", "-1", "-0", "inf", "nan", "1e300", "5x", "ms", "366000h", "1,5",
        ] {
            assert!(Seconds::parse(text).is_err(), "{text}");
        }
        assert_eq!(Seconds::show(&Duration::from_millis(1500)), "1.5");
    }

    #[test]
    fn sizes_have_units_of_1024() {
        type Size = Bytes<u64, { u64::MAX }>;
        for (text, bytes) in [
            ("0", 0),
            ("8190", 8190),
            ("64k", 65_536),
            ("1MiB", 1 << 20),
            ("1g", 1 << 30),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(Size::parse(text), Ok(bytes), "{text}");
            assert_eq!(Size::parse(Size::show(&bytes).trim_matches('"')), Ok(bytes));
        }
        for text in ["", "-1", "1.5k", "1MB", "99999999999g", "k"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
        assert!(
            Bytes::<usize, 8190>::parse("8k")
                .unwrap_err()
                .contains("from 0 to 8190")
        );
    }

    #[test]
    fn masks_are_octal_or_decimal() {
        for (text, mask) in [
            ("0", 0),
            ("0o27", 0o27),
            ("027", 0o27),
            ("23", 0o27),
            ("0777", 0o777),
        ] {
            assert_eq!(Mask::parse(text), Ok(mask), "{text}");
        }
        for text in ["", "08", "0o", "1000", "01000", "-1", "0x1"] {
            assert!(Mask::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_of_a_url_is_what_a_request_line_can_have() {
        for text in ["/", "/ready", "/a/b-c_d/%20;v=1"] {
            assert_eq!(UrlPath::parse(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "ready",
            "/a b",
            "/a?b",
            "/a#b",
            "/\u{e4}",
            "http://host/",
        ] {
            assert!(UrlPath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn workers_are_a_number_or_auto() {
        assert_eq!(Workers::parse("1024"), Ok(WorkerRange::fixed(1024)));
        assert!(Workers::parse("auto").is_ok_and(|range| range.least >= 3
            && range.least % 2 == 1
            && range.most == range.least));
        let range = WorkerRange { least: 2, most: 8 };
        assert_eq!(Workers::parse("2..8"), Ok(range));
        assert_eq!(Workers::parse(" 2 .. 8 "), Ok(range));
        assert_eq!(
            (Workers::show(&range), Workers::show(&WorkerRange::fixed(3))),
            ("\"2..8\"".to_owned(), "3".to_owned())
        );
        assert!(
            Workers::parse("1..auto").is_ok_and(|range| range.least == 1 && range.most >= 3)
        );
        assert!(
            [
                "0", "1025", "-1", "two", "", "8..2", "0..2", "2..", "..2", "1..1025",
                "1..2..3"
            ]
            .iter()
            .all(|text| Workers::parse(text).is_err())
        );
    }

    #[test]
    fn a_flag_that_says_no_switches_off() {
        let flag = |word: &str| Raw::Words(vec![word.to_owned()]);
        assert_eq!(Unless::read(&flag("true")), Ok(false));
        assert_eq!(Unless::read(&flag("false")), Ok(true));
        assert_eq!(Unless::read(&Raw::Variable("off".to_owned())), Ok(false));
        assert_eq!(Unless::read(&Raw::Item(Item::Bool(true))), Ok(true));
    }

    #[test]
    fn toml_types_are_not_guessed() {
        let number = Raw::Item(Item::Number("1".to_owned()));
        assert!(Switch::read(&number).is_err());
        assert!(File::read(&number).unwrap_err().contains("not a number"));
        assert!(Seconds::read(&Raw::Item(Item::Bool(true))).is_err());
        assert_eq!(Switch::read(&Raw::Item(Item::Bool(true))), Ok(true));
    }
}
