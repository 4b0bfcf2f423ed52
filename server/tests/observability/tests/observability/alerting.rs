//! An alert's whole way: a process ends, Prometheus notices, Alertmanager has it.

use std::process::Command;

use crate::{
    expressions::Prometheus,
    support::{Running, body_of, free_port, get, installed, json_of, repository},
};

#[test]
fn a_process_that_is_down_reaches_alertmanager() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(installed("prometheus-alertmanager"));
    command.arg(format!(
        "--config.file={}",
        repository("deploy/observability/alertmanager/alertmanager.yml").display()
    ));
    command.arg(format!("--storage.path={}", folder.path().join("data").display()));
    command
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=");
    let mut alertmanager = Running::start("alertmanager", folder.path(), &mut command);
    alertmanager.until("is ready", || body_of(get(&format!("http://{address}/-/ready"))));

    // Nobody listens there.
    let gone = format!("127.0.0.1:{}", free_port());
    let prometheus = Prometheus::start(std::slice::from_ref(&gone), Some(&address));
    let alert = alertmanager.until("has the alert", || {
        let alerts = json_of(get(&format!("http://{address}/api/v2/alerts")))?;
        let found = alerts
            .as_array()
            .unwrap()
            .iter()
            .find(|alert| alert["labels"]["instance"] == gone.as_str());
        found
            .cloned()
            .ok_or_else(|| format!("{alerts}\nPrometheus: {:?}", prometheus.query("ALERTS")))
    });
    assert_eq!(alert["labels"]["alertname"], "TargetDown");
    assert_eq!(
        alert["annotations"]["summary"],
        format!("meridian at {gone} does not answer").as_str()
    );
    assert_eq!(alert["receivers"][0]["name"], "pages");
}
