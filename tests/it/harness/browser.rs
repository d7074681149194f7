//! A client as people have: it keeps cookies and its connection, fills forms in and sends files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Address, Client, Response, Server};

/// What a multipart form is cut with; in no file of the tests.
const BOUNDARY: &str = "----a-boundary-of-the-tests";

/// A person's session with a server.
pub(crate) struct Browser {
    address: Address,
    host: String,
    client: Option<Client>,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// For the site `host` of this server.
    pub(crate) fn of(server: &Server, host: &str) -> Self {
        Self {
            address: server.address(),
            host: host.to_owned(),
            client: None,
            cookies: BTreeMap::new(),
        }
    }

    /// The value of this cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.ask("GET", path, &[], b"")
    }

    /// A request with these headers and this body, and the cookies so far.
    #[track_caller]
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let _ = write!(head, "Cookie: {}\r\n", pairs.join("; "));
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut client = self
            .client
            .take()
            .unwrap_or_else(|| Client::connect(&self.address));
        client.send(head);
        // Who refuses a body may hang up before its end; the answer is there all the same.
        let whole = client.try_send(body).is_ok();
        let response = client.response_to(method);
        for line in response.all("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if whole && !response.says_close() {
            self.client = Some(client);
        }
        response
    }

    /// A request with JSON in it.
    #[track_caller]
    pub(crate) fn post_json(&mut self, path: &str, json: &serde_json::Value) -> Response {
        let body = json.to_string();
        let headers = [("Content-Type", "application/json")];
        self.ask("POST", path, &headers, body.as_bytes())
    }

    /// A form without files.
    #[track_caller]
    pub(crate) fn post_form(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, &headers, pairs.join("&").as_bytes())
    }

    /// A form with files: the name of each field, the name of its file, and what is in it.
    #[track_caller]
    pub(crate) fn upload(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &str, &[u8])],
    ) -> Response {
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend(
                format!(
                    "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .into_bytes(),
            );
        }
        for (name, filename, bytes) in files {
            body.extend(
                format!(
                    "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\
                     Content-Type: application/octet-stream\r\n\r\n"
                )
                .into_bytes(),
            );
            body.extend_from_slice(bytes);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask("POST", path, &[("Content-Type", &kind)], &body)
    }
}

/// As a form's fields are written (WHATWG URL, application/x-www-form-urlencoded).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut done, byte| {
        if byte.is_ascii_alphanumeric() {
            done.push(char::from(byte));
        } else {
            let _ = write!(done, "%{byte:02X}");
        }
        done
    })
}

/// What the field `name` of a page's form has in it.
#[track_caller]
pub(crate) fn field(page: &Response, name: &str) -> String {
    let text = page.text();
    let from = text
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no field {name} in {text}"));
    let (value, _) = from.1.split_once('"').expect("a quoted value");
    value.to_owned()
}
