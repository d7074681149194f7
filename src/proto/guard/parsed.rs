//! The same rules for a request whose head another parser has read, as that of HTTP/2 is.

use http::{HeaderMap, StatusCode};

use super::head::{Head, check_method, check_target};
use super::{Facts, Refusal, Rules};

/// What a request line has besides method and target: two spaces and a version.
const REST_OF_LINE: usize = 10;

impl Rules {
    /// Judges a request by what it would be in HTTP/1.1, its `Host` included; the limits are the same.
    ///
    /// # Errors
    /// [`Refusal`] with the answer.
    pub(crate) fn judge(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Facts, Refusal> {
        check_method(method.as_bytes())?;
        let line = method.len().saturating_add(target.len());
        if line.saturating_add(REST_OF_LINE) > self.line {
            return Err(Refusal::new(
                StatusCode::URI_TOO_LONG,
                "request line too large",
            ));
        }
        check_target(method.as_bytes(), target.as_bytes())?;
        if target.starts_with(['h', 'H']) {
            return Err(Refusal::bad("invalid request target"));
        }
        let fields = headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        Head::of_fields(self, fields)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn judge(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<Facts, u16> {
        let rules = Rules::new(60, 4, 30, 10, ["x-forwarded-proto"]);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        rules
            .judge(method, target, &headers)
            .map_err(|refusal| refusal.status.as_u16())
    }

    const HOST: (&str, &str) = ("host", "x");

    #[test]
    fn a_request_in_order_tells_its_facts() {
        let facts = judge("GET", "/a?b", &[HOST]).expect("in order");
        assert_eq!(facts, Facts::default());
        let fields = [HOST, ("x_a", "1"), ("x-forwarded-proto", "https")];
        let facts = judge("OPTIONS", "*", &fields).expect("in order");
        assert!(facts.underscores && facts.watched);
        assert!(judge("POST", "/", &[HOST, ("expect", "100-continue")]).is_ok());
    }

    #[test]
    fn what_http1_refuses_is_refused() {
        for (method, target, fields, status) in [
            ("get", "/", &[HOST][..], 400),
            ("GE", "/", &[HOST], 400),
            ("CONNECT", "x:1", &[HOST], 501),
            ("GET", "*", &[HOST], 400),
            ("GET", "http://x/", &[HOST], 400),
            ("GET", "/a b", &[HOST], 400),
            ("GET", "/\u{e4}", &[HOST], 400),
            ("GET", &format!("/{}", "a".repeat(60)), &[HOST], 414),
            ("GET", "/", &[], 400),
            ("GET", "/", &[HOST, HOST], 400),
            ("GET", "/", &[("host", "a@b")], 400),
            ("GET", "/", &[HOST, ("a", " b")], 400),
            ("GET", "/", &[HOST, ("content-length", "1, 1")], 400),
            ("GET", "/", &[HOST, ("content-length", "11")], 413),
            ("GET", "/", &[HOST, ("transfer-encoding", "gzip")], 400),
            ("GET", "/", &[HOST, ("expect", "more")], 417),
            ("GET", "/", &[HOST, ("a", &"b".repeat(26))], 431),
            (
                "GET",
                "/",
                &[HOST, ("a", ""), ("b", ""), ("c", ""), ("d", "")],
                431,
            ),
        ] {
            let judged = judge(method, target, fields);
            assert_eq!(judged, Err(status), "{method} {target} {fields:?}");
        }
    }
}
