//! What is asked for: the request target, of the variables that tell of it.
//!
//! `PATH_INFO` decides, as front ends rewrite, and it comes decoded. `REQUEST_URI` is what the client wrote: it is kept
//! where both name the same path, so that the app sees what it would see over HTTP. RFC 3875, sections 4.1.5, 4.1.7 and
//! 4.1.13.

use http::StatusCode;
use percent_encoding::percent_decode;

use crate::proto::guard::{Refusal, class};

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// The variables that tell of the target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told<'a> {
    /// `REQUEST_URI`.
    pub(super) uri: Option<&'a [u8]>,
    /// `PATH_INFO`.
    pub(super) path: Option<&'a [u8]>,
    /// `QUERY_STRING`.
    pub(super) query: Option<&'a [u8]>,
    /// `SCRIPT_NAME`; empty for the root.
    pub(super) script: &'a [u8],
}

/// Whether `path` is `root` or lies under it.
fn lies_under(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || root.ends_with(b"/"))
}

impl Told<'_> {
    /// Appends the request target to `head`. The app's path, decoded, begins with `SCRIPT_NAME`.
    ///
    /// # Errors
    /// 400 where the variables make no target.
    pub(super) fn write(&self, head: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(uri) = self.uri else {
            let path = [self.script, self.path.unwrap_or_default()].concat();
            encode(head, &path)?;
            return query(head, self.query.filter(|query| !query.is_empty()));
        };
        if !uri.iter().all(u8::is_ascii_graphic) {
            return Err(bad("invalid REQUEST_URI"));
        }
        let (raw, raw_query) = match uri.iter().position(|&byte| byte == b'?') {
            Some(mark) => (uri.get(..mark).unwrap_or_default(), uri.get(mark + 1..)),
            None => (uri, None),
        };
        self.write_path(raw, head)?;
        match self.query {
            Some(told) if told != raw_query.unwrap_or_default() => {
                query(head, Some(told).filter(|told| !told.is_empty()))
            }
            Some(_) | None => query(head, raw_query),
        }
    }

    /// The path: as the client wrote it, or made of what the front end says.
    fn write_path(&self, raw: &[u8], head: &mut Vec<u8>) -> Result<(), Refusal> {
        let path = match self.path {
            // The asterisk form and the absolute form have no path to compare with.
            None | Some(b"" | b"*") if !raw.starts_with(b"/") => {
                head.extend_from_slice(raw);
                return Ok(());
            }
            None => {
                let decoded: Vec<u8> = percent_decode(raw).collect();
                if !lies_under(&decoded, self.script) {
                    return Err(bad("REQUEST_URI does not begin with SCRIPT_NAME"));
                }
                head.extend_from_slice(raw);
                return Ok(());
            }
            Some(path) => path,
        };
        let script = self.script;
        let decoded: Vec<u8> = percent_decode(raw).collect();
        if script.is_empty() {
            if decoded == path && !raw.is_empty() {
                head.extend_from_slice(raw);
                return Ok(());
            }
            return encode(head, path);
        }
        let under = lies_under(path, script);
        let beneath = [script, path].concat();
        if decoded == beneath || (decoded == path && under) {
            head.extend_from_slice(raw);
            Ok(())
        } else if decoded == path || !under || decoded.starts_with(&[script, script].concat()) {
            encode(head, &beneath)
        } else {
            // PATH_INFO is the whole path, as nginx's $document_uri is.
            encode(head, path)
        }
    }
}

fn query(head: &mut Vec<u8>, query: Option<&[u8]>) -> Result<(), Refusal> {
    if let Some(query) = query {
        if !query.iter().all(u8::is_ascii_graphic) {
            return Err(bad("invalid QUERY_STRING"));
        }
        head.push(b'?');
        head.extend_from_slice(query);
    }
    Ok(())
}

/// Appends a decoded path in its encoded form.
fn encode(head: &mut Vec<u8>, path: &[u8]) -> Result<(), Refusal> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if path.is_empty() {
        head.push(b'/');
        return Ok(());
    }
    if !path.starts_with(b"/") {
        return Err(bad("PATH_INFO does not begin with a slash"));
    }
    for &byte in path {
        if byte != b'%' && class::class(byte) & class::PATH != 0 {
            head.push(byte);
        } else {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
            head.extend_from_slice(&[b'%', high, low]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(
        script: &'static str,
        uri: Option<&'static str>,
        path: Option<&'static str>,
        query: Option<&'static str>,
    ) -> Result<String, &'static str> {
        let told = Told {
            uri: uri.map(str::as_bytes),
            path: path.map(str::as_bytes),
            query: query.map(str::as_bytes),
            script: script.as_bytes(),
        };
        let mut head = Vec::new();
        told.write(&mut head).map_err(|refusal| refusal.reason)?;
        Ok(String::from_utf8(head).expect("ASCII"))
    }

    fn written(
        script: &'static str,
        uri: &'static str,
        path: &'static str,
        query: &'static str,
    ) -> String {
        target(script, Some(uri), Some(path), Some(query)).expect("a target")
    }

    #[test]
    fn the_clients_spelling_is_kept_where_the_front_end_rewrote_nothing() {
        assert_eq!(written("", "/a%20b?c=%20", "/a b", "c=%20"), "/a%20b?c=%20");
        assert_eq!(written("", "/?", "/", ""), "/?");
        assert_eq!(written("", "/%61", "/a", ""), "/%61");
    }

    #[test]
    fn what_the_front_end_rewrote_counts() {
        assert_eq!(written("", "/old?a", "/new", "a&b"), "/new?a&b");
        assert_eq!(written("", "/a//b/../c", "/a/c", ""), "/a/c");
        assert_eq!(written("", "/old?a", "/old", ""), "/old");
        assert_eq!(
            written("", "/old", "/a%b?c d\u{e9}", ""),
            "/a%25b%3Fc%20d%C3%A9"
        );
        assert_eq!(written("", "/old", "/\n\0", ""), "/%0A%00");
    }

    #[test]
    fn one_of_the_two_is_enough() {
        assert_eq!(
            target("", Some("/a%20?b"), None, None).as_deref(),
            Ok("/a%20?b")
        );
        assert_eq!(
            target("", None, Some("/a b"), Some("c")).as_deref(),
            Ok("/a%20b?c")
        );
        assert_eq!(target("", None, None, None).as_deref(), Ok("/"));
        assert_eq!(target("", Some("*"), None, None).as_deref(), Ok("*"));
        assert_eq!(target("", Some("*"), Some("*"), None).as_deref(), Ok("*"));
    }

    #[test]
    fn the_path_begins_with_the_mount_point() {
        // As RFC 3875 has it.
        assert_eq!(written("/app", "/app/x%20", "/x ", ""), "/app/x%20");
        assert_eq!(written("/app", "/app", "", ""), "/app");
        assert_eq!(
            target("/app", None, Some("/x"), None).as_deref(),
            Ok("/app/x")
        );
        assert_eq!(
            target("/app", Some("/app/x"), None, None).as_deref(),
            Ok("/app/x")
        );
        // As nginx has it, where PATH_INFO is $document_uri.
        assert_eq!(written("/app", "/app/x", "/app/x", ""), "/app/x");
        assert_eq!(written("/app", "/app//x", "/app/x", ""), "/app/x");
        // A proxy before the front end took it off.
        assert_eq!(written("/app", "/x", "/x", ""), "/app/x");
        assert_eq!(written("/app", "/apple", "/apple", ""), "/app/apple");
        // The app has a path of its own name.
        assert_eq!(written("/app", "/app/app/x", "/app/x", ""), "/app/app/x");
        assert_eq!(written("/app", "/app/app//x", "/app/x", ""), "/app/app/x");
        assert_eq!(written("/a b", "/a%20b/c", "/c", ""), "/a%20b/c");
    }

    #[test]
    fn what_makes_no_target_is_refused() {
        assert_eq!(
            target("", Some("/a b"), None, None),
            Err("invalid REQUEST_URI")
        );
        assert_eq!(
            target("", Some("/a\r\nx: y"), Some("/a"), None),
            Err("invalid REQUEST_URI")
        );
        assert_eq!(
            target("", Some("/a"), Some("/a"), Some("b c")),
            Err("invalid QUERY_STRING")
        );
        assert_eq!(
            target("", Some("/a"), Some("b"), None),
            Err("PATH_INFO does not begin with a slash")
        );
        assert_eq!(
            target("/app", Some("/b"), None, None),
            Err("REQUEST_URI does not begin with SCRIPT_NAME")
        );
    }
}
