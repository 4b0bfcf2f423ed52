//! Who does not belong here gets no link; both sides count it, and say once what to do.

use std::fmt::Write;
use std::sync::{Mutex, Once};

use meridian_fabric::{FabricEndpoint, FabricRole, GatewayEnd};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::*;

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the warnings.
struct Warnings;

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        WARNINGS.lock().unwrap().push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

pub fn warnings(of: &str) -> Vec<String> {
    let warnings = WARNINGS.lock().unwrap();
    warnings
        .iter()
        .filter(|warning| warning.contains(of))
        .cloned()
        .collect()
}

pub fn refused(side: &str, reason: &str) -> u64 {
    let labels = [format!("side=\"{side}\""), format!("reason=\"{reason}\"")];
    counted("meridian_fabric_refused_total", &[&labels[0], &labels[1]])
}

pub fn keep_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Warnings).unwrap());
}

/// Dials until it was refused for this reason three times, and sees that it was said once.
fn is_refused(
    gateways: &FabricEndpoint,
    zones: &FabricEndpoint,
    (dialling, accepting): (&str, Option<&str>),
    told: &str,
) -> Box<dyn GatewayEnd> {
    keep_warnings();
    let before = (
        refused("dialling", dialling),
        accepting.map(|reason| refused("accepting", reason)),
    );
    let name = format!("refused at {}", gateways.local_addr().port());
    let gateway = dial(gateways, &name, zones.local_addr());
    until("three refusals", || {
        refused("dialling", dialling) >= before.0 + 3
            && before
                .1
                .is_none_or(|before| refused("accepting", accepting.unwrap_or_default()) >= before + 3)
    });
    assert!(!gateway.is_connected());
    let said = warnings(&name);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(told), "{said:?}");
    if accepting.is_some() {
        let said = warnings(&format!("address={} ", gateways.local_addr()));
        assert_eq!(said.len(), 1, "{said:?}");
    }
    gateway
}

#[test]
fn a_process_of_another_authority_gets_no_link() {
    let world = World::new();
    let zones = world.zones("zones");
    let source = zones.serve(ZONE);
    let files = world.strangers_files("stranger", &[FabricRole::Gateway]);
    let gateways = world.endpoint("stranger", load(&files), stamp("meadow"));
    // It does not trust the zone either, and says so first. The zone tells its own operator that.
    is_refused(
        &gateways,
        &zones,
        ("certificate", Some("certificate")),
        "same authority",
    );
    assert_eq!(warnings("does not accept this process's certificate").len(), 1);
    assert!(source.try_accept().is_none());
}

#[test]
fn a_process_that_trusts_the_zone_but_has_no_certificate_of_its_authority_gets_no_link() {
    let world = World::new();
    let zones = world.zones("zones");
    let source = zones.serve(ZONE);
    // Its own files are in order, and of both authorities' certificates it has the zone's too.
    let mut files = world.strangers_files("stranger", &[FabricRole::Gateway]);
    let own = std::fs::read_to_string(&files.authority).unwrap();
    let theirs = std::fs::read_to_string(world.files("other", &[FabricRole::Zone]).authority).unwrap();
    files.authority = world.folder.path().join("both.pem");
    std::fs::write(&files.authority, own + &theirs).unwrap();
    let gateways = world.endpoint("stranger", load(&files), stamp("meadow"));
    is_refused(
        &gateways,
        &zones,
        ("certificate", Some("certificate")),
        "same authority",
    );
    assert!(source.try_accept().is_none());
}

#[test]
fn a_certificate_without_the_role_of_a_gateway_gets_no_gateways_link() {
    let world = World::new();
    let zones = world.zones("zones");
    let source = zones.serve(ZONE);
    let tls = world.tls("other", &[FabricRole::Zone, FabricRole::Admin]);
    let gateways = world.endpoint("other", tls, stamp("meadow"));
    is_refused(&gateways, &zones, ("role", Some("role")), "gateway.fabric.meridian");
    assert!(source.try_accept().is_none());
}

#[test]
fn of_a_host_with_several_processes_of_another_authority_one_warning_is_enough() {
    keep_warnings();
    let world = World::new();
    let zones = world.zones("zones");
    let _source = zones.serve(ZONE);
    let name = |index| format!("stranger {index}");
    let tls = |index| load(&world.strangers_files(&name(index), &[FabricRole::Gateway]));
    let strangers: Vec<_> = (0..3)
        .map(|index| world.endpoint(&name(index), tls(index), stamp("meadow")))
        .collect();
    let dial = |stranger: &FabricEndpoint| dial(stranger, "a stranger", zones.local_addr());
    let _ends: Vec<_> = strangers.iter().map(dial).collect();
    until("refusals of all of them", || {
        refused("accepting", "certificate") >= 9 && warnings("a stranger").len() == strangers.len()
    });
    let said = warnings("a peer is refused");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("same authority") && said[0].contains("code=\"certificate\""),
        "{said:?}"
    );
}

#[test]
fn a_process_without_the_role_of_a_zone_that_is_to_serve_one_is_told_so() {
    keep_warnings();
    let world = World::new();
    let gateways = world.gateways("gateways");
    assert!(warnings("zone.fabric.meridian").is_empty());
    let _source = gateways.serve(ZONE);
    let said = warnings("zone.fabric.meridian");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_gateway_does_not_talk_to_who_is_no_zone() {
    let world = World::new();
    let (imposter, gateways) = (world.gateways("imposter"), world.gateways("gateways"));
    let source = imposter.serve(ZONE);
    is_refused(
        &gateways,
        &imposter,
        ("certificate", Some("certificate")),
        "name its role",
    );
    assert_eq!(warnings("does not accept this process's certificate").len(), 1);
    assert!(source.try_accept().is_none());
}

#[test]
fn processes_of_different_worlds_get_no_link() {
    let world = World::new();
    let zones = world.zones("zones");
    let source = zones.serve(ZONE);
    let gateways = world.endpoint(
        "gateways",
        world.tls("gateways", &[FabricRole::Gateway]),
        stamp("desert"),
    );
    is_refused(
        &gateways,
        &zones,
        ("world", Some("world")),
        "start both with the same world file",
    );
    let mut other_document = stamp("meadow");
    other_document.document_hash = "0000000000000000".to_owned();
    let gateways = world.endpoint("later", world.tls("later", &[FabricRole::Gateway]), other_document);
    is_refused(
        &gateways,
        &zones,
        ("world", Some("world")),
        "start both with the same world file",
    );
    assert!(source.try_accept().is_none());
}

#[test]
fn a_zone_that_is_not_served_is_told_as_such_and_linked_once_it_is() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let gateway = is_refused(&gateways, &zones, ("zone", Some("zone")), "not served here");
    let source = zones.serve(ZONE);
    let (_, zone) = accept_gateway(&source);
    until("the link", || gateway.is_connected());
    // A source that is dropped serves no more.
    drop(source);
    until("the end of the link", || zone.is_closed() && !gateway.is_connected());
}
