//! Kinds made of other kinds: what may be absent, and lists.

use std::marker::PhantomData;

use super::kind::{Form, Kind, Text};
use super::raw::{Item, Raw, quoted, scalar};

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
        if word.is_empty() {
            Ok(None)
        } else {
            K::parse(word).map(Some)
        }
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "\"\"".to_owned(), K::show)
    }
}

/// A listener: its text, or a table of the file.
pub(crate) struct Listening;

impl Kind for Listening {
    type Value = super::bind::Bind;

    fn parse(word: &str) -> Result<Self::Value, String> {
        word.parse()
    }

    fn show(value: &Self::Value) -> String {
        quoted(&value.to_string())
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        match raw {
            Raw::Item(Item::Table(table)) => super::bind::Bind::of_table(table),
            Raw::Item(item) => Self::parse(&scalar(item, false)?),
            Raw::Words(words) => Self::parse(words.last().map_or("", String::as_str)),
            Raw::Variable(text) => Self::parse(text),
        }
    }
}

/// Several of a kind: the flag repeated, commas within a text, or a TOML array (whose strings keep their commas).
pub(crate) struct Many<K>(PhantomData<K>);

impl<K: Kind> Kind for Many<K> {
    type Value = Vec<K::Value>;
    const FORM: Form = Form::Many;

    fn parse(word: &str) -> Result<Self::Value, String> {
        word.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(K::parse)
            .collect()
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
            // `[bind]` for the only `[[bind]]`.
            Raw::Item(Item::Table(_)) => K::read(raw).map(|one| vec![one]),
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
        let shown: Vec<_> = value
            .iter()
            .map(|(name, value)| quoted(&format!("{name}={value}")))
            .collect();
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
            Raw::Item(Item::List(items)) => items
                .iter()
                .map(|item| Self::pair(&scalar(item, false)?))
                .collect(),
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

#[cfg(test)]
mod tests {
    use super::super::kind::{File, HeaderName};
    use super::*;

    #[test]
    fn an_empty_text_is_none_and_a_number_no_list() {
        assert_eq!(
            Maybe::<File>::read(&Raw::Item(Item::Text(String::new()))),
            Ok(None)
        );
        assert!(Many::<Text>::read(&Raw::Item(Item::Number("1".to_owned()))).is_err());
    }

    #[test]
    fn pairs_are_words_tables_or_arrays() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = |text: &str| Item::Text(text.to_owned());
        let expected = Ok(vec![pair("A", "1=2"), pair("B", "x y")]);
        let variable = Raw::Variable("A=1=2 'B=x y'".to_owned());
        assert_eq!(Pairs::<Text>::read(&variable), expected);
        let list = Raw::Item(Item::List(vec![text("A=1=2"), text("B=x y")]));
        assert_eq!(Pairs::<Text>::read(&list), expected);
        let table = vec![("A".to_owned(), text("1=2")), ("B".to_owned(), text("x y"))];
        assert_eq!(
            Pairs::<Text>::read(&Raw::Item(Item::Table(table))),
            expected
        );
        for word in ["A", "=1", "'A=1"] {
            assert!(Pairs::<Text>::read(&Raw::Variable(word.to_owned())).is_err());
        }
        assert_eq!(
            Pairs::<HeaderName>::parse("x-ssl=on"),
            Ok(vec![pair("X-SSL", "on")])
        );
        assert!(Pairs::<HeaderName>::parse("x ssl=on").is_err());
    }
}
