//! The TOML file: keys with their lines, and every error of its syntax at once.

use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::merge::{Mistake, Source};
use super::raw::Item;

/// One key of the file.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key, as written.
    pub(super) key: String,
    /// Its line, from 1.
    pub(super) line: usize,
    /// Its value.
    pub(super) item: Item,
}

/// Reads `path`, which messages call `shown`; `None` where it is not there.
pub(super) fn read(path: &Path, shown: &str) -> Result<Option<Vec<Entry>>, Vec<Mistake>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(vec![Mistake::of_file(
                shown,
                format!("cannot be read: {error}"),
            )]);
        }
    };
    match String::from_utf8(text) {
        Ok(text) => parse(&text, shown).map(Some),
        Err(error) => {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            Err(vec![Mistake::new(
                at(shown, line),
                "is not UTF-8 text".to_owned(),
            )])
        }
    }
}

pub(super) fn parse(text: &str, shown: &str) -> Result<Vec<Entry>, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|error| {
                let line = line_of(text.as_bytes(), error.span().map_or(0, |span| span.start));
                let message = error.message().replace('\n', "; ");
                Mistake::new(at(shown, line), format!("is not TOML: {message}"))
            })
            .collect());
    }
    let mut entries: Vec<_> = table
        .get_ref()
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            line: line_of(text.as_bytes(), key.span().start),
            item: item(value.get_ref()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

pub(super) fn at(shown: &str, line: usize) -> Source {
    Source::File {
        path: shown.to_owned(),
        line,
    }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + memchr::memchr_iter(b'\n', before).count()
}

fn item(value: &DeValue<'_>) -> Item {
    match value {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Integer(number) => {
            // What does not fit stays as written, and no number accepts it.
            let digits = number.as_str();
            let decimal = i128::from_str_radix(digits, number.radix());
            Item::Number(
                decimal.map_or_else(|_| digits.to_owned(), |number| number.to_string()),
            )
        }
        DeValue::Float(number) => Item::Number(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Item::Bool(*switch),
        DeValue::Datetime(_) => Item::Other("a date".into()),
        DeValue::Array(items) => {
            Item::List(items.iter().map(|value| item(value.get_ref())).collect())
        }
        DeValue::Table(table) => Item::Table(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), item(value.get_ref())))
                .collect(),
        ),
    }
}
