//! Counts requests to the API server.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::http::{Request, Response};
use tower::Service;

use crate::observe::metrics::requests::ApiRequests;

/// The status code label of a request without a response, as in client-go.
const NO_ANSWER: &str = "<error>";

/// Passes requests on and counts the responses.
#[derive(Clone, Debug)]
pub struct CountRequests<S> {
    inner: S,
    requests: ApiRequests,
}

impl<S> CountRequests<S> {
    pub const fn new(inner: S, requests: ApiRequests) -> Self {
        Self { inner, requests }
    }
}

impl<S, B, R> Service<Request<B>> for CountRequests<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.method().clone();
        let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
        let (requests, start) = (self.requests.clone(), Instant::now());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map(|answer| answer.status());
            let code = code.as_ref().map_or(NO_ANSWER, |status| status.as_str());
            requests.answered(method.as_str(), &host, code, start.elapsed());
            answer
        })
    }
}
