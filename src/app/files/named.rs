//! Files that an app names in its answer (`X-Sendfile`, as Apache's `mod_xsendfile` and lighttpd have it).

use std::path::{Path, PathBuf};
use std::rc::Rc;

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, LAST_MODIFIED, TRANSFER_ENCODING, VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::root::Hidden;
use super::{Mount, empty, links};
use crate::app::FileBody;
use crate::config::Config;

const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// A path's bytes that stand for themselves in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// The field that names a file; it is taken off.
pub(crate) fn named(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(X_SENDFILE)
}

/// The directory that an app may name files of.
#[derive(Debug)]
pub(crate) struct SendRoot {
    path: PathBuf,
    mount: Rc<Mount>,
}

impl SendRoot {
    /// The configuration's.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let path = config.sendfile_root.clone()?;
        let mount = Mount::new("", path.clone(), links(config), Hidden::Served);
        Some(Self {
            path,
            mount: Rc::new(mount),
        })
    }

    /// The file, with the fields of the app's answer. An answer that is not 200 keeps its status, and has no conditions
    /// or ranges; one to another method than GET and HEAD, too.
    pub(crate) async fn send(
        self: Rc<Self>,
        path: HeaderValue,
        method: Method,
        asked: HeaderMap,
        app: response::Parts,
    ) -> Response<FileBody> {
        let plain =
            app.status == StatusCode::OK && matches!(method, Method::GET | Method::HEAD);
        let mut request = Request::new(());
        if plain {
            *request.headers_mut() = asked;
            *request.method_mut() = method;
        }
        let below = self.below(path.as_bytes());
        let response = match below {
            Some(uri) => {
                *request.uri_mut() = uri;
                Rc::clone(&self.mount).serve(request.into_parts().0).await
            }
            None => empty(StatusCode::NOT_FOUND),
        };
        let status = response.status();
        if !matches!(
            status,
            StatusCode::OK
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::RANGE_NOT_SATISFIABLE
        ) {
            tracing::error!(
                "X-Sendfile: there is no file {} below {}",
                path.as_bytes().escape_ascii(),
                self.path.display()
            );
            return empty(StatusCode::NOT_FOUND);
        }
        let (mut parts, body) = response.into_parts();
        if !plain {
            parts.status = app.status;
        }
        parts.headers = merge(app.headers, &parts.headers);
        Response::from_parts(parts, body)
    }

    /// What `path` names, as a target; a full path has to be below the directory.
    fn below(&self, path: &[u8]) -> Option<Uri> {
        use std::os::unix::ffi::OsStrExt;

        let path: Vec<u8> = percent_decode(path).collect();
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        let rest = if path.is_absolute() {
            path.strip_prefix(&self.path).ok()?
        } else {
            path
        };
        let bytes = rest.as_os_str().as_bytes();
        let target = format!("/{}", percent_encode(bytes, ESCAPED));
        let target = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target));
        target.ok().map(Uri::from)
    }
}

/// The app's fields, and those of the file that are the file's to say.
fn merge(mut app: HeaderMap, file: &HeaderMap) -> HeaderMap {
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        app.remove(name);
    }
    for (name, value) in file {
        match *name {
            CONTENT_TYPE | ETAG | LAST_MODIFIED => {
                app.entry(name).or_insert_with(|| value.clone());
            }
            VARY => {
                app.append(name, value.clone());
            }
            CONTENT_LENGTH | CONTENT_ENCODING | CONTENT_RANGE | ACCEPT_RANGES => {
                app.insert(name, value.clone());
            }
            _ => {}
        }
    }
    app
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> SendRoot {
        let config = Config {
            sendfile_root: Some(PathBuf::from("/srv/files")),
            ..Config::default()
        };
        SendRoot::of(&config).unwrap()
    }

    #[test]
    fn a_name_is_below_the_root_or_nothing() {
        let root = root();
        let below = |path: &str| root.below(path.as_bytes()).map(|uri| uri.to_string());
        assert_eq!(below("/srv/files/a/b.txt").as_deref(), Some("/a/b.txt"));
        assert_eq!(below("a b?c#d%25").as_deref(), Some("/a%20b%3Fc%23d%25"));
        assert_eq!(below("%61/%C3%A4").as_deref(), Some("/a/%C3%A4"));
        for path in ["/etc/passwd", "/srv/filesystem", "/", "/srv"] {
            assert_eq!(below(path), None, "{path}");
        }
    }

    #[test]
    fn the_apps_fields_stay_but_for_the_bodys() {
        let mut app = HeaderMap::new();
        app.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv"));
        app.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        app.insert("x-app", HeaderValue::from_static("1"));
        let mut file = HeaderMap::new();
        file.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        file.insert(CONTENT_LENGTH, HeaderValue::from_static("10"));
        file.insert(ETAG, HeaderValue::from_static("\"a\""));
        let merged = merge(app, &file);
        assert_eq!(merged[CONTENT_TYPE], "text/csv");
        assert_eq!(merged[CONTENT_LENGTH], "10");
        assert_eq!(merged[ETAG], "\"a\"");
        assert_eq!(merged["x-app"], "1");
    }
}
