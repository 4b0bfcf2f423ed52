//! The standard health service: whether any zone of this process serves.

use std::time::Duration;

use meridian_rpc::v1::game_server_server::SERVICE_NAME;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::context::LocalZone;

/// How often zones are asked whether they serve.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// Says so until it is dropped: nobody else sets the state meanwhile.
pub(crate) async fn tell(reporter: HealthReporter, local: Vec<LocalZone>) {
    let mut times = tokio::time::interval(ASKED_EVERY);
    let mut told = None;
    loop {
        times.tick().await;
        let serves = local.iter().any(|zone| (zone.status)().is_some());
        if told != Some(serves) {
            set(&reporter, serves).await;
            told = Some(serves);
        }
    }
}

/// Sets the state of the server and of its service.
pub(crate) async fn set(reporter: &HealthReporter, serves: bool) {
    let status = if serves {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in ["", SERVICE_NAME] {
        reporter.set_service_status(service, status).await;
    }
}
