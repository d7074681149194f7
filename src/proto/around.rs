//! What the server does around an app, where it is told to: static files before the app is asked, files that the app
//! names in its answer, compression of what it answers.

#[cfg(feature = "static")]
use std::rc::Rc;

use http::header::{
    ACCEPT_ENCODING, HeaderMap, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{Method, Response, request};

#[cfg(feature = "compression")]
use super::compress::Compression;
use super::opening::Opening;
#[cfg(feature = "static")]
use crate::app::files::{Mounts, SendRoot};
use crate::config::Config;

/// What is done.
#[derive(Debug)]
pub(crate) struct Around {
    #[cfg(feature = "static")]
    mounts: Option<Mounts>,
    #[cfg(feature = "static")]
    sendfile: Option<Rc<SendRoot>>,
    #[cfg(feature = "compression")]
    pub(super) compression: Option<Compression>,
}

impl Around {
    /// What the configuration asks for; `None` if that is nothing.
    pub(super) fn of(config: &Config) -> Option<Box<Self>> {
        let mut asked = false;
        #[cfg(feature = "static")]
        let (mounts, sendfile) = (Mounts::of(config), SendRoot::of(config).map(Rc::new));
        #[cfg(feature = "static")]
        {
            asked |= mounts.is_some() || sendfile.is_some();
        }
        #[cfg(feature = "compression")]
        let compression = Compression::of(config);
        #[cfg(feature = "compression")]
        {
            asked |= compression.is_some();
        }
        let _ = config;
        asked.then(|| {
            Box::new(Self {
                #[cfg(feature = "static")]
                mounts,
                #[cfg(feature = "static")]
                sendfile,
                #[cfg(feature = "compression")]
                compression,
            })
        })
    }

    /// Whether files answer requests.
    #[inline]
    pub(super) fn has_files(&self) -> bool {
        #[cfg(feature = "static")]
        {
            self.mounts.is_some()
        }
        #[cfg(not(feature = "static"))]
        false
    }

    /// The file that is to answer a request in the app's place; the requests of one turn share it until
    /// [`end_turn`](Self::end_turn), if this one is `in_turn`.
    pub(super) fn file(&self, parts: &mut request::Parts, in_turn: bool) -> Option<Opening> {
        #[cfg(feature = "static")]
        if let Some(mount) = self
            .mounts
            .as_ref()
            .and_then(|mounts| mounts.find(parts.uri.path()))
        {
            if let Some(answer) = mount.answer(parts, in_turn) {
                return Some(Opening::Now(Some(answer)));
            }
            let (taken, ()) = http::Request::new(()).into_parts();
            let parts = std::mem::replace(parts, taken);
            return Some(Opening::Later(Box::pin(Rc::clone(mount).serve(parts))));
        }
        let _ = (parts, in_turn);
        None
    }

    /// A turn of the worker is over.
    pub(super) fn end_turn(&self) {
        #[cfg(feature = "static")]
        if let Some(mounts) = &self.mounts {
            mounts.end_turn();
        }
    }

    /// The file that the app has named in its answer, with the answer's fields.
    pub(super) fn named<B>(
        &self,
        asked: &Asked,
        response: &mut Response<B>,
    ) -> Option<Opening> {
        #[cfg(feature = "static")]
        if let Some(root) = &self.sendfile
            && let Some(path) = crate::app::files::named(response.headers_mut())
        {
            let (mut parts, ()) = Response::new(()).into_parts();
            parts.status = response.status();
            parts.headers = std::mem::take(response.headers_mut());
            let root = Rc::clone(root);
            let (method, headers) = (asked.method.clone(), asked.headers.clone());
            return Some(Opening::Later(Box::pin(
                root.send(path, method, headers, parts),
            )));
        }
        let _ = (asked, response);
        None
    }

    /// What of a request will be needed once it is answered.
    pub(super) fn keep(&self, parts: &request::Parts) -> Option<Box<Asked>> {
        const NAMES: [http::HeaderName; 7] = [
            ACCEPT_ENCODING,
            RANGE,
            IF_RANGE,
            IF_MATCH,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            IF_UNMODIFIED_SINCE,
        ];
        let mut needed = false;
        #[cfg(feature = "static")]
        {
            needed |= self.sendfile.is_some();
        }
        #[cfg(feature = "compression")]
        {
            needed |= self.compression.is_some();
        }
        if !needed {
            return None;
        }
        let mut headers = HeaderMap::new();
        for name in NAMES {
            for value in parts.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Some(Box::new(Asked {
            method: parts.method.clone(),
            headers,
        }))
    }
}

/// What of a request is needed once it is answered.
#[derive(Debug)]
pub(super) struct Asked {
    #[cfg_attr(
        not(feature = "static"),
        expect(dead_code, reason = "asked for files alone")
    )]
    method: Method,
    pub(super) headers: HeaderMap,
}
