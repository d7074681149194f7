//! The scope of a request.
//!
//! A template holds every key with its commonest value; a scope is a copy of it in which only what differs is set. What
//! is the same as last time is the same object. ASGI, "HTTP & WebSocket ASGI Message Format", "HTTP Connection Scope".

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use percent_encoding::percent_decode;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rustc_hash::FxHashMap;

use crate::app::python::last::Last;
use crate::app::python::object::Ref;
use crate::app::python::texts::texts;
use crate::app::{Address, Ends, Gateway, Origin, Scheme, Tls, pem};

/// What of the protocols is implemented.
const SPEC_VERSION: &str = "2.5";

/// A header that only a trusted proxy may send: where the app is mounted.
const SCRIPT_NAME: HeaderName = HeaderName::from_static("script_name");

/// The `asgi` of every scope.
pub(super) fn versions(py: Python<'static>) -> PyResult<Bound<'static, PyDict>> {
    let asgi = PyDict::new(py);
    asgi.set_item("version", "3.0")?;
    asgi.set_item("spec_version", SPEC_VERSION)?;
    Ok(asgi)
}

texts! {
    struct Keys {
        method = "method",
        http_version = "http_version",
        scheme = "scheme",
        path = "path",
        raw_path = "raw_path",
        query_string = "query_string",
        root_path = "root_path",
        headers = "headers",
        client = "client",
        server = "server",
        state = "state",
        extensions = "extensions",
    }
}

texts! {
    struct Values {
        post = "POST",
        head = "HEAD",
        put = "PUT",
        delete = "DELETE",
        patch = "PATCH",
        options = "OPTIONS",
        http_10 = "1.0",
        http_2 = "2",
        https = "https",
    }
}

/// Makes scopes.
pub(super) struct Scopes {
    py: Python<'static>,
    template: Bound<'static, PyDict>,
    /// The extensions of HTTP/1.1 and later, and those of HTTP/1.0.
    modern: Bound<'static, PyDict>,
    old: Bound<'static, PyDict>,
    /// What the lifespan keeps for the requests.
    state: Bound<'static, PyDict>,
    keys: Keys,
    values: Values,
    root_path: String,
    headers: RefCell<FxHashMap<HeaderName, Header>>,
    /// Of one request, while it is made.
    fields: RefCell<Vec<Ref>>,
    path: RefCell<Last<(Ref, Ref)>>,
    query: RefCell<Last<Ref>>,
    ends: RefCell<Vec<Option<Rc<Known>>>>,
}

impl Scopes {
    /// Scopes of an app that is mounted at `root_path`, with the state that its lifespan has.
    pub(super) fn new(
        py: Python<'static>,
        root_path: &str,
        state: Bound<'static, PyDict>,
    ) -> PyResult<Self> {
        let keys = Keys::new(py);
        let extensions = |names: &[&str]| {
            let extensions = PyDict::new(py);
            for name in names {
                extensions.set_item(name, PyDict::new(py))?;
            }
            PyResult::Ok(extensions)
        };
        let template = PyDict::new(py);
        template.set_item(PyString::intern(py, "type"), PyString::intern(py, "http"))?;
        template.set_item(PyString::intern(py, "asgi"), versions(py)?)?;
        template.set_item(&keys.http_version, PyString::intern(py, "1.1"))?;
        template.set_item(&keys.method, PyString::intern(py, "GET"))?;
        template.set_item(&keys.scheme, PyString::intern(py, "http"))?;
        template.set_item(&keys.path, PyString::intern(py, "/"))?;
        template.set_item(&keys.raw_path, PyBytes::new(py, b"/"))?;
        template.set_item(&keys.query_string, PyBytes::new(py, b""))?;
        template.set_item(&keys.root_path, root_path)?;
        for key in [
            &keys.headers,
            &keys.client,
            &keys.server,
            &keys.state,
            &keys.extensions,
        ] {
            template.set_item(key, py.None())?;
        }
        Ok(Self {
            py,
            template,
            modern: extensions(&["http.response.pathsend", "http.response.early_hint"])?,
            old: extensions(&["http.response.pathsend"])?,
            state,
            keys,
            values: Values::new(py),
            root_path: root_path.to_owned(),
            headers: RefCell::default(),
            fields: RefCell::default(),
            path: RefCell::default(),
            query: RefCell::default(),
            ends: RefCell::new(vec![None; Known::KEPT]),
        })
    }

    /// The scope of a request; `trailers` if the client takes them.
    pub(super) fn make(
        &self,
        parts: &Parts,
        origin: &Origin,
        trailers: bool,
    ) -> PyResult<Bound<'static, PyDict>> {
        let keys = &self.keys;
        let scope = self.template.copy()?;
        self.line(&scope, parts)?;
        self.place(&scope, parts, origin)?;
        if origin.scheme == Scheme::Https {
            scope.set_item(&keys.scheme, &self.values.https)?;
        }
        scope.set_item(&keys.headers, self.fields(&parts.headers)?)?;
        let known = self.known(&origin.ends)?;
        scope.set_item(&keys.client, &known.client)?;
        match origin.gateway.as_deref().and_then(|told| self.server(told)) {
            Some(server) => scope.set_item(&keys.server, server?)?,
            None => scope.set_item(&keys.server, &known.server)?,
        }
        scope.set_item(&keys.state, self.state.copy()?)?;
        // Interim responses do not pass a front end that speaks uwsgi.
        let extensions = if parts.version >= Version::HTTP_11 && origin.gateway.is_none() {
            self.modern.copy()?
        } else {
            self.old.copy()?
        };
        if trailers {
            extensions.set_item("http.response.trailers", PyDict::new(self.py))?;
        }
        if let Some(tls) = &known.tls {
            extensions.set_item("tls", tls.copy()?)?;
        }
        scope.set_item(&keys.extensions, extensions)?;
        Ok(scope)
    }

    /// The request line, but for the path.
    fn line(&self, scope: &Bound<'static, PyDict>, parts: &Parts) -> PyResult<()> {
        if parts.method != Method::GET {
            let values = &self.values;
            let method = match parts.method {
                Method::POST => &values.post,
                Method::HEAD => &values.head,
                Method::PUT => &values.put,
                Method::DELETE => &values.delete,
                Method::PATCH => &values.patch,
                Method::OPTIONS => &values.options,
                ref other => &PyString::new(self.py, other.as_str()),
            };
            scope.set_item(&self.keys.method, method)?;
        }
        if parts.version != Version::HTTP_11 {
            let version = match parts.version {
                Version::HTTP_2 => &self.values.http_2,
                _ => &self.values.http_10,
            };
            scope.set_item(&self.keys.http_version, version)?;
        }
        if let Some(query) = parts.uri.query() {
            let make = |raw: &[u8]| PyResult::Ok(PyBytes::new(self.py, raw).into_any());
            let query = self.query.borrow_mut().get(query.as_bytes(), make)?;
            scope.set_item(&self.keys.query_string, query)?;
        }
        Ok(())
    }

    /// `root_path`, and the path with it at its front: a proxy may have taken it off, or not.
    fn place(
        &self,
        scope: &Bound<'static, PyDict>,
        parts: &Parts,
        origin: &Origin,
    ) -> PyResult<()> {
        let raw = parts.uri.path();
        let told = origin.gateway.as_deref().map(Gateway::script_name);
        if let Some(root) = told.filter(|root| !root.is_empty()) {
            // Decoded, and the path begins with it.
            scope.set_item(&self.keys.root_path, String::from_utf8_lossy(root))?;
            return self.path(scope, raw);
        }
        let sent = if origin.trusted {
            parts.headers.get(SCRIPT_NAME)
        } else {
            None
        };
        let sent = sent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        if let Some(root) = &sent {
            scope.set_item(&self.keys.root_path, root.as_ref())?;
        }
        let root = sent.as_deref().unwrap_or(&self.root_path);
        if raw == "/" && root.is_empty() {
            return Ok(());
        }
        let full;
        let raw = if root.is_empty() || lies_under(raw, root) {
            raw
        } else {
            full = format!("{root}{raw}");
            &full
        };
        self.path(scope, raw)
    }

    fn path(&self, scope: &Bound<'static, PyDict>, raw: &str) -> PyResult<()> {
        let (path, raw_path) = self.path.borrow_mut().get(raw.as_bytes(), |raw| {
            let raw_path = PyBytes::new(self.py, raw).into_any();
            let decoded = percent_decode(raw).decode_utf8_lossy();
            PyResult::Ok((PyString::new(self.py, &decoded).into_any(), raw_path))
        })?;
        scope.set_item(&self.keys.path, path)?;
        scope.set_item(&self.keys.raw_path, raw_path)
    }

    /// The name and port that a front end says the server goes by.
    fn server(&self, told: &Gateway) -> Option<PyResult<Ref>> {
        let port = told.server_port()?;
        let name = String::from_utf8_lossy(told.server_name());
        let pair = (!name.is_empty()).then(|| (name, port).into_pyobject(self.py))?;
        Some(pair.map(Bound::into_any))
    }

    /// The header fields, in pairs of bytes.
    fn fields(&self, headers: &HeaderMap) -> PyResult<Bound<'static, PyList>> {
        // Borrowed while `bytes` and tuples are made: no code of the app runs meanwhile.
        let mut fields = self.fields.borrow_mut();
        let mut known = self.headers.borrow_mut();
        for (name, value) in headers {
            if let Some(header) = known.get_mut(name) {
                fields.push(header.pair(self.py, value.as_bytes())?);
                continue;
            }
            let mut header = Header::new(self.py, name);
            fields.push(header.pair(self.py, value.as_bytes())?);
            if known.len() < Header::KEPT {
                known.insert(name.clone(), header);
            }
        }
        PyList::new(self.py, fields.drain(..))
    }

    /// The objects of a connection: made once, as long as not too many others come between.
    fn known(&self, ends: &Arc<Ends>) -> PyResult<Rc<Known>> {
        // Allocations are at least 16 bytes apart.
        let index = (Arc::as_ptr(ends).addr() >> 4) % Known::KEPT;
        let known = self.ends.borrow()[index].clone();
        if let Some(known) = known
            && Arc::ptr_eq(&known.ends, ends)
        {
            return Ok(known);
        }
        let known = Rc::new(Known::new(self.py, ends)?);
        let old = self.ends.borrow_mut()[index].replace(Rc::clone(&known));
        drop(old);
        Ok(known)
    }
}

/// Whether `path` is `root` or lies under it.
fn lies_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || root.ends_with('/'))
}

/// A header name that came before.
struct Header {
    name: Bound<'static, PyBytes>,
    last: Last<Ref>,
    /// What is a secret, or different each time, is not kept.
    keep: bool,
}

impl Header {
    /// How many names are kept: a client may send any.
    const KEPT: usize = 1024;

    fn new(py: Python<'static>, name: &HeaderName) -> Self {
        Self {
            name: PyBytes::new(py, name.as_str().as_bytes()),
            last: Last::default(),
            keep: *name != COOKIE && *name != AUTHORIZATION,
        }
    }

    /// The name and a value.
    fn pair(&mut self, py: Python<'static>, raw: &[u8]) -> PyResult<Ref> {
        let name = &self.name;
        let make = |raw: &[u8]| {
            let pair = PyTuple::new(py, [name, &PyBytes::new(py, raw)])?;
            Ok(pair.into_any())
        };
        if self.keep {
            self.last.get(raw, make)
        } else {
            make(raw)
        }
    }
}

/// The two ends of one connection.
struct Known {
    /// Kept alive so that its address keeps its meaning.
    ends: Arc<Ends>,
    client: Ref,
    server: Ref,
    /// The extension that tells of its TLS.
    tls: Option<Bound<'static, PyDict>>,
}

impl Known {
    /// How many connections are known at once; they overwrite each other beyond.
    const KEPT: usize = 512;

    fn new(py: Python<'static>, ends: &Arc<Ends>) -> PyResult<Self> {
        let client = match &ends.peer {
            Address::Tcp(peer) => pair(py, *peer)?,
            Address::Unix(_) => py.None().into_bound(py),
        };
        let server = match &ends.local {
            Address::Tcp(local) => pair(py, *local)?,
            Address::Unix(Some(path)) => (path.to_string_lossy(), py.None())
                .into_pyobject(py)?
                .into_any(),
            Address::Unix(None) => py.None().into_bound(py),
        };
        Ok(Self {
            ends: Arc::clone(ends),
            client,
            server,
            tls: ends
                .tls
                .as_deref()
                .map(|tls| extension(py, tls))
                .transpose()?,
        })
    }
}

/// ASGI, "TLS Extension" (version 0.2).
fn extension(py: Python<'static>, tls: &Tls) -> PyResult<Bound<'static, PyDict>> {
    let client = tls.client.as_ref();
    let chain = client.map_or(&[][..], |client| &client.chain);
    let chain = PyList::new(py, chain.iter().map(|certificate| pem(certificate)))?;
    let extension = PyDict::new(py);
    extension.set_item("server_cert", pem(&tls.certificate))?;
    extension.set_item("client_cert_chain", chain)?;
    extension.set_item("client_cert_name", client.map(|client| &client.subject))?;
    // Who sends a bad one does not get as far as this.
    extension.set_item("client_cert_error", py.None())?;
    extension.set_item("tls_version", tls.version)?;
    extension.set_item("cipher_suite", tls.cipher_suite)?;
    Ok(extension)
}

fn pair(py: Python<'static>, address: SocketAddr) -> PyResult<Ref> {
    let pair = (address.ip().to_string(), address.port());
    Ok(pair.into_pyobject(py)?.into_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_path_is_told_from_one_that_is_spelt_alike() {
        assert!(lies_under("/api", "/api"));
        assert!(lies_under("/api/x", "/api"));
        assert!(!lies_under("/apix", "/api"));
        assert!(!lies_under("/x", "/api"));
    }
}
