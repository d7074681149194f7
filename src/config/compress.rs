//! `--compress`: which algorithms, or on or off.

use super::kind::{Form, Kind, Word};
use super::list::Many;
use super::raw::{Item, Raw};
use super::value::Algorithm;

/// Algorithms; `on` is all of them, `off` none.
pub(crate) struct Algorithms;

impl Algorithms {
    fn word(word: &str) -> Option<Vec<Algorithm>> {
        match word.trim().to_ascii_lowercase().as_str() {
            "on" | "true" => Some(Algorithm::ALL.to_vec()),
            "" | "off" | "false" => Some(Vec::new()),
            _ => None,
        }
    }
}

impl Kind for Algorithms {
    type Value = Vec<Algorithm>;
    const FORM: Form = Form::Many;

    fn parse(word: &str) -> Result<Self::Value, String> {
        Self::word(word).map_or_else(|| Many::<Word<Algorithm>>::parse(word), Ok)
    }

    fn show(value: &Self::Value) -> String {
        Many::<Word<Algorithm>>::show(value)
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        let known = match raw {
            Raw::Words(words) => match words.as_slice() {
                [word] => Self::word(word),
                _ => None,
            },
            Raw::Variable(text) | Raw::Item(Item::Text(text)) => Self::word(text),
            Raw::Item(Item::Bool(switch)) => Self::word(&switch.to_string()),
            Raw::Item(_) => None,
        };
        known.map_or_else(|| Many::<Word<Algorithm>>::read(raw), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_is_all_and_off_is_none() {
        let all = Ok(Algorithm::ALL.to_vec());
        assert_eq!(Algorithms::parse("on"), all);
        assert_eq!(Algorithms::read(&Raw::Item(Item::Bool(true))), all);
        assert_eq!(Algorithms::parse("br,zstd,gzip"), all);
        assert_eq!(Algorithms::parse("OFF"), Ok(Vec::new()));
        let words = Raw::Words(vec!["gzip".to_owned(), "br".to_owned()]);
        assert_eq!(
            Algorithms::read(&words),
            Ok(vec![Algorithm::Gzip, Algorithm::Brotli])
        );
        assert!(Algorithms::parse("deflate").is_err());
    }
}
