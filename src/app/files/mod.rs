//! Static files, by `tower-http`: paths, types, conditions, ranges and precompressed variants are the library's; opening and
//! sending files is ours ([`backend`], [`root`]); what it has said of a file is not asked again ([`known`]).
//!
//! What the library does not do and HTTP asks for is done around it: `If-Range`, ranges in other units, ranges of HEAD
//! (RFC 9110 sections 13.1.5, 14.2).

mod backend;
mod known;
mod named;
mod root;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, request};
use http_body_util::Empty;
use tower_http::services::ServeDir;

use self::backend::View;
use self::known::{Asked, Key, Known};
pub(crate) use self::named::{SendRoot, named};
use self::root::{Hidden, Root};
use super::file::{FileBody, FileRange};
use crate::config::{AppPath, Config};
use crate::files::Links;

/// The library makes a buffer for a body of its own, which is never read.
const UNUSED: usize = 1;

/// Which directories are served under which paths.
#[derive(Debug)]
pub(crate) struct Mounts(Vec<Rc<Mount>>);

impl Mounts {
    /// Those of the configuration, if there are any.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let links = links(config);
        let app = config.wsgi_app.as_ref().and_then(AppPath::static_directory);
        let mut mounts: Vec<_> = config
            .r#static
            .iter()
            .map(|(prefix, directory)| (prefix.as_str(), directory.clone()))
            .chain(app.map(|directory| ("/", directory.to_owned())))
            .map(|(prefix, directory)| {
                Rc::new(Mount::new(prefix, directory, links, Hidden::Missing))
            })
            .collect();
        // Of two prefixes of a path the longer one counts.
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        (!mounts.is_empty()).then_some(Self(mounts))
    }

    /// The one that `path` is under.
    #[inline]
    pub(crate) fn find(&self, path: &str) -> Option<&Rc<Mount>> {
        self.0.iter().find(|mount| mount.has(path))
    }

    /// Files that were opened for several requests of one turn of the worker are not held any longer.
    pub(crate) fn end_turn(&self) {
        for mount in &self.0 {
            mount.known.forget_found();
        }
    }
}

fn links(config: &Config) -> Links {
    if config.static_follow_symlinks {
        Links::Any
    } else {
        Links::Inside
    }
}

/// A directory under a path.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Without a slash at its end.
    prefix: String,
    root: Arc<Root>,
    known: Known,
}

impl Mount {
    fn new(prefix: &str, directory: PathBuf, links: Links, hidden: Hidden) -> Self {
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            root: Arc::new(Root::new(directory, links, hidden)),
            known: Known::default(),
        }
    }

    fn has(&self, path: &str) -> bool {
        path.strip_prefix(&*self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The answer to a request whose path is under this one, if it is known and nothing has to be waited for; from what the
    /// turn of the worker has found already, if it is `in_turn`.
    pub(crate) fn answer(
        &self,
        parts: &request::Parts,
        in_turn: bool,
    ) -> Option<Response<FileBody>> {
        self.known.answer(&Key::of(parts)?, &self.root, in_turn)
    }

    /// Answers a request whose path is under this one.
    pub(crate) async fn serve(self: Rc<Self>, mut parts: request::Parts) -> Response<FileBody> {
        let asked = Key::of(&parts).as_ref().map(Asked::from);
        let rest = parts
            .uri
            .path()
            .get(self.prefix.len()..)
            .unwrap_or_default();
        if rest.is_empty() {
            return self.add_slash(&parts.uri);
        }
        match below(&parts.uri, rest) {
            Ok(uri) => parts.uri = uri,
            Err(_) => return empty(StatusCode::NOT_FOUND),
        }
        keep_ranges_of_bytes(&parts.method, &mut parts.headers);
        let Some(validator) = take_if_range(&mut parts.headers) else {
            return self.ask(parts, asked).await;
        };
        let mut whole = parts.clone();
        let answer = self.ask(parts, None).await;
        if is_same(&validator, answer.headers()) {
            return answer;
        }
        whole.headers.remove(RANGE);
        self.ask(whole, None).await
    }

    /// The directory itself, named without the slash that relative links need.
    fn add_slash(&self, uri: &Uri) -> Response<FileBody> {
        let query = uri
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
        if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", self.prefix)) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }

    /// Asks the library; the answer is remembered for others who ask for the same.
    async fn ask(&self, parts: request::Parts, asked: Option<Asked>) -> Response<FileBody> {
        let view = View::of(&self.root);
        let mut library = ServeDir::with_backend("", view.clone())
            .with_buf_chunk_size(UNUSED)
            .redirect_path_prefix(&*self.prefix)
            .ignore_multi_range_requests(true)
            .precompressed_br()
            .precompressed_zstd()
            .precompressed_gzip();
        let is_get = parts.method == Method::GET;
        let request = Request::from_parts(parts, Empty::<bytes::Bytes>::new());
        let mut response = match library.try_call(request).await {
            Ok(response) => response.map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return empty(StatusCode::NOT_FOUND);
            }
            Err(error) => {
                tracing::error!("Cannot serve a static file: {error}");
                return empty(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let sends = matches!(
            response.status(),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT
        );
        let chosen = view.chosen().filter(|_| is_get && sends);
        let Some((found, start)) = chosen else {
            if !sends {
                // Of a page of ours that may come in its place.
                response.headers_mut().remove(ACCEPT_RANGES);
            }
            return response.map(|()| FileBody::default());
        };
        let length = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<u64>().ok())
            .unwrap_or(0);
        let range = FileRange::new(found.file, start, start.saturating_add(length));
        let response = response.map(|()| FileBody::new(range));
        if let Some(asked) = asked {
            self.known.learn(asked, view.looks(), &response);
        }
        response
    }
}

fn empty(status: StatusCode) -> Response<FileBody> {
    let mut response = Response::new(FileBody::default());
    *response.status_mut() = status;
    response
}

/// What a request asks for below the mount. One slash at its front: with two, a redirect would name another host.
fn below(uri: &Uri, rest: &str) -> Result<Uri, http::uri::InvalidUri> {
    let path = rest.trim_start_matches('/');
    let target = match uri.query() {
        Some(query) => format!("/{path}?{query}"),
        None => format!("/{path}"),
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map(Uri::from)
}

/// A range is one of bytes, and of GET, or is not there (RFC 9110 sections 14.2, 14.3).
fn keep_ranges_of_bytes(method: &Method, headers: &mut HeaderMap) {
    let Some(range) = headers.get(RANGE) else {
        return;
    };
    let unit = range.as_bytes().get(..6).unwrap_or_default();
    if *method != Method::GET || !unit.eq_ignore_ascii_case(b"bytes=") {
        headers.remove(RANGE);
    }
}

/// The condition of a range, which the library does not know.
fn take_if_range(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let validator = headers.remove(IF_RANGE)?;
    headers.contains_key(RANGE).then_some(validator)
}

/// Whether the client's part is of the same file: a strong tag, or the exact date (RFC 9110 section 13.1.5).
fn is_same(validator: &HeaderValue, headers: &HeaderMap) -> bool {
    let name = if validator.as_bytes().ends_with(b"\"") {
        ETAG
    } else {
        LAST_MODIFIED
    };
    headers
        .get(name)
        .is_some_and(|current| current == validator)
}

#[cfg(test)]
mod tests;
