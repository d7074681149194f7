//! A plain function as the service, without a framework. A client that asks for the protocol `shout` (RFC 9110 section 7.8) has
//! the connection to itself: each line comes back in capitals, until either side leaves.
//!
//! ```text
//! cargo run --release --example hyper -- -w 2 -b 127.0.0.1:8000
//! curl -d 'hello' http://127.0.0.1:8000
//! ```

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;

use http::header::UPGRADE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rgun_async::app::{Body, Drain, Origin};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

fn main() -> ExitCode {
    rgun_async::Server::new()
        .about("Answers in capitals")
        .serve(|| async { tower::service_fn(shout) })
}

/// What the connection may be switched to.
const SHOUT: HeaderValue = HeaderValue::from_static("shout");

/// Longer lines come back in pieces.
const LONGEST: u16 = 1024;

async fn shout(request: Request<Body>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    // It is there where the connection can be switched: HTTP/1.0 and HTTP/2 know no such thing.
    let can = request.extensions().get::<OnUpgrade>().is_some();
    if can && request.headers().get(UPGRADE) == Some(&SHOUT) {
        return Ok(switch(request));
    }
    let response = match request.into_body().collect().await {
        Ok(body) => Response::new(Full::from(body.to_bytes().to_ascii_uppercase())),
        Err(error) => {
            // A body that was cut off, or is not what its framing says, is an error here, never a short body.
            let mut response = Response::new(Full::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    Ok(response)
}

/// The connection leaves HTTP behind this answer.
fn switch(mut request: Request<Body>) -> Response<Full<bytes::Bytes>> {
    let origin = request.extensions_mut().remove::<Origin>();
    tokio::spawn(async move {
        // It fails if the client has left before it had the answer.
        if let (Ok(stream), Some(origin)) = (hyper::upgrade::on(request).await, origin)
            && let Err(error) = converse(stream, origin.drain()).await
        {
            eprintln!("a conversation ended: {error}");
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, SHOUT);
    response
}

/// Answers line by line. A worker that is about to leave waits for its conversations until `--graceful-timeout`: it is for each
/// to come to an end.
async fn converse(stream: Upgraded, drain: &Drain) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(LONGEST.into(), TokioIo::new(stream));
    let mut line = Vec::new();
    loop {
        let mut few = (&mut stream).take(LONGEST.into());
        tokio::select! {
            read = few.read_until(b'\n', &mut line) => if read? == 0 { break },
            () = drain.begun() => {
                stream.write_all(b"COME AGAIN\n").await?;
                break;
            }
        }
        line.make_ascii_uppercase();
        stream.write_all(&line).await?;
        line.clear();
    }
    stream.shutdown().await
}
