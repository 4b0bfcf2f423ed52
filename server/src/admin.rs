//! The admin listener: `/health`, `/ready` and `/metrics`.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use meridian_runtime::{Health, RoleHealth};
use meridian_telemetry::Metrics;
use metrics::gauge;
use serde::Serialize;

use crate::metric_definitions::{self, ROLE_READY};

/// The content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the endpoints read.
#[derive(Clone)]
pub struct AdminState {
    /// The roles' health.
    pub health: Health,
    /// The process's metrics.
    pub metrics: Metrics,
}

/// The routes of the admin listener.
pub fn router(state: AdminState) -> Router {
    metric_definitions::describe();
    Router::new()
        .route("/health", get(async || "alive\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(state)
}

/// Body of `/ready`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    roles: Vec<RoleHealth>,
}

async fn ready(State(state): State<AdminState>) -> Response {
    let roles = state.health.roles();
    let ready = state.health.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, roles })).into_response()
}

async fn metrics_text(State(state): State<AdminState>) -> Response {
    for health in state.health.roles() {
        gauge!(ROLE_READY, "role" => health.role.into_owned()).set(f64::from(u8::from(health.state.is_serving())));
    }
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], state.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn ready_tells_each_role_and_follows_it() {
        let health = Health::new();
        let zone = health.register("zone");
        let router = router(AdminState {
            health,
            metrics: Metrics::install().unwrap(),
        });
        let starting = r#"{"ready":false,"roles":[{"role":"zone","state":"starting","detail":""}]}"#;
        assert_eq!(
            get_text(&router, "/ready").await,
            (StatusCode::SERVICE_UNAVAILABLE, starting.to_owned())
        );
        zone.degraded("slow ticks");
        let degraded = r#"{"ready":true,"roles":[{"role":"zone","state":"degraded","detail":"slow ticks"}]}"#;
        assert_eq!(get_text(&router, "/ready").await, (StatusCode::OK, degraded.to_owned()));
        assert!(
            get_text(&router, "/metrics")
                .await
                .1
                .contains("meridian_role_ready{role=\"zone\"} 1")
        );
        zone.stopped("");
        assert!(
            get_text(&router, "/metrics")
                .await
                .1
                .contains("meridian_role_ready{role=\"zone\"} 0")
        );
        assert_eq!(
            get_text(&router, "/health").await,
            (StatusCode::OK, "alive\n".to_owned())
        );
    }

    async fn get_text(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}
