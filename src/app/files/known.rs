//! Answers that the library has given, for requests that it would answer in the same way.
//!
//! What it says of a whole file follows from the path that is asked for, from the encodings that the client takes, and from
//! what stands at the names that it looks for. For each such request the server looks for the same names again; where all of
//! them are as they were, the answer's head is, too, and the library need not make it anew. Nothing here grows old: a file
//! that was replaced, or a compressed one that has come beside it, is another finding.
//!
//! Requests that a worker serves in one turn had all come when the turn began: they share what was opened for the first of
//! them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, HeaderMap, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderValue, Method, Response, StatusCode, request};

use super::root::Root;
use crate::app::{FileBody, FileRange};
use crate::files::{Patience, Standing};

/// So many paths are remembered; then they are forgotten, for whoever asks for one file under many names.
const PATHS: usize = 512;
/// So many kinds of clients of each.
const KINDS: usize = 4;
/// No more is remembered of a longer `Accept-Encoding`.
const LONGEST: usize = 128;
/// So many files are held open for the rest of a turn.
const HELD: usize = 16;

/// What the library has said of one directory.
#[derive(Debug, Default)]
pub(super) struct Known {
    answers: RefCell<HashMap<Box<str>, Vec<Answer>>>,
    /// What was found in this turn.
    found: RefCell<Vec<Found>>,
}

#[derive(Debug)]
struct Answer {
    encodings: Option<HeaderValue>,
    looks: Vec<Look>,
    headers: Rc<HeaderMap>,
}

/// An answer that holds, and its file.
#[derive(Debug)]
struct Found {
    asked: Asked,
    headers: Rc<HeaderMap>,
    file: Arc<File>,
    length: u64,
}

impl Found {
    fn response(&self) -> Response<FileBody> {
        let range = FileRange::new(Arc::clone(&self.file), 0, self.length);
        let mut response = Response::new(FileBody::new(range));
        *response.headers_mut() = HeaderMap::clone(&self.headers);
        response
    }
}

/// A name that the library has looked for, and what stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) path: PathBuf,
    pub(super) found: Option<Standing>,
}

/// What is asked, kept.
#[derive(Debug)]
pub(super) struct Asked {
    path: Box<str>,
    encodings: Option<HeaderValue>,
}

impl From<&Key<'_>> for Asked {
    fn from(key: &Key<'_>) -> Self {
        Self {
            path: key.path.into(),
            encodings: key.encodings.cloned(),
        }
    }
}

/// A request whose answer may be known: for a whole file, whatever the client has.
#[derive(Debug)]
pub(super) struct Key<'a> {
    path: &'a str,
    encodings: Option<&'a HeaderValue>,
}

impl Asked {
    fn is(&self, key: &Key<'_>) -> bool {
        *self.path == *key.path && self.encodings.as_ref() == key.encodings
    }
}

impl<'a> Key<'a> {
    pub(super) fn of(parts: &'a request::Parts) -> Option<Self> {
        if parts.method != Method::GET {
            return None;
        }
        let mut encodings = None;
        for (name, value) in &parts.headers {
            if *name == ACCEPT_ENCODING {
                if value.len() > LONGEST || encodings.replace(value).is_some() {
                    return None;
                }
            } else if *name == RANGE
                || *name == IF_NONE_MATCH
                || *name == IF_MODIFIED_SINCE
                || *name == IF_RANGE
                || *name == IF_MATCH
                || *name == IF_UNMODIFIED_SINCE
            {
                return None;
            }
        }
        Some(Self {
            path: parts.uri.path(),
            encodings,
        })
    }
}

impl Known {
    /// The answer, if there is one that still holds. It is held for others who ask for the same until
    /// [`forget_found`](Self::forget_found) is called, if `in_turn`.
    pub(super) fn answer(
        &self,
        key: &Key<'_>,
        root: &Root,
        in_turn: bool,
    ) -> Option<Response<FileBody>> {
        if !in_turn {
            return Some(self.find(key, root)?.response());
        }
        let mut held = self.found.borrow_mut();
        if let Some(found) = held.iter().find(|found| found.asked.is(key)) {
            return Some(found.response());
        }
        let found = self.find(key, root)?;
        let response = found.response();
        if held.len() < HELD {
            held.push(found);
        }
        Some(response)
    }

    /// The turn is over: what is asked for now is looked for anew.
    pub(super) fn forget_found(&self) {
        self.found.borrow_mut().clear();
    }

    fn find(&self, key: &Key<'_>, root: &Root) -> Option<Found> {
        let answers = self.answers.borrow();
        let answer = answers
            .get(key.path)?
            .iter()
            .find(|answer| answer.encodings.as_ref() == key.encodings)?;
        let mut chosen = None;
        for Look { path, found } in &answer.looks {
            match found {
                Some(before) => {
                    let (file, now) = root.open_again(path).ok()?;
                    if now != *before {
                        return None;
                    }
                    chosen = Some((file, now.length));
                }
                None => match root.open(path, Patience::AtOnce) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Ok(_) | Err(_) => return None,
                },
            }
        }
        let (file, length) = chosen?;
        Some(Found {
            asked: Asked::from(key),
            headers: Rc::clone(&answer.headers),
            file,
            length,
        })
    }

    /// Remembers the answer that the library has given when it had looked for these names.
    pub(super) fn learn(
        &self,
        asked: Asked,
        looks: Option<Vec<Look>>,
        answer: &Response<FileBody>,
    ) {
        let Some(looks) = looks.filter(|_| answer.status() == StatusCode::OK) else {
            return;
        };
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= PATHS && !answers.contains_key(&*asked.path) {
            answers.clear();
        }
        let answers = answers.entry(asked.path).or_default();
        answers.retain(|answer| answer.encodings != asked.encodings);
        answers.truncate(KINDS - 1);
        answers.insert(
            0,
            Answer {
                encodings: asked.encodings,
                looks,
                headers: Rc::new(answer.headers().clone()),
            },
        );
    }
}
