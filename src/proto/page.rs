//! Answers that are ours and not the app's: small HTML pages like Gunicorn's.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use http::{HeaderValue, Response, StatusCode};

/// The page for `status`. `reason` must be a text of ours: it is not escaped.
fn html(status: StatusCode, reason: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Error");
    format!(
        "<html>\n  <head>\n    <title>{title}</title>\n  </head>\n  <body>\n    \
         <h1><p>{title}</p></h1>\n    {reason}\n  </body>\n</html>\n"
    )
}

/// The page as a response that closes the connection.
pub(super) fn response(status: StatusCode, reason: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(html(status, reason)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The page for a static file that there is none of: the fields stay, and the connection.
pub(super) fn of_file<B>(response: Response<B>) -> Response<Bytes> {
    let (mut parts, _) = response.into_parts();
    let page = Bytes::from(html(parts.status, ""));
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    Response::from_parts(parts, page)
}

/// Whether requests are welcome; where they are not, not on this connection either.
pub(super) fn readiness(draining: bool) -> Response<Bytes> {
    let text = if draining { "draining\n" } else { "ready\n" };
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if draining {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// The answer to a request that becomes the first one of HTTP/2 (RFC 7540 section 3.2).
pub(super) fn switch_to_http2() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("h2c"));
    response
}

/// The answer of a worker that has no room for the request (RFC 9110 section 15.6.4).
pub(super) fn no_room() -> Response<Bytes> {
    let mut response = response(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The page as bytes, for a request that never became one.
pub(super) fn raw(status: StatusCode, reason: &str) -> Vec<u8> {
    let page = html(status, reason);
    format!(
        "HTTP/1.1 {} {}\r\nserver: {}\r\nconnection: close\r\ncontent-type: text/html\r\n\
         content-length: {}\r\n\r\n{page}",
        status.as_str(),
        status.canonical_reason().unwrap_or("Error"),
        super::reply::SERVER_NAME,
        page.len(),
    )
    .into_bytes()
}
