//! Two services with protocols of their own, in one server: lines of text, and frames with their length before them.
//!
//! ```sh
//! cargo run --example rpc -- -b tcp://127.0.0.1:9000=lines -b tcp://127.0.0.1:9001=frames
//! ```

use std::io;
use std::pin::pin;
use std::process::ExitCode;

use rgun_async::app::Address;
use rgun_async::app::tcp::{Context, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// The longest line or frame.
const LONGEST: u32 = 64 * 1024;

/// `add 1 2` is answered with `3`, `who` with the client's address.
async fn lines(stream: Stream, context: Context) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut last_call = pin!(context.last_call());
    loop {
        line.clear();
        let mut bounded = (&mut stream).take(LONGEST.into());
        tokio::select! {
            // What has come is answered, even if the worker is about to leave.
            biased;
            read = bounded.read_line(&mut line) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            () = &mut last_call => return Ok(()),
        }
        let mut answer = answer(line.trim_end(), &context);
        answer.push('\n');
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn answer(line: &str, context: &Context) -> String {
    let words: Vec<_> = line.split(' ').collect();
    match words.as_slice() {
        ["add", numbers @ ..] => {
            let sum: Result<i64, _> = numbers.iter().map(|word| word.parse::<i64>()).sum();
            sum.map_or_else(|error| format!("error: {error}"), |sum| sum.to_string())
        }
        ["who"] => match &context.ends().peer {
            Address::Tcp(peer) => peer.to_string(),
            Address::Unix(_) => String::from("unix"),
        },
        _ => String::from("error: add NUMBERS, or who"),
    }
}

/// Frames of four bytes of length, the highest first, and so many bytes; each is answered with itself, backwards.
async fn frames(mut stream: Stream, context: Context) -> io::Result<()> {
    let mut last_call = pin!(context.last_call());
    loop {
        let length = tokio::select! {
            biased;
            length = stream.read_u32() => length,
            () = &mut last_call => return Ok(()),
        };
        let length = match length {
            Ok(length) if length <= LONGEST => length,
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        // Memory as it comes, not as it is announced.
        let mut frame = Vec::new();
        let mut whole = (&mut stream).take(length.into());
        let received = whole.read_to_end(&mut frame).await?;
        if u32::try_from(received) != Ok(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frame.reverse();
        stream.write_u32(length).await?;
        stream.write_all(&frame).await?;
    }
}

fn main() -> ExitCode {
    rgun_async::Server::new()
        .about("Lines and frames")
        .tcp("lines", lines)
        .tcp_service("frames", || async {
            Ok::<_, io::Error>(tower::service_fn(|(stream, context)| {
                frames(stream, context)
            }))
        })
        .run()
}
