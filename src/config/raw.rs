//! A setting's value before it is read.

use std::borrow::Cow;
use std::fmt::{self, Display};

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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| shortened(word)).collect();
                f.write_str(&words.join(" "))
            }
            Self::Variable(text) => f.write_str(&shortened(text)),
            Self::Item(item) => item.fmt(f),
        }
    }
}

/// A value of the TOML file or the Python file, as far as settings have it.
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
    /// Python's `None`.
    Nothing,
    /// What no setting takes: a date, a function.
    Other(Cow<'static, str>),
}

impl Item {
    pub(super) fn type_name(&self) -> &str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Nothing => "None",
            Self::Other(name) => name,
        }
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&shortened(text)),
            Self::Number(text) => f.write_str(text),
            Self::Bool(switch) => switch.fmt(f),
            Self::List(_) | Self::Table(_) | Self::Nothing | Self::Other(_) => {
                f.write_str(self.type_name())
            }
        }
    }
}

/// `text` in quotes, as far as a message has room for it.
fn shortened(text: &str) -> String {
    const ROOM: usize = 60;
    match text.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or(text)),
        None => format!("{text:?}"),
    }
}

/// The one word that `item` is; a number only where it is `numeric`.
pub(super) fn scalar(item: &Item, numeric: bool) -> Result<String, String> {
    match item {
        Item::Text(text) => Ok(text.clone()),
        Item::Number(text) if numeric => Ok(text.clone()),
        other @ (Item::Number(_)
        | Item::Bool(_)
        | Item::List(_)
        | Item::Table(_)
        | Item::Nothing
        | Item::Other(_)) => {
            let wanted = if numeric {
                "a number or a string"
            } else {
                "a string"
            };
            Err(format!("must be {wanted}, not {}", other.type_name()))
        }
    }
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
