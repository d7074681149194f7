//! Responses compressed by `tower-http`, whatever app or file they come from.

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderMap};
use http::{Extensions, HeaderValue, Request, Response, StatusCode, Version, response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression as Service, CompressionBody};
use tower_service::Service as _;

use super::coming::{Coming, Compressed, Source};
use crate::config::{Algorithm, Config};
use crate::error::AnyError;

/// Beside the library's own: what is compressed by its nature.
const DENSE: [&str; 7] = [
    "video/",
    "audio/",
    "font/woff",
    "application/zip",
    "application/gzip",
    "application/zstd",
    "application/x-7z-compressed",
];

/// How responses are compressed.
#[derive(Clone, Debug)]
pub(crate) struct Compression {
    algorithms: Vec<Algorithm>,
    least: u64,
}

impl Compression {
    /// As the configuration says; `None` where it says not to.
    pub(super) fn of(config: &Config) -> Option<Self> {
        (!config.compress.is_empty()).then(|| Self {
            algorithms: config.compress.clone(),
            least: config.compress_min_size,
        })
    }

    /// The body of a response to who has asked with these fields, compressed where that may be; and its length, if known.
    pub(super) fn encode<B>(
        &self,
        asked: &HeaderMap,
        parts: &mut response::Parts,
        body: Source<B>,
        length: Option<u64>,
    ) -> (Coming<B>, Option<u64>)
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        let body = Announced::new(body, length);
        let (mut taken, ()) = Response::new(()).into_parts();
        std::mem::swap(parts, &mut taken);
        let before = taken.headers.contains_key(CONTENT_ENCODING);
        let response = self.apply(asked, Response::from_parts(taken, body));
        let (changed, mut body) = response.into_parts();
        *parts = changed;
        if before || !parts.headers.contains_key(CONTENT_ENCODING) {
            // As it was: without the library around it.
            if let Some(body) = body.get_mut().body.take() {
                return (Coming::Plain { body }, length);
            }
        }
        let body = Box::pin(body);
        (Coming::Compressed { body }, None)
    }

    /// A response as the library leaves it.
    fn apply<B>(
        &self,
        asked: &HeaderMap,
        response: Response<Announced<B>>,
    ) -> Response<CompressionBody<Announced<B>>>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        let status = response.status();
        let has = |algorithm| self.algorithms.contains(&algorithm);
        let worthy = SizeAbove::new(self.least)
            .and(NotForContentType::GRPC)
            .and(NotForContentType::IMAGES)
            .and(NotForContentType::SSE)
            .and(may_be_changed);
        let mut service = Service::new(Once(Some(response)))
            .br(has(Algorithm::Brotli))
            .zstd(has(Algorithm::Zstd))
            .gzip(has(Algorithm::Gzip))
            .no_deflate()
            .compress_when(worthy);
        let mut request = Request::new(());
        request.headers_mut().clone_from(asked);
        let mut answer = std::pin::pin!(service.call(request));
        let polled = answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let mut response = match polled {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(never)) => match never {},
            // What is ready stays so.
            Poll::Pending => Response::new(CompressionBody::default()),
        };
        // The library's 406 for who refuses every encoding is not the app's answer (RFC 9110 section 12.5.3).
        *response.status_mut() = status;
        if response.headers().contains_key(CONTENT_ENCODING) {
            weaken(response.headers_mut());
        }
        response
    }
}

/// The bytes are not the ones that a strong tag stands for (RFC 9110 section 8.8.3.3).
fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG)
        && tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

/// Whether a response may be another one on its way, and whether it is worth it.
fn may_be_changed(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let keeps = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    };
    let kind = headers
        .get(http::header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes)
        .to_ascii_lowercase();
    status != StatusCode::PARTIAL_CONTENT
        && !headers.get_all(CACHE_CONTROL).iter().any(keeps)
        && !DENSE.iter().any(|dense| kind.starts_with(dense.as_bytes()))
}

/// A service that has its one answer.
struct Once<B>(Option<Response<Announced<B>>>);

impl<B> tower_service::Service<Request<()>> for Once<B>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    type Response = Response<Announced<B>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let response = self.0.take();
        ready(Ok(
            response.unwrap_or_else(|| Response::new(Announced::default()))
        ))
    }
}

/// The next piece of a compressed body.
///
/// When the app has nothing more yet, the library gives out what it has of the piece before, and would ask the app again at
/// once. But the app may be about to do something that takes long: what there is has to be sent first.
pub(super) fn poll_compressed<B>(
    mut body: Pin<&mut Compressed<B>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, AnyError>>>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    let parked =
        |body: Pin<&mut Compressed<B>>| std::mem::take(body.get_pin_mut().project().parked);
    if parked(body.as_mut()) {
        // Whoever said so wakes the task, or has done so already.
        return Poll::Pending;
    }
    let polled = body.as_mut().poll_frame(cx);
    if polled.is_pending() {
        parked(body);
    }
    polled
}

/// An app's body ended before the length that it announced, which a compressed one no longer shows.
#[derive(Debug, thiserror::Error)]
#[error("the app's body ended {0} bytes before its Content-Length")]
struct Short(u64);

pin_project! {
    /// A body that is held to its length, and cut off at it.
    #[derive(Debug)]
    pub(super) struct Announced<B> {
        #[pin]
        body: Option<Source<B>>,
        left: Option<u64>,
        // It has said that nothing more is there yet: it is not asked again in this turn, however often the library asks.
        parked: bool,
    }
}

impl<B> Default for Announced<B> {
    fn default() -> Self {
        Self {
            body: None,
            left: None,
            parked: false,
        }
    }
}

impl<B> Announced<B> {
    pub(super) fn new(body: Source<B>, length: Option<u64>) -> Self {
        Self {
            body: Some(body),
            left: length,
            parked: false,
        }
    }
}

impl<B> Body for Announced<B>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        if *this.parked {
            return Poll::Pending;
        }
        let Poll::Ready(frame) = body.poll_frame(cx) else {
            *this.parked = true;
            return Poll::Pending;
        };
        let Some(left) = this.left else {
            return Poll::Ready(frame);
        };
        Poll::Ready(match frame {
            None if *left > 0 => Some(Err(Short(std::mem::take(left)).into())),
            Some(Ok(frame)) => Some(Ok(frame.map_data(|mut data| {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= u64::try_from(data.len()).unwrap_or(*left);
                data
            }))),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none_or(|left| left == 0)
            && self.body.as_ref().is_none_or(Source::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.left, &self.body) {
            (Some(left), _) => SizeHint::with_exact(left),
            (None, Some(body)) => body.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
    use http_body_util::BodyExt;

    use super::*;
    use crate::app::FileBody;

    type Text = http_body_util::combinators::MapErr<
        http_body_util::Full<Bytes>,
        fn(Infallible) -> AnyError,
    >;

    fn text(text: &'static str, length: u64) -> Announced<Text> {
        let body = http_body_util::Full::from(text);
        let never: fn(Infallible) -> AnyError = |never| match never {};
        let body = Source::App {
            body: body.map_err(never),
        };
        Announced::new(body, Some(length))
    }

    fn compress(
        accepts: &'static str,
        fields: &[(http::HeaderName, &'static str)],
    ) -> Response<CompressionBody<Announced<Text>>> {
        let compression = Compression {
            algorithms: vec![Algorithm::Gzip],
            least: 5,
        };
        let mut response = Response::new(text("aaaaaaaaaa", 10));
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        let mut asked = HeaderMap::new();
        asked.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepts));
        compression.apply(&asked, response)
    }

    #[test]
    fn what_a_client_takes_is_compressed_and_its_tag_is_weak() {
        let response = compress("br, gzip", &[(ETAG, "\"a\""), (CONTENT_LENGTH, "10")]);
        let headers = response.headers();
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        assert_eq!(headers[ETAG], "W/\"a\"");
        assert_eq!(headers[VARY], "accept-encoding");
        assert!(!headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn what_may_not_be_changed_is_not() {
        for fields in [
            &[(CACHE_CONTROL, "public, No-Transform")][..],
            &[(CONTENT_ENCODING, "br")],
            &[(CONTENT_TYPE, "image/png")],
            &[(CONTENT_TYPE, "text/event-stream")],
            &[(CONTENT_TYPE, "video/mp4")],
            &[(CONTENT_LENGTH, "4"), (CONTENT_TYPE, "application/zip")],
        ] {
            let response = compress("gzip", fields);
            let encoding = response.headers().get(CONTENT_ENCODING);
            assert!(encoding.is_none_or(|it| it == "br"), "{fields:?}");
            assert!(!response.headers().contains_key(VARY), "{fields:?}");
        }
        let refused = compress("identity;q=0, br", &[]);
        assert_eq!(refused.status(), StatusCode::OK);
        assert!(!refused.headers().contains_key(CONTENT_ENCODING));
    }

    #[tokio::test]
    async fn a_body_is_held_to_its_length() {
        let whole = text("0123456789", 4).collect().await.unwrap().to_bytes();
        assert_eq!(whole, "0123");
        let short = text("0123456789", 11).collect().await.unwrap_err();
        assert!(
            short.to_string().contains("ended 1 bytes before"),
            "{short}"
        );
        let file = Source::<Text>::File {
            body: FileBody::default(),
        };
        assert!(Announced::new(file, None).is_end_stream());
    }
}
