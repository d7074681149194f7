//! A request as the log names it, for what is said of it when its head is gone, or its client.

use std::fmt;

use http::request::Parts;
use http::{Method, Uri};

use super::wsgi::AppFailed;
use crate::error::AnyError;

/// A request's method and target.
#[derive(Clone, Debug)]
pub(super) struct Named {
    method: Method,
    target: Uri,
}

impl Named {
    /// The name of a request whose head is still needed.
    pub(super) fn of(parts: &Parts) -> Self {
        Self {
            method: parts.method.clone(),
            target: parts.uri.clone(),
        }
    }

    /// The path that is asked for, as it came.
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// The name of a request whose target nobody needs any more.
    pub(super) fn take(parts: &mut Parts) -> Self {
        Self {
            method: parts.method.clone(),
            target: std::mem::take(&mut parts.uri),
        }
    }
}

impl fmt::Display for Named {
    /// As the server's own lines have it: what is not printable ASCII is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{} {}", self.method, self.target);
        name.as_bytes().escape_ascii().fmt(f)
    }
}

/// Why a request has no answer, or none that is whole.
#[derive(Debug)]
pub(super) struct Failure(Box<(AnyError, Named)>);

impl Failure {
    pub(super) fn new(error: AnyError, request: Named) -> Self {
        Self(Box::new((error, request)))
    }

    /// For the client's connection, which tells the log as well.
    pub(super) fn into_error(self) -> AnyError {
        self.0.0
    }

    /// Tells the log, as there is no connection left to do it.
    pub(super) fn log(&self) {
        let (error, request) = &*self.0;
        // Whoever killed a greenlet knows.
        if !matches!(error.downcast_ref(), Some(AppFailed::Killed)) {
            tracing::error!("Error handling request {request}, whose client has gone: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_request_is_named_by_its_method_and_target() {
        for target in ["/", "/a%20b?c=d", "*", "http://other:81/x?y"] {
            let (mut parts, ()) = Request::put(target).body(()).unwrap().into_parts();
            let name = Named::of(&parts);
            assert_eq!(name.to_string(), format!("PUT {target}"));
            assert_eq!(Named::take(&mut parts).to_string(), name.to_string());
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let uri = Uri::try_from("/caf\u{e9}".as_bytes()).unwrap();
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = uri;
        assert_eq!(Named::of(&parts).to_string(), "GET /caf\\xc3\\xa9");
    }
}
