//! The strings of a connection: who is at its two ends.

use std::net::IpAddr;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::Text;
use super::words::{Keys, Values};
use crate::app::python::object;
use crate::app::{Address, Ends, Proxied};

/// The strings of one connection.
pub(in crate::app::python::wsgi) struct Known {
    /// Kept alive so that its address keeps its meaning.
    pub(super) ends: Arc<Ends>,
    remote_addr: Text,
    pub(super) remote_port: Option<Text>,
    pub(super) server_name: Text,
    /// `None` for a unix socket.
    pub(super) server_port: Option<Text>,
    pub(super) proxied: Option<ProxiedTexts>,
}

/// What a PROXY header tells of the proxy's own end (Gunicorn: `proxy_environ`).
pub(super) struct ProxiedTexts {
    pub(super) protocol: Text,
    pub(super) addr: Text,
    pub(super) port: Text,
}

impl ProxiedTexts {
    fn new(py: Python<'static>, proxied: &Proxied) -> PyResult<Self> {
        let ip = proxied.server.ip();
        Ok(Self {
            protocol: PyString::intern(py, if ip.is_ipv4() { "TCP4" } else { "TCP6" }),
            addr: object::latin1(py, ip.to_string().as_bytes())?,
            port: port(py, proxied.server.port())?,
        })
    }
}

impl Known {
    /// How many connections are known at once; they overwrite each other beyond.
    pub(super) const KEPT: usize = 512;

    pub(super) fn new(
        py: Python<'static>,
        ends: &Arc<Ends>,
        values: &Values,
        names: &mut Names,
    ) -> PyResult<Self> {
        let (remote_addr, remote_port) = match &ends.peer {
            Address::Tcp(peer) => (names.peer.ip(py, peer.ip())?, Some(port(py, peer.port())?)),
            Address::Unix(_) => (values.empty.clone(), None),
        };
        let (server_name, server_port) = match &ends.local {
            Address::Tcp(local) => {
                let name = names.local.ip(py, local.ip())?;
                (name, Some(names.port(py, local.port())?))
            }
            Address::Unix(Some(path)) => (PyString::new(py, &path.to_string_lossy()), None),
            Address::Unix(None) => (values.empty.clone(), None),
        };
        Ok(Self {
            ends: Arc::clone(ends),
            remote_addr,
            remote_port,
            server_name,
            server_port,
            proxied: match &ends.proxied {
                Some(proxied) => Some(ProxiedTexts::new(py, proxied)?),
                None => None,
            },
        })
    }

    /// Sets them in an environ that has those of `has` already, if of any. The server's name and port on a unix socket are
    /// not among them.
    pub(in crate::app::python::wsgi) fn set(
        &self,
        environ: &Bound<'static, PyDict>,
        keys: &Keys,
        has: Option<&Self>,
    ) -> PyResult<()> {
        let set = |key: &Text, text: &Text, has: Option<&Text>| {
            if has.is_some_and(|has| has.is(text)) {
                return Ok(());
            }
            environ.set_item(key, text)
        };
        let has_addr = has.map(|has| &has.remote_addr);
        set(&keys.remote_addr, &self.remote_addr, has_addr)?;
        if let Some(port) = &self.remote_port {
            let has_port = has.and_then(|has| has.remote_port.as_ref());
            set(&keys.remote_port, port, has_port)?;
        }
        if let Some(port) = &self.server_port {
            let has_name = has.map(|has| &has.server_name);
            set(&keys.server_name, &self.server_name, has_name)?;
            let has_port = has.and_then(|has| has.server_port.as_ref());
            set(&keys.server_port, port, has_port)?;
        }
        Ok(())
    }
}

/// What one connection's strings often have in common with the last one's.
#[derive(Default)]
pub(super) struct Names {
    peer: LastIp,
    local: LastIp,
    port: Option<(u16, Text)>,
}

#[derive(Default)]
struct LastIp(Option<(IpAddr, Text)>);

impl LastIp {
    fn ip(&mut self, py: Python<'static>, ip: IpAddr) -> PyResult<Text> {
        match &self.0 {
            Some((last, text)) if *last == ip => Ok(text.clone()),
            Some(_) | None => {
                let text = object::latin1(py, ip.to_string().as_bytes())?;
                self.0 = Some((ip, text.clone()));
                Ok(text)
            }
        }
    }
}

impl Names {
    fn port(&mut self, py: Python<'static>, number: u16) -> PyResult<Text> {
        match &self.port {
            Some((last, text)) if *last == number => Ok(text.clone()),
            Some(_) | None => {
                let text = port(py, number)?;
                self.port = Some((number, text.clone()));
                Ok(text)
            }
        }
    }
}

fn port(py: Python<'static>, port: u16) -> PyResult<Text> {
    object::latin1(py, itoa::Buffer::new().format(port).as_bytes())
}

/// `host[:port]`; an IPv6 address keeps its brackets.
pub(super) fn split_host(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_split_at_its_port() {
        assert_eq!(split_host("a.b:81"), ("a.b", Some("81")));
        assert_eq!(split_host("a.b"), ("a.b", None));
        assert_eq!(split_host("[::1]:81"), ("[::1]", Some("81")));
        assert_eq!(split_host("[::1]"), ("[::1]", None));
    }
}
