//! `PREFIX=DIRECTORY`: what is served under which path.

use std::path::PathBuf;

use super::kind::{File, Form, Kind, UrlPath};
use super::list::Pairs;
use super::raw::{Raw, quoted};

/// Directories and the paths that they are served under: `/assets=./public`; in TOML a table or an array.
pub(crate) struct Mounted;

impl Kind for Mounted {
    type Value = Vec<(String, PathBuf)>;
    const FORM: Form = Form::Many;

    fn parse(word: &str) -> Result<Self::Value, String> {
        Self::of(Pairs::<UrlPath>::parse(word)?)
    }

    fn show(value: &Self::Value) -> String {
        let shown: Vec<_> = value
            .iter()
            .map(|(prefix, directory)| quoted(&format!("{prefix}={}", directory.display())))
            .collect();
        format!("[{}]", shown.join(", "))
    }

    fn read(raw: &Raw) -> Result<Self::Value, String> {
        Self::of(Pairs::<UrlPath>::read(raw)?)
    }
}

impl Mounted {
    fn of(pairs: Vec<(String, String)>) -> Result<Vec<(String, PathBuf)>, String> {
        let pairs = pairs.into_iter();
        pairs
            .map(|(prefix, directory)| Ok((prefix, File::parse(&directory)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::Item;
    use super::*;

    #[test]
    fn a_mount_is_a_path_of_a_url_and_a_directory() {
        let expected = Ok(vec![("/assets".to_owned(), PathBuf::from("./public"))]);
        assert_eq!(Mounted::parse("/assets=./public"), expected);
        let directory = Item::Text("./public".to_owned());
        let table = Item::Table(vec![("/assets".to_owned(), directory)]);
        assert_eq!(Mounted::read(&Raw::Item(table)), expected);
        for word in [
            "assets=./public",
            "/assets",
            "/assets=",
            "./public",
            "/a b=.",
        ] {
            assert!(Mounted::parse(word).is_err(), "{word}");
        }
    }
}
