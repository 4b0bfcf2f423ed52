//! Handshakes that nobody finishes, and peers that finish theirs and say nothing: neither keeps anybody else out.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use meridian_fabric::{FabricEndpoint, FabricRole};
use quinn::{Connection, Endpoint};

use crate::hostile::config;
use crate::refusals::refused;
use crate::support::*;

/// More than a process lets be under way at once.
const MANY: usize = 200;
/// Another address of this machine than [`LOOPBACK`].
const OTHER_HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

/// Shows that it receives at its address, and nothing more: of what the server says its clients hear the question for that alone.
struct Stalling {
    address: SocketAddr,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalling {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let stops = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stops);
        let thread = std::thread::spawn(move || stall(&socket, server, &stop));
        Self {
            address,
            stops,
            thread: Some(thread),
        }
    }
}

/// Whether a packet asks to show that its receiver is at its address (RFC 9000, section 17.2.5).
fn is_retry(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xf0 == 0xf0)
}

fn stall(socket: &UdpSocket, server: SocketAddr, stops: &AtomicBool) {
    let mut packet = [0; 2_048];
    let mut client = None;
    while !stops.load(Ordering::SeqCst) {
        let (length, from) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => panic!("{error}"),
        };
        let bytes = &packet[..length];
        if from != server {
            client = Some(from);
            let _ = socket.send_to(bytes, server);
        } else if let Some(client) = client.filter(|_| is_retry(bytes)) {
            let _ = socket.send_to(bytes, client);
        }
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gateways_at(world: &World, listen: SocketAddr) -> FabricEndpoint {
    let tls = world.tls("gateways", &[FabricRole::Gateway]);
    world.endpoint_at(listen, "gateways", tls, stamp("meadow"))
}

/// A gateway's process links at its first attempt.
fn links_at_once(gateways: &FabricEndpoint, zones: &FabricEndpoint) {
    let gateway = dial(gateways, "gateway-1", zones.local_addr());
    until("the link", || gateway.is_connected());
    assert_eq!(counted("meridian_fabric_refused_total", &["side=\"dialling\""]), 0);
}

fn client(world: &World) -> Endpoint {
    let _context = world.runtime.enter();
    let mut endpoint = Endpoint::client(LOOPBACK).unwrap();
    endpoint.set_default_client_config(config(&world.files("raw", &[FabricRole::Gateway])));
    endpoint
}

#[test]
fn a_host_that_finishes_no_handshake_keeps_no_other_host_out() {
    let world = World::new();
    let zones = world.zones("zones");
    let _source = zones.serve(ZONE);
    let gateways = gateways_at(&world, OTHER_HOST);
    let stalling = Stalling::new(zones.local_addr());
    let endpoint = client(&world);
    let context = world.runtime.enter();
    let connect = |_| endpoint.connect(stalling.address, "zone.fabric.meridian").unwrap();
    let _under_way: Vec<_> = (0..MANY).map(connect).collect();
    drop(context);
    // It has as many as it can have.
    until("a refusal", || refused("accepting", "busy") > 0);
    links_at_once(&gateways, &zones);
}

#[test]
fn peers_that_have_shown_their_certificates_and_say_nothing_keep_nobody_out() {
    let world = World::new();
    let zones = world.zones("zones");
    let _source = zones.serve(ZONE);
    let gateways = gateways_at(&world, LOOPBACK);
    let endpoint = client(&world);
    let silent: Vec<Connection> = world.runtime.block_on(async {
        let mut silent = Vec::new();
        while silent.len() < MANY && refused("accepting", "busy") == 0 {
            let connecting = endpoint.connect(zones.local_addr(), "zone.fabric.meridian").unwrap();
            silent.extend(connecting.await);
        }
        silent
    });
    links_at_once(&gateways, &zones);
    drop(silent);
}
