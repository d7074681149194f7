//! A plain function as the service, without a framework.
//!
//! ```text
//! cargo run --release --example hyper -- -w 2 -b 127.0.0.1:8000
//! ```

use std::convert::Infallible;
use std::process::ExitCode;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rgun_async::app::Body;

fn main() -> ExitCode {
    rgun_async::Server::new()
        .about("Answers in capitals")
        .serve(|| async { tower::service_fn(shout) })
}

async fn shout(request: Request<Body>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
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
