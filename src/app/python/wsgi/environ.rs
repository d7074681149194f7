//! The environ of a request.
//!
//! A template holds every key that each request has, with its commonest value; a request's environ is a copy of it (one
//! block of memory, as the dict has no holes) in which only what differs is set. Keys are interned; a value that is the
//! same as last time is the same object. PEP 3333, "environ Variables"; where that leaves a choice, Gunicorn's
//! (`gunicorn/http/wsgi.py`).

mod connection;
mod field;
mod words;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HOST, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use percent_encoding::percent_decode;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustc_hash::FxHashMap;

use self::connection::{Names, split_host};
use self::field::{Header, join, key};
use self::words::Values;
use super::file::FileWrapper;
use super::input::EmptyInput;
use super::shape::{Shapes, Transport};
use crate::app::python::last::Last;
use crate::app::python::object::{self, Ref};
use crate::app::{Ends, Gateway, Origin, Scheme};

pub(super) use self::connection::Known;
pub(super) use self::words::Keys;

/// As Gunicorn's own: what `SERVER_SOFTWARE` says.
const SOFTWARE: &str = concat!("rgun-async/", env!("CARGO_PKG_VERSION"));

/// A header that only a trusted proxy may send: where the app is mounted.
pub(super) const SCRIPT_NAME: HeaderName = HeaderName::from_static("script_name");

type Text = Bound<'static, PyString>;

/// Why there is no environ.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironError {
    /// Gunicorn: `ConfigurationProblem`.
    #[error("Request path {path:?} does not start with SCRIPT_NAME {script:?}")]
    Mount { path: String, script: String },
    #[error(transparent)]
    Python(#[from] PyErr),
}

/// Makes environs.
pub(super) struct Environs {
    py: Python<'static>,
    tcp: Bound<'static, PyDict>,
    /// A unix peer has no port.
    unix: Bound<'static, PyDict>,
    keys: Keys,
    values: Values,
    /// `SCRIPT_NAME` of the process's environment.
    script: String,
    headers: RefCell<FxHashMap<HeaderName, Header>>,
    path: RefCell<Last<Text>>,
    query: RefCell<Last<Text>>,
    uri: RefCell<Last<Text>>,
    shapes: Shapes,
    ends: RefCell<Vec<Option<Rc<Known>>>>,
    names: RefCell<Names>,
}

/// What the process as a whole adds to each environ.
pub(super) struct Setting {
    /// `wsgi.early_hints` (Gunicorn) of the exchange that most requests have.
    pub(super) early_hints: Ref,
    /// `wsgi.errors`.
    pub(super) errors: Ref,
    /// `wsgi.multithread`: whether a request may run while another one waits.
    pub(super) multithread: bool,
}

impl Environs {
    pub(super) fn new(py: Python<'static>, setting: &Setting) -> PyResult<Self> {
        let script = py
            .import("os")?
            .getattr("environ")?
            .call_method1("get", ("SCRIPT_NAME", ""))?
            .extract::<String>()?;
        let tcp = PyDict::new(py);
        tcp.set_item("wsgi.version", (1, 0))?;
        tcp.set_item("wsgi.url_scheme", "http")?;
        tcp.set_item("wsgi.input", Bound::new(py, EmptyInput)?)?;
        tcp.set_item("wsgi.input_terminated", true)?;
        tcp.set_item("wsgi.errors", &setting.errors)?;
        tcp.set_item("wsgi.multithread", setting.multithread)?;
        tcp.set_item("wsgi.multiprocess", true)?;
        tcp.set_item("wsgi.run_once", false)?;
        tcp.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        tcp.set_item("wsgi.early_hints", &setting.early_hints)?;
        tcp.set_item("SERVER_SOFTWARE", SOFTWARE)?;
        tcp.set_item("SERVER_NAME", "")?;
        tcp.set_item("SERVER_PORT", "")?;
        tcp.set_item("SERVER_PROTOCOL", "HTTP/1.1")?;
        tcp.set_item("REQUEST_METHOD", "GET")?;
        tcp.set_item("SCRIPT_NAME", &script)?;
        tcp.set_item("PATH_INFO", "/")?;
        tcp.set_item("QUERY_STRING", "")?;
        tcp.set_item("RAW_URI", "/")?;
        tcp.set_item("REMOTE_ADDR", "")?;
        let unix = tcp.copy()?;
        tcp.set_item("REMOTE_PORT", "")?;
        tcp.set_item("HTTP_HOST", "")?;
        unix.set_item("HTTP_HOST", "")?;
        Ok(Self {
            py,
            tcp: interned(&tcp)?,
            unix: interned(&unix)?,
            keys: Keys::new(py),
            values: Values::new(py),
            script,
            headers: RefCell::default(),
            path: RefCell::default(),
            query: RefCell::default(),
            uri: RefCell::default(),
            shapes: Shapes::default(),
            ends: RefCell::new(vec![None; Known::KEPT]),
            names: RefCell::default(),
        })
    }

    /// The environ of a request; `input` where it has a body, `early_hints` where they are not the template's.
    pub(super) fn make(
        &self,
        parts: &Parts,
        origin: &Origin,
        input: Option<&Ref>,
        early_hints: Option<&Ref>,
    ) -> Result<Bound<'static, PyDict>, EnvironError> {
        let known = self.known(&origin.ends)?;
        let (environ, mounted) = self.begin(&parts.headers, &known)?;
        self.line(&environ, parts)?;
        match &origin.gateway {
            Some(gateway) if !gateway.script_name().is_empty() => {
                self.mount_as_told(&environ, parts, gateway)?;
            }
            Some(_) | None => self.mount(&environ, parts, mounted && origin.trusted)?,
        }
        if origin.scheme == Scheme::Https {
            environ.set_item(&self.keys.scheme, &self.values.https)?;
        }
        if known.server_port.is_none() {
            self.server(&environ, &known, origin)?;
        }
        if let Some(tls) = &known.tls {
            environ.update(tls.as_mapping())?;
        }
        if let Some(proxied) = &known.proxied {
            environ.set_item(&self.keys.proxy_protocol, &proxied.protocol)?;
            environ.set_item(&self.keys.proxy_addr, &proxied.addr)?;
            environ.set_item(&self.keys.proxy_port, &proxied.port)?;
        }
        if let Some(input) = input {
            environ.set_item(&self.keys.input, input)?;
        }
        if let Some(early_hints) = early_hints {
            environ.set_item(&self.keys.early_hints, early_hints)?;
        }
        if let Some(gateway) = &origin.gateway {
            self.variables(&environ, gateway)?;
        }
        Ok(environ)
    }

    /// How many templates there are, at least: one that is coming or going is not counted.
    pub(super) fn templates(&self) -> isize {
        // By transport, and by shape.
        2 + self.shapes.len().cast_signed()
    }

    /// An environ with the header fields and the ends of the connection, and whether one of the fields is `SCRIPT_NAME`.
    fn begin(
        &self,
        headers: &HeaderMap,
        known: &Rc<Known>,
    ) -> PyResult<(Bound<'static, PyDict>, bool)> {
        let (transport, base) = if known.remote_port.is_some() {
            (Transport::Tcp, &self.tcp)
        } else {
            (Transport::Unix, &self.unix)
        };
        if let Some((shape, changed)) = self.shapes.find(headers, transport) {
            let environ = shape.environ(headers, changed, &self.keys, known)?;
            return Ok((environ, shape.mounted));
        }
        let environ = base.copy()?;
        self.fields(&environ, headers)?;
        known.set(&environ, &self.keys, None)?;
        self.shapes
            .learn(headers, transport, base, &self.keys.host, |name| {
                let known = self.headers.borrow();
                let header = known.get(name)?;
                Some((header.key.clone(), header.keep))
            })?;
        Ok((environ, headers.contains_key(SCRIPT_NAME)))
    }

    /// The request line, but for the path.
    fn line(&self, environ: &Bound<'static, PyDict>, parts: &Parts) -> PyResult<()> {
        if parts.method != Method::GET {
            let values = &self.values;
            let method = match parts.method {
                Method::POST => &values.post,
                Method::HEAD => &values.head,
                Method::PUT => &values.put,
                Method::DELETE => &values.delete,
                Method::PATCH => &values.patch,
                Method::OPTIONS => &values.options,
                ref other => &object::latin1(self.py, other.as_str().as_bytes())?,
            };
            environ.set_item(&self.keys.method, method)?;
        }
        if parts.version != Version::HTTP_11 {
            let protocol = match parts.version {
                Version::HTTP_2 => &self.values.http_2,
                _ => &self.values.http_10,
            };
            environ.set_item(&self.keys.protocol, protocol)?;
        }
        if let Some(query) = parts.uri.query() {
            let query = self
                .query
                .borrow_mut()
                .get(query.as_bytes(), |raw| object::latin1(self.py, raw))?;
            environ.set_item(&self.keys.query, query)?;
        }
        if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
            // The absolute form, as it came.
            environ.set_item(&self.keys.uri, parts.uri.to_string())?;
        } else if let Some(uri) = parts.uri.path_and_query()
            && uri.as_str() != "/"
        {
            let uri = self
                .uri
                .borrow_mut()
                .get(uri.as_str().as_bytes(), |raw| object::latin1(self.py, raw))?;
            environ.set_item(&self.keys.uri, uri)?;
        }
        Ok(())
    }

    /// `SCRIPT_NAME`, and `PATH_INFO` beneath it; `told` if a header that may be believed tells.
    fn mount(
        &self,
        environ: &Bound<'static, PyDict>,
        parts: &Parts,
        told: bool,
    ) -> Result<(), EnvironError> {
        let mut path = parts.uri.path();
        let sent = if told {
            parts.headers.get(SCRIPT_NAME)
        } else {
            None
        };
        let sent = sent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        if let Some(script) = &sent {
            environ.set_item(&self.keys.script, script.as_ref())?;
        }
        let script = sent.as_deref().unwrap_or(&self.script);
        if !script.is_empty() {
            path = path
                .strip_prefix(script)
                .ok_or_else(|| EnvironError::Mount {
                    path: path.to_owned(),
                    script: script.to_owned(),
                })?;
        }
        if path == "/" {
            return Ok(());
        }
        let path = self.path.borrow_mut().get(path.as_bytes(), |path| {
            if memchr::memchr(b'%', path).is_none() {
                return object::latin1(self.py, path);
            }
            object::latin1(self.py, &percent_decode(path).collect::<Vec<u8>>())
        })?;
        environ.set_item(&self.keys.path, path)?;
        Ok(())
    }

    /// `SCRIPT_NAME` as a front end says it, decoded, and `PATH_INFO` beneath it.
    fn mount_as_told(
        &self,
        environ: &Bound<'static, PyDict>,
        parts: &Parts,
        gateway: &Gateway,
    ) -> PyResult<()> {
        let script = gateway.script_name();
        let path: Vec<u8> = percent_decode(parts.uri.path().as_bytes()).collect();
        let path = path.strip_prefix(script).unwrap_or(&path);
        environ.set_item(&self.keys.script, object::latin1(self.py, script)?)?;
        environ.set_item(&self.keys.path, object::latin1(self.py, path)?)
    }

    /// What else a front end says, as uWSGI's apps find it.
    fn variables(&self, environ: &Bound<'static, PyDict>, gateway: &Gateway) -> PyResult<()> {
        for (name, value) in gateway.variables() {
            environ.set_item(
                PyString::new(self.py, name),
                object::latin1(self.py, value)?,
            )?;
        }
        Ok(())
    }

    /// The header fields.
    fn fields(&self, environ: &Bound<'static, PyDict>, headers: &HeaderMap) -> PyResult<()> {
        // Borrowed while `str` objects are made and put into a dict: no code of the app runs meanwhile.
        let mut known = self.headers.borrow_mut();
        let repeats = headers.len() != headers.keys_len();
        let mut previous: Option<&HeaderName> = None;
        for (name, value) in headers {
            let joined;
            let mut bytes = value.as_bytes();
            if repeats {
                // The lines of one field come one after another, with one and the same name.
                if previous.is_some_and(|previous| std::ptr::eq(previous, name)) {
                    continue;
                }
                previous = Some(name);
                joined = join(headers, name);
                bytes = &joined;
            }
            if let Some(header) = known.get_mut(name) {
                let text = header.text(self.py, bytes)?;
                environ.set_item(&header.key, &text)?;
                continue;
            }
            if known.len() < Header::KEPT {
                let mut header = Header::new(self.py, name);
                let text = header.text(self.py, bytes)?;
                environ.set_item(&header.key, &text)?;
                known.insert(name.clone(), header);
            } else {
                // Not interned: some versions of CPython keep what is interned for ever.
                environ.set_item(key(name), object::latin1(self.py, bytes)?)?;
            }
        }
        drop(known);
        if !headers.contains_key(HOST) {
            environ.del_item(&self.keys.host)?;
        }
        Ok(())
    }

    /// The server's name and port on a unix socket, which has none that an app could make a URL of: the client's word is
    /// the best there is.
    fn server(
        &self,
        environ: &Bound<'static, PyDict>,
        known: &Known,
        origin: &Origin,
    ) -> PyResult<()> {
        let Some(host) = environ.get_item(&self.keys.host)? else {
            // Where a proxy tells of a client by TCP, the template may have another connection's.
            environ.set_item(&self.keys.server_port, &self.values.empty)?;
            return environ.set_item(&self.keys.server_name, &known.server_name);
        };
        let (name, port) = split_host(host.cast::<PyString>()?.to_str()?);
        environ.set_item(&self.keys.server_name, name)?;
        let default = match origin.scheme {
            Scheme::Http => &self.values.port_http,
            Scheme::Https => &self.values.port_https,
        };
        match port {
            Some(port) => environ.set_item(&self.keys.server_port, port),
            None => environ.set_item(&self.keys.server_port, default),
        }
    }

    /// The strings of a connection: made once, as long as not too many others come between.
    fn known(&self, ends: &Arc<Ends>) -> PyResult<Rc<Known>> {
        // Allocations are at least 16 bytes apart.
        let index = (Arc::as_ptr(ends).addr() >> 4) % Known::KEPT;
        let known = self.ends.borrow()[index].clone();
        if let Some(known) = known
            && Arc::ptr_eq(&known.ends, ends)
        {
            return Ok(known);
        }
        let names = &mut *self.names.borrow_mut();
        let known = Rc::new(Known::new(self.py, ends, &self.values, names)?);
        let old = self.ends.borrow_mut()[index].replace(Rc::clone(&known));
        drop(old);
        Ok(known)
    }
}

/// A copy of `dict` whose keys are interned, so that a look-up compares addresses.
fn interned(dict: &Bound<'static, PyDict>) -> PyResult<Bound<'static, PyDict>> {
    let copy = PyDict::new(dict.py());
    for (key, value) in dict.iter() {
        copy.set_item(
            PyString::intern(dict.py(), key.cast::<PyString>()?.to_str()?),
            value,
        )?;
    }
    Ok(copy)
}
