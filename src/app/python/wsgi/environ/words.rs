//! The keys and values that are set by name: interned, and made once.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::Text;

macro_rules! texts {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        pub(in crate::app::python::wsgi) struct $name { $(pub(super) $field: Text),+ }
        impl $name {
            pub(super) fn new(py: Python<'static>) -> Self {
                Self { $($field: PyString::intern(py, $text)),+ }
            }
        }
    };
}

texts! {
    /// The keys that are set by name.
    struct Keys {
        method = "REQUEST_METHOD",
        script = "SCRIPT_NAME",
        path = "PATH_INFO",
        query = "QUERY_STRING",
        uri = "RAW_URI",
        protocol = "SERVER_PROTOCOL",
        server_name = "SERVER_NAME",
        server_port = "SERVER_PORT",
        remote_addr = "REMOTE_ADDR",
        remote_port = "REMOTE_PORT",
        host = "HTTP_HOST",
        proxy_protocol = "PROXY_PROTOCOL",
        proxy_addr = "PROXY_ADDR",
        proxy_port = "PROXY_PORT",
        scheme = "wsgi.url_scheme",
        input = "wsgi.input",
        early_hints = "wsgi.early_hints",
    }
}

texts! {
    /// The values that many requests share.
    struct Values {
        post = "POST",
        head = "HEAD",
        put = "PUT",
        delete = "DELETE",
        patch = "PATCH",
        options = "OPTIONS",
        http_10 = "HTTP/1.0",
        https = "https",
        port_http = "80",
        port_https = "443",
        empty = "",
    }
}
