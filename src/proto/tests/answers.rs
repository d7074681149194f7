//! Answers as the app gave them, and apps that fail.

use super::*;

pub(super) type Frames = StreamBody<Iter<std::vec::IntoIter<Result<Frame<Bytes>, AnyError>>>>;

/// A response of unknown length, whose body is these pieces.
pub(super) fn response(
    fields: &[(&str, &str)],
    body: &[&'static str],
) -> Result<Response<Frames>, http::Error> {
    let mut response = Response::builder();
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let frames: Vec<_> = body
        .iter()
        .map(|text| match *text {
            "ERROR" => Err(AnyError::from("the body broke")),
            text => Ok(Frame::data(Bytes::from(text))),
        })
        .collect();
    response.body(StreamBody::new(Iter(frames.into_iter())))
}

/// A stream of what an iterator gives.
pub(super) struct Iter<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

#[test]
fn more_than_the_announced_length_is_not_sent() {
    run(async {
        let http = serve(app(|_| async {
            response(&[("content-length", "5")], &["hel", "lo wo", "rld"])
        }));
        let mut client = connect(&http).await;
        for _ in 0..2 {
            client.write_all(GET).await.expect("sent");
            let answer = read_until(&mut client, "hello").await;
            assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        }
    });
}

#[test]
fn less_than_the_announced_length_cuts_the_connection() {
    run(async {
        let http = serve(app(|_| async {
            response(&[("content-length", "5")], &["hel"])
        }));
        let mut client = connect(&http).await;
        client.write_all(GET).await.expect("sent");
        assert!(
            client.read_to_end(&mut Vec::new()).await.is_err(),
            "a reset"
        );
        // Where it is known in time, the client is told.
        let http = serve(app(|_| async {
            let response = Response::builder().header("content-length", "5");
            response.body(Full::<Bytes>::from("hel"))
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
            "{answer}"
        );
    });
}

#[test]
fn a_body_of_unknown_length_is_chunked_and_an_error_cuts_it() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            match request.uri().path() {
                "/bad" => response(&[], &["hel", "ERROR"]),
                _ => response(&[], &["hel", "", "lo"]),
            }
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.ends_with("\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            "{answer}"
        );
        let answer = talk(&http, b"GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        let mut client = connect(&http).await;
        client
            .write_all(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("sent");
        assert!(
            client.read_to_end(&mut Vec::new()).await.is_err(),
            "a reset"
        );
    });
}

#[test]
fn head_204_and_304_have_no_body() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            let status = request
                .uri()
                .path()
                .trim_start_matches('/')
                .parse()
                .unwrap_or(200);
            Response::builder()
                .status(status)
                .body(Full::<Bytes>::from("hello"))
        }));
        let head = b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = talk(&http, head).await;
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        for status in ["204", "304"] {
            let get = format!("GET /{status} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = talk(&http, get.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(
                answer.ends_with("\r\n\r\n") && !answer.contains("content-length"),
                "{answer}"
            );
        }
        let answer = talk(
            &http,
            b"GET /103 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    });
}

#[test]
fn fields_that_are_the_servers_are_not_the_apps() {
    run(async {
        let http = serve(app(|_| async {
            let fields = [
                ("transfer-encoding", "gzip"),
                ("connection", "upgrade"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "websocket"),
                ("server", "mine"),
                ("x-other", "stays"),
            ];
            response(&fields, &["ok"])
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.contains("transfer-encoding: chunked\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("server: mine\r\n"), "{answer}");
        assert!(answer.contains("x-other: stays\r\n"), "{answer}");
        assert!(
            !answer.contains("upgrade") && !answer.contains("keep-alive"),
            "{answer}"
        );
        let http = serve(app(|_| async {
            response(&[("connection", "Close")], &["ok"])
        }));
        assert!(talk(&http, GET).await.contains("connection: close\r\n"));
    });
}

#[test]
fn an_app_that_fails_or_panics_is_a_500_and_the_connection_goes_on() {
    run(async {
        std::panic::set_hook(Box::new(|_| ()));
        let http = serve(app(|request: Request<Body>| async move {
            assert_ne!(request.uri().path(), "/panic", "as asked");
            Err::<Response<Full<Bytes>>, _>("no")
        }));
        let mut client = connect(&http).await;
        for path in ["/", "/panic", "/"] {
            let get = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            client.write_all(get.as_bytes()).await.expect("sent");
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            client = connect(&http).await;
        }
        let _ = std::panic::take_hook();
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_body_back() {
    run(async {
        let given = Rc::new(Cell::new(0));
        let count = Rc::clone(&given);
        let http = serve(app(move |_| {
            let count = Rc::clone(&count);
            let frames = std::iter::repeat_with(move || {
                count.set(count.get() + 50_000);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(PIECE)))
            });
            async {
                Ok::<_, Infallible>(Response::new(StreamBody::new(Iter(frames.take(2000)))))
            }
        }));
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(GET_AND_CLOSE).await.expect("sent");
        let mut before = usize::MAX;
        while before != given.get() {
            before = given.get();
            settle().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            before > 0 && before < 50_000_000,
            "{before} bytes given to a client that reads none"
        );
        // It goes on when the client does.
        let mut sink = vec![0; 1 << 20];
        for _ in 0..20 {
            assert!(client.read(&mut sink).await.expect("bytes") > 0);
            settle().await;
        }
        assert!(given.get() > before);
        // And is cut when it stops for good.
        pass(&http, &now, 13).await;
        assert_eq!(http.connections().len(), 0);
    });
}
