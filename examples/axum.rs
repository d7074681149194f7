//! An axum `Router` with the whole operations side of rgun-async: workers, reload, upgrade, drain.
//!
//! ```text
//! cargo run --release --example axum -- -w 4 --worker-connections 1000 -b 127.0.0.1:8000
//! curl http://127.0.0.1:8000/users/7
//! ```

use std::process::ExitCode;

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use rgun_async::app::Origin;

fn main() -> ExitCode {
    rgun_async::serve(router)
}

/// Runs in each worker, after the fork: open connection pools here.
async fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello world!"))
        .route("/users/{id}", get(user))
        .route("/echo", post(async |body: String| body))
        .route("/peer", get(peer))
        .route("/sleep/{ms}", get(sleep))
}

async fn user(Path(id): Path<u64>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "id": id, "name": format!("user {id}") }))
}

async fn peer(Extension(origin): Extension<Origin>) -> String {
    format!("{:?} over {:?}", origin.ends.peer, origin.scheme)
}

async fn sleep(Path(ms): Path<u64>) -> String {
    tokio::time::sleep(std::time::Duration::from_millis(ms.min(60_000))).await;
    format!("slept {ms} ms")
}
