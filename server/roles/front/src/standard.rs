//! The standard services, health and reflection. Nobody needs a token to ask them, so it is counted what they hold for whom.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service as HttpService, http};
use tonic::server::NamedService;

use crate::connection::Peer;
use crate::limits::Seats;

/// What is not over with one answer.
const STREAMS: [&str; 2] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// A standard service whose streams take seats: one of their connection's, and one of all.
#[derive(Clone)]
pub(crate) struct Standard<S> {
    service: S,
    seats: Seats,
}

impl<S> Standard<S> {
    /// `seats` are shared by all of them.
    pub(crate) fn new(service: S, seats: &Seats) -> Self {
        Self {
            service,
            seats: seats.clone(),
        }
    }

    fn take(&self, request: &http::Request<Body>) -> Result<Taken, Status> {
        // Every call comes over a connection of this listener.
        let own = request.extensions().get::<Peer>();
        let own = own.map(|peer| peer.standard_streams.take()).transpose()?;
        Ok(Taken {
            _own: own,
            _of_all: self.seats.take()?,
        })
    }
}

impl<S: NamedService> NamedService for Standard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> HttpService<http::Request<Body>> for Standard<S>
where
    S: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !STREAMS.contains(&request.uri().path()) {
            return Box::pin(self.service.call(request));
        }
        let taken = match self.take(&request) {
            Ok(taken) => taken,
            Err(status) => return Box::pin(async move { Ok(status.into_http::<Body>()) }),
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Body::new(Seated { body, _taken: taken })))
        })
    }
}

/// The seats of a stream, until it is dropped.
struct Taken {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

/// The answers of a stream, with its seats.
struct Seated {
    body: Body,
    _taken: Taken,
}

impl HttpBody for Seated {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    /// An answer without a body keeps no seat.
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
