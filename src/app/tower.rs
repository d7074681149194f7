//! tower services as apps: axum's `Router`, a `service_fn`, anything that is a
//! `tower_service::Service<http::Request<Body>>`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::tcp::{Make, StreamApp};
use super::{App, Body, BootError, Host, Origin};
use crate::channel::WorkerContext;
use crate::error::{AnyError, chain};

/// A tower service as an [`App`]. The service need not be `Send`: it lives on its worker's one thread. Each request is
/// served by a clone of it that was asked whether it is ready. Services find the [`Origin`] in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Tower<S>(TowerToHyperService<S>);

impl<S> Tower<S> {
    /// The app that is `service`.
    pub fn new(service: S) -> Self {
        Self(TowerToHyperService::new(service))
    }
}

impl<S, B> App for Tower<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<AnyError>,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    type Body = AnyErrorBody<B>;
    type Future = Call<S>;

    fn call(&self, mut request: Request<Body>, origin: Origin) -> Call<S> {
        request.extensions_mut().insert(origin);
        let call = hyper::service::Service::call(&self.0, request);
        Call { call }
    }
}

pin_project! {
    /// One call of a [`Tower`].
    pub struct Call<S: Service<Request<Body>>> {
        #[pin]
        call: TowerToHyperServiceFuture<S, Request<Body>>,
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for Call<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl<S, B> Future for Call<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<AnyError>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<AnyError>,
{
    type Output = Result<Response<AnyErrorBody<B>>, AnyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().call.poll(cx)).map_err(Into::into)?;
        Poll::Ready(Ok(response.map(|body| AnyErrorBody { body })))
    }
}

pin_project! {
    /// A body whose errors are any.
    #[derive(Debug)]
    pub struct AnyErrorBody<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for AnyErrorBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<AnyError>,
{
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A [`Host`] that makes its service in each worker, by an async factory that runs after the fork: connections to
/// databases and the like belong there.
pub struct Factory<F> {
    app: F,
    services: Vec<(String, Make)>,
}

impl<F> Factory<F> {
    /// With `services` for the listeners that name them.
    pub(crate) const fn new(app: F, services: Vec<(String, Make)>) -> Self {
        Self { app, services }
    }
}

impl<F> fmt::Debug for Factory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").finish_non_exhaustive()
    }
}

impl<F, R, S, E> Host for Factory<F>
where
    F: Fn() -> R + 'static,
    R: Future<Output = Result<S, E>>,
    E: Into<AnyError>,
    Tower<S>: App,
{
    type App = Tower<S>;

    async fn load(&self, _: &WorkerContext) -> Result<Tower<S>, BootError> {
        match (self.app)().await {
            Ok(service) => Ok(Tower::new(service)),
            Err(error) => Err(BootError::Boot(chain(&*error.into()))),
        }
    }

    async fn services(&self, names: &[&str]) -> Result<Vec<Rc<dyn StreamApp>>, BootError> {
        let mut found = Vec::new();
        for name in names {
            let mut services = self.services.iter();
            let Some((_, make)) = services.find(|(known, _)| known == name) else {
                // The configuration was checked.
                return Err(BootError::Load(format!("There is no service {name:?}.")));
            };
            let service = make().await;
            found.push(service.map_err(|error| BootError::Boot(chain(&*error)))?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;

    use http_body_util::{BodyExt, Full};

    use super::super::{Address, Ends, Scheme};
    use super::*;

    /// Not `Send`, and not ready at first.
    #[derive(Clone)]
    struct Shy(Rc<Cell<u32>>);

    impl Service<Request<Body>> for Shy {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0.set(self.0.get() + 1);
            if self.0.get() < 3 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            assert_eq!(self.0.get(), 3, "called before it was ready");
            let scheme = request
                .extensions()
                .get::<Origin>()
                .expect("an origin")
                .scheme;
            std::future::ready(Ok(Response::new(Full::from(format!("{scheme:?}")))))
        }
    }

    #[tokio::test]
    async fn a_service_is_called_when_it_is_ready_and_finds_the_origin() {
        let address = Address::Unix(None);
        let ends = Arc::new(Ends::new(address.clone(), address));
        let origin = Origin {
            ends,
            scheme: Scheme::Https,
            trusted: true,
            gateway: None,
        };
        let app = Tower::new(Shy(Rc::default()));
        let mut call = Box::pin(app.call(Request::new(Body::empty()), origin));
        let response = poll_fn(|cx| call.as_mut().poll(cx))
            .await
            .expect("an answer");
        let body = response
            .into_body()
            .collect()
            .await
            .expect("no error")
            .to_bytes();
        assert_eq!(body, "Https");
    }

    #[tokio::test]
    async fn axum_is_an_app() {
        fn app<A: App>(_: &A) {}
        let router: axum::Router = axum::Router::new();
        app(&Tower::new(router));
    }
}
