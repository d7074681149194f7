//! The keys and values that are set by name: interned, and made once.

use crate::app::python::texts::texts;

texts! {
    /// The keys that are set by name.
    pub(in crate::app::python::wsgi) struct Keys {
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
    pub(in crate::app::python::wsgi) struct Values {
        post = "POST",
        head = "HEAD",
        put = "PUT",
        delete = "DELETE",
        patch = "PATCH",
        options = "OPTIONS",
        http_10 = "HTTP/1.0",
        http_2 = "HTTP/2.0",
        https = "https",
        port_http = "80",
        port_https = "443",
        empty = "",
    }
}
