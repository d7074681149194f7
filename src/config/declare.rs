//! The `settings!` macro: from one declaration a field of [`Config`], a flag, a TOML key, a variable and its help.

use super::Config;
use super::kind::Form;
use super::raw::Raw;

/// What a reload (HUP) has to do when a setting has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The master alone uses it, and takes it at once.
    Live,
    /// The new workers have it.
    NewWorkers,
    /// The listeners are made anew, and workers for them.
    Rebind,
    /// It is read at the start only.
    Restart,
}

impl Reload {
    /// As the documentation names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::NewWorkers => "new workers",
            Self::Rebind => "listeners anew",
            Self::Restart => "restart",
        }
    }
}

/// One setting, as declared.
#[derive(Debug)]
pub struct Setting {
    /// Its name: the field, the TOML key, and in capitals after `RGUN_` the variable.
    pub name: &'static str,
    /// Its flags; the first long one stands in messages.
    pub flags: &'static [&'static str],
    /// What the help calls the flag's value.
    pub value_name: &'static str,
    /// How the flag looks.
    pub form: Form,
    /// The heading it stands under.
    pub section: &'static str,
    /// What a reload does with it.
    pub reload: Reload,
    /// The documentation's lines; the first paragraph is the summary.
    pub doc: &'static [&'static str],
    /// Reads it into a configuration. The error continues a sentence that starts with the value.
    pub(crate) read: fn(&mut Config, &Raw) -> Result<(), String>,
    /// Writes it as TOML.
    pub(crate) show: fn(&Config) -> String,
    /// Whether two configurations have the same.
    pub(crate) same: fn(&Config, &Config) -> bool,
}

impl Setting {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("RGUN_{}", self.name.to_ascii_uppercase())
    }

    /// The first long flag; `None` for the app, which is an argument.
    #[must_use]
    pub fn long_flag(&self) -> Option<&'static str> {
        self.flags
            .iter()
            .copied()
            .find(|flag| flag.starts_with("--"))
    }

    /// The default, as TOML.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.show)(&Config::default())
    }

    /// The default as one would type it after the flag; `None` where there is none, and for switches.
    #[must_use]
    pub fn default_word(&self) -> Option<String> {
        let text = self.default_text();
        let word = match text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            Some(list) => list.replace(['"', ' '], ""),
            None => text.trim_matches(['"', '\'']).to_owned(),
        };
        (self.form != Form::Switch && !word.is_empty()).then_some(word)
    }

    /// The documentation as paragraphs.
    #[must_use]
    pub fn paragraphs(&self) -> Vec<String> {
        let mut paragraphs = vec![String::new()];
        for line in self.doc.iter().map(|line| line.trim()) {
            match paragraphs.last_mut() {
                Some(last) if !line.is_empty() => {
                    if !last.is_empty() {
                        last.push(' ');
                    }
                    last.push_str(line);
                }
                _ => paragraphs.push(String::new()),
            }
        }
        paragraphs
    }
}

/// A name without what a keyword of Rust's needs to be one.
pub(super) const fn bare(name: &'static str) -> &'static str {
    if let [b'r', b'#', rest @ ..] = name.as_bytes()
        && let Ok(rest) = std::str::from_utf8(rest)
    {
        return rest;
    }
    name
}

/// Declares every setting once. A declaration reads
///
/// ```text
/// /// The documentation.
/// name: Type as Kind = default, ["-f", "--flag"] VALUE, on_reload NewWorkers;
/// ```
macro_rules! settings {
    ($(
        section $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty as $kind:ty = $default:expr,
                [$($flag:literal),*] $value:ident, on_reload $reload:ident;
            )+
        }
    )+) => {
        /// Every setting's value. Names are Gunicorn's where Gunicorn has the setting.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(
                $(#[doc = $doc])+
                pub $name: $type,
            )+)+
            /// What the interpreter keeps of a Python configuration file.
            pub(crate) script: super::script::Script,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($($name: $default,)+)+
                    script: super::script::Script::default(),
                }
            }
        }

        /// Every setting, in the order of the documentation.
        pub static SETTINGS: &[Setting] = &[
            $($(
                Setting {
                    name: super::declare::bare(stringify!($name)),
                    flags: &[$($flag),*],
                    value_name: stringify!($value),
                    form: <$kind as Kind>::FORM,
                    section: $section,
                    reload: Reload::$reload,
                    doc: &[$($doc),+],
                    read: |config, raw| {
                        config.$name = <$kind as Kind>::read(raw)?;
                        Ok(())
                    },
                    show: |config| <$kind as Kind>::show(&config.$name),
                    same: |a, b| a.$name == b.$name,
                },
            )+)+
        ];
    };
}

pub(super) use settings;
