//! Which of the services that are served a call is for.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};

use meridian_rpc::v1::game_server_server::{GameServerServer, SERVICE_NAME as GAME_SERVER};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as HttpService, http};
use tonic::{Status, server::NamedService};

use crate::service::Service;

/// The game server's API, its health `H` and its reflection `R`.
#[derive(Clone)]
pub(crate) struct Services<H, R> {
    pub(crate) game_server: GameServerServer<Service>,
    pub(crate) health: H,
    pub(crate) reflection: R,
}

type Answered = BoxFuture<http::Response<Body>, Infallible>;

impl<H, R> HttpService<http::Request<Body>> for Services<H, R>
where
    H: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future = Answered>
        + NamedService,
    R: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future = Answered>
        + NamedService,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        match service_of(request.uri().path()) {
            Some(service) if service == GAME_SERVER => self.game_server.call(request),
            Some(service) if service == H::NAME => self.health.call(request),
            Some(service) if service == R::NAME => self.reflection.call(request),
            _ => {
                let status = Status::unimplemented("no such service: reflection lists those that there are");
                Box::pin(ready(Ok(status.into_http())))
            }
        }
    }
}

/// The service of a path, `/SERVICE/METHOD`.
fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service() {
        assert_eq!(service_of("/meridian.v1.GameServer/Move"), Some(GAME_SERVER));
        for none in ["", "/", "meridian.v1.GameServer/Move", "/meridian.v1.GameServer"] {
            assert_eq!(service_of(none), None, "{none}");
        }
    }
}
