//! A WebSocket by axum, with an orderly end: when the worker drains (a reload, an upgrade, TERM) each connection says
//! goodbye (1012, "come again"), and the new worker takes the client when it comes back.
//!
//! ```text
//! cargo run --release --example axum_ws -- -w 4 -b 127.0.0.1:8000
//! python -m websockets ws://127.0.0.1:8000/echo
//! ```

use std::process::ExitCode;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use rgun_async::app::{Drain, Origin};

/// Bytes that one connection reads at a time.
const READ_BUFFER: usize = 4096;

fn main() -> ExitCode {
    rgun_async::serve(async || {
        Router::new()
            .route("/", get(async || "hello world!"))
            .route("/echo", get(echo))
            .route("/deaf", get(deaf))
    })
}

/// Sends back what comes, until the client or the worker leaves.
async fn echo(upgrade: WebSocketUpgrade, Extension(origin): Extension<Origin>) -> Response {
    // Each connection holds its buffer for as long as it lives: with the library's 128 KiB 10,000 of them take 1.3 GB.
    let upgrade = upgrade.read_buffer_size(READ_BUFFER);
    upgrade.on_upgrade(async move |mut socket| {
        let drain = origin.drain();
        if let Err(error) = converse(&mut socket, drain).await {
            eprintln!("a WebSocket ended: {error}");
        }
    })
}

async fn converse(socket: &mut WebSocket, drain: &Drain) -> Result<(), axum::Error> {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = drain.begun() => break,
        };
        match message.transpose()? {
            Some(message @ (Message::Text(_) | Message::Binary(_))) => {
                socket.send(message).await?;
            }
            // A close is answered by the library as well, when it is asked for what comes then.
            Some(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => (),
            None => return Ok(()),
        }
    }
    let goodbye = CloseFrame {
        code: 1012,
        reason: "come again".into(),
    };
    socket.send(Message::Close(Some(goodbye))).await?;
    // The client's answer.
    while socket.recv().await.transpose()?.is_some() {}
    Ok(())
}

/// Listens to nobody: such a connection is cut at `--graceful-timeout`.
async fn deaf(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |_socket| std::future::pending().await)
}
