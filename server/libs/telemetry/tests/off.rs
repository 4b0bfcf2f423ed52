//! A process whose environment names no endpoint. Alone in its file, for it installs what a process has once.

use meridian_telemetry::{LogFormat, TelemetryOptions, context_of, install, is_tracing};

#[test]
fn nothing_is_traced_unless_it_is_asked_for() {
    let options = TelemetryOptions {
        service: "meridian-test",
        instance: "one".to_owned(),
        log_format: LogFormat::Pretty,
        log_filter: "info".to_owned(),
        push_metrics: true,
    };
    let guard = install(options, None).unwrap();
    assert!(!is_tracing() && !guard.is_exporting());
    assert!(guard.flush(std::time::Duration::ZERO), "there is nothing to wait for");
    let span = tracing::info_span!(target: "meridian_test", "call");
    assert!(!span.is_disabled(), "it is logged");
    assert_eq!(context_of(&span), None);
}
