//! Listeners: bound with a message that says what to do, served with bounds on connections, silence and slow requests.

mod bounded;

use std::{fmt, io, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use meridian_runtime::Shutdown;
use meridian_session::{ErrorBody, error_code};
use tokio::net::TcpListener;

use bounded::{BoundedListener, Peer};

/// How long requests under way may take once the process stops: less than the process has for everything.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Binds a TCP listener for one of the flags `--http` and `--admin`.
///
/// # Errors
/// [`ListenError`], which names the address, the flag and a way out.
pub async fn bind(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError {
        purpose,
        address,
        source,
    })
}

/// Serves routes until told to stop, then lets requests under way end.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, router: Router, stop: Shutdown) -> io::Result<()> {
    let router = router
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                error_code::NOT_FOUND,
                "there is nothing at this path",
            )
        })
        .method_not_allowed_fallback(async || {
            error(
                StatusCode::METHOD_NOT_ALLOWED,
                error_code::METHOD_NOT_ALLOWED,
                "this path takes another method",
            )
        })
        .layer(middleware::from_fn(name_peer));
    let stopping = stop.clone();
    let serving = axum::serve(
        BoundedListener::new(listener),
        router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(async move { stopping.cancelled().await });
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        result = serving => result,
        () = drained => Ok(()),
    }
}

/// Roles ask for `ConnectInfo<SocketAddr>`, which axum only gives for its own listeners.
async fn name_peer(ConnectInfo(Peer(address)): ConnectInfo<Peer>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(ConnectInfo(address));
    next.run(request).await
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(ErrorBody {
            code: code.to_owned(),
            message: message.to_owned(),
        }),
    )
        .into_response()
}

/// A port that could not be bound.
#[derive(Debug)]
pub struct ListenError {
    /// The flag without its dashes: `http`, `admin`, `gateway`.
    pub purpose: &'static str,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            purpose,
            address,
            source,
        } = self;
        write!(formatter, "cannot listen on {address} for {purpose}: ")?;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                formatter,
                "address already in use; pass --{purpose} with another port (0 picks a free one)"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(
                    formatter,
                    "this machine has no such address; pass --{purpose} with one of its own"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    formatter,
                    "permission denied; pass --{purpose} with a port from 1024 on (0 picks a free one)"
                )
            }
            _ => write!(formatter, "{source}; pass --{purpose} with another address"),
        }
    }
}

// No `source()`: the message has it, and a chain would say it twice.
impl std::error::Error for ListenError {}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_says_what_to_do() {
        let taken = bind("http", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind("http", address).await.unwrap_err();
        let expected = format!(
            "cannot listen on {address} for http: address already in use; pass --http with another port (0 picks a free one)"
        );
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn random_bytes_and_unknown_paths_are_answered() {
        let (address, stop, server) = serve_here().await;
        assert!(
            exchange(address, b"\x00\xff\x13 nonsense\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        let answer = exchange(address, b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("\"not_found\""),
            "{answer}"
        );
        let answer = exchange(address, b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        let answer = exchange(address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("from 127.0.0.1"), "{answer}");
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_a_stop() {
        let (address, stop, server) = serve_here().await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        // Answered: so the connection before it was accepted too.
        exchange(address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    async fn serve_here() -> (SocketAddr, Shutdown, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = bind("http", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Shutdown::new();
        let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| format!("from {}", peer.ip());
        let router = Router::new().route("/", axum::routing::get(peer));
        (address, stop.clone(), tokio::spawn(serve(listener, router, stop)))
    }

    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is the server's way to refuse the rest of the bytes.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}
