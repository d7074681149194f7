//! `rgun-async uwsgi`: one request by the uwsgi protocol, which is awkward to speak by hand, and its answer.

mod answer;
mod packet;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::uwsgi::{Ask, Data};
use crate::config::Address;
use crate::error::{Exit, chain};
use answer::Answer;

/// Bytes read from the server at a time.
const PIECE: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("cannot read the request's body")]
    Data(#[source] io::Error),
    #[error(
        "the request does not fit into a packet: its variables have {0} bytes, the most is 65535"
    )]
    TooLarge(usize),
    #[error("cannot connect to {0}")]
    Connect(Address, #[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("no word from the server for {} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("the server has closed the connection without an answer")]
    Nothing,
    #[error("the answer is not one of HTTP")]
    Garbage,
    #[error("the answer was cut")]
    Cut,
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

/// The subcommand, to its exit code; the answer is printed as it comes.
pub(crate) fn run(ask: &Ask) -> Exit {
    match talk(ask) {
        Ok(status) if status < 400 => Exit::Done,
        Ok(_) => Exit::BadAnswer,
        Err(error) => {
            // Nobody is left to tell where standard error is gone.
            let _ = writeln!(io::stderr(), "Error: {}", chain(&error));
            Exit::Config
        }
    }
}

fn talk(ask: &Ask) -> Result<u16, ClientError> {
    let body = match &ask.data {
        None => Vec::new(),
        Some(Data::Text(text)) => text.clone().into_bytes(),
        Some(Data::File(path)) => fs::read(path).map_err(ClientError::Data)?,
        Some(Data::Input) => {
            let mut input = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut input)
                .map_err(ClientError::Data)?;
            input
        }
    };
    let stream = Stream::connect(&ask.address, ask.timeout)
        .map_err(|error| ClientError::Connect(ask.address.clone(), error))?;
    let mut request = packet::of(ask, &stream.ends(), body.len())?;
    request.extend_from_slice(&body);
    exchange(stream, ask, &request)
}

/// Sends the request and reads the answer, at the same time: neither side waits for the other to be done.
fn exchange(mut stream: Stream, ask: &Ask, request: &[u8]) -> Result<u16, ClientError> {
    let mut left = request;
    let mut answer = Answer::to(&ask.method);
    let mut out = io::stdout().lock();
    let mut piece = vec![0; PIECE];
    while !answer.is_whole() {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !left.is_empty());
        let ready = wait(stream.as_fd(), events, ask.timeout)?;
        if ready.contains(PollFlags::POLLOUT) && !left.is_empty() {
            match stream.write(left) {
                Ok(sent) => left = left.get(sent..).unwrap_or_default(),
                Err(error) if is_nothing(&error) => {}
                // Refused before its end: there may be an answer all the same.
                Err(_) => left = &[],
            }
        }
        if !ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            continue;
        }
        match stream.read(&mut piece) {
            Ok(0) => {
                answer.end()?;
                break;
            }
            Ok(read) => {
                let bytes = answer.take(piece.get(..read).unwrap_or_default())?;
                out.write_all(&bytes)
                    .and_then(|()| out.flush())
                    .map_err(ClientError::Output)?;
            }
            Err(error) if is_nothing(&error) => {}
            Err(error) if answer.is_begun() || error.kind() != ErrorKind::ConnectionReset => {
                return Err(ClientError::Broken(error));
            }
            Err(_) => return Err(ClientError::Nothing),
        }
    }
    answer.status().ok_or(ClientError::Nothing)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn wait(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    timeout: Duration,
) -> Result<PollFlags, ClientError> {
    let limit = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    loop {
        let mut fds = [PollFd::new(fd, events)];
        match poll(&mut fds, limit) {
            Ok(0) => return Err(ClientError::Silent(timeout)),
            Ok(_) => {
                let [fd] = fds;
                return Ok(fd.revents().unwrap_or(PollFlags::POLLERR));
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(ClientError::Broken(error.into())),
        }
    }
}

/// What a packet says of the connection that it pretends to tell of.
struct Ends {
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects, and does not block from then on.
    fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp { host, port } => Self::Tcp(tcp(host, *port, timeout)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Address::Abstract(name) => {
                let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                Self::Unix(UnixStream::connect_addr(&name)?)
            }
            // The command line has refused it.
            Address::Fd(_) => return Err(ErrorKind::Unsupported.into()),
        };
        match &stream {
            Self::Tcp(stream) => stream.set_nonblocking(true)?,
            Self::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(stream)
    }

    fn ends(&self) -> Ends {
        match self {
            Self::Tcp(stream) => Ends {
                client: stream.local_addr().ok(),
                server: stream.peer_addr().ok(),
            },
            Self::Unix(_) => Ends {
                client: None,
                server: None,
            },
        }
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(to),
            Self::Unix(stream) => stream.read(to),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A connection to the first address of `host` that takes one.
fn tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let connected = if timeout.is_zero() {
            TcpStream::connect(address)
        } else {
            TcpStream::connect_timeout(&address, timeout)
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
