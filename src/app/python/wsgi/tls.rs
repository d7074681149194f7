//! What an environ tells of a connection's TLS: variables of the CGI environment as Apache's `mod_ssl` names them, which
//! apps know (`SSLOptions +StdEnvVars +ExportCertData`).

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::app::{Tls, pem};

/// Made once for a connection.
pub(super) fn variables(py: Python<'static>, tls: &Tls) -> PyResult<Bound<'static, PyDict>> {
    let variables = PyDict::new(py);
    variables.set_item("HTTPS", "on")?;
    variables.set_item("SSL_PROTOCOL", tls.version_name())?;
    variables.set_item("SSL_CIPHER", tls.cipher)?;
    let session = if tls.resumed { "Resumed" } else { "Initial" };
    variables.set_item("SSL_SESSION_RESUMED", session)?;
    if let Some(name) = &tls.server_name {
        variables.set_item("SSL_TLS_SNI", &**name)?;
    }
    let Some(client) = &tls.client else {
        variables.set_item("SSL_CLIENT_VERIFY", "NONE")?;
        return Ok(variables);
    };
    variables.set_item("SSL_CLIENT_VERIFY", "SUCCESS")?;
    variables.set_item("SSL_CLIENT_S_DN", &client.subject)?;
    variables.set_item("SSL_CLIENT_I_DN", &client.issuer)?;
    variables.set_item("SSL_CLIENT_M_SERIAL", &client.serial)?;
    if let Some(certificate) = client.chain.first() {
        variables.set_item("SSL_CLIENT_CERT", pem(certificate))?;
    }
    Ok(variables)
}
