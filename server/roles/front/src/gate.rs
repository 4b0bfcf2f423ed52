//! What stands before each service: no request takes for ever, and what is answered before a call of the service sees it is in the table of errors too.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Instant;

use meridian_rpc::{ErrorWord, refusal};
use tokio::time::timeout_at;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as HttpService, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::call::{Method, answered_unseen};
use crate::limits::given_up_at;
use crate::routing::too_late;

/// When a request came: its body may come much later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived(pub(crate) Instant);

/// A service behind its gate.
#[derive(Clone)]
pub(crate) struct Gate<S>(pub(crate) S);

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> HttpService<http::Request<Body>> for Gate<S>
where
    S: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let method = Method::of_path(request.uri().path());
        let arrived = Instant::now();
        request.extensions_mut().insert(Arrived(arrived));
        // Streams have begun by then: they end by terms of their own.
        let given_up_at = tokio::time::Instant::from_std(given_up_at(arrived, request.headers()));
        let answer = self.0.call(request);
        Box::pin(async move {
            let Ok(answered) = timeout_at(given_up_at, answer).await else {
                return Ok(refused(method, &too_late()));
            };
            let response = answered?;
            // What has no status yet is answered, or has begun.
            let status = Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""));
            match status.code() {
                Code::Internal | Code::OutOfRange => Ok(refused(method, &tabled(status))),
                code => {
                    // Calls of the game's service count themselves.
                    if method.is_none() {
                        answered_unseen(None, code);
                    }
                    Ok(response)
                }
            }
        })
    }
}

fn refused(method: Option<Method>, status: &Status) -> http::Response<Body> {
    answered_unseen(method, status.code());
    status.clone().into_http()
}

/// What tonic says of a request that cannot be read is its caller's fault; nothing else here says so without a word.
pub(crate) fn tabled(status: Status) -> Status {
    let is_unreadable = matches!(status.code(), Code::Internal | Code::OutOfRange);
    if is_unreadable && ErrorWord::of(&status).is_none() {
        let message = format!("the request cannot be read: {}", status.message());
        return refusal(ErrorWord::Argument, message);
    }
    status
}
