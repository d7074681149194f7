//! What the server does around an app where it was built without static files and without compression: nothing.

use http::{Response, request};

use super::opening::Opening;
use crate::config::Config;

/// What is done: there is no value of it.
#[derive(Debug)]
pub(crate) enum Around {}

impl Around {
    /// Nothing, whatever the configuration asks for.
    pub(super) const fn of(_config: &Config) -> Option<Box<Self>> {
        None
    }

    /// Whether files answer requests.
    pub(super) const fn has_files(&self) -> bool {
        match *self {}
    }

    /// A turn of the worker is over.
    pub(super) const fn end_turn(&self) {
        match *self {}
    }

    /// The file that is to answer a request in the app's place.
    pub(super) const fn file(
        &self,
        _parts: &mut request::Parts,
        _in_turn: bool,
    ) -> Option<Opening> {
        match *self {}
    }

    /// The file that the app has named in its answer, with the answer's fields.
    pub(super) const fn named<B>(
        &self,
        _asked: &Asked,
        _response: &mut Response<B>,
    ) -> Option<Opening> {
        match *self {}
    }

    /// What of a request will be needed once it is answered.
    pub(super) const fn keep(&self, _parts: &request::Parts) -> Option<Box<Asked>> {
        match *self {}
    }
}

/// What of a request is needed once it is answered: there is no value of it.
#[derive(Debug)]
pub(super) enum Asked {}
