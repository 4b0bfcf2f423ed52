//! A peer with a certificate that does what no build of this project does: it loses its link, and nobody else loses anything.

use std::sync::Arc;

use bytes::Bytes;
use meridian_fabric::{AcceptedLink, FABRIC_VERSION, FabricRole};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::*;

/// The code that a refused hello is closed with.
const REFUSED: u64 = 1;
/// The code that who sends what is no message is closed with.
const MALFORMED: u64 = 2;

/// The code that a link is closed with when its zone does not want it any more.
const LEFT: u64 = 0;
/// The code that a link is closed with when a newer one of its name took its place.
const REPLACED: u64 = 3;

/// A connection of its own making to a zone.
struct Raw {
    _endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

pub fn config(files: &Files) -> ClientConfig {
    let read = |path| std::fs::read(path).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&read(&files.authority)).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read(&files.certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"meridian-fabric".to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

/// A hello as the documentation of the protocol has it.
fn hello(version: u16, name: &str) -> Vec<u8> {
    let world = ("meadow", "85944171f73967e8");
    let no_lease: Option<u64> = None;
    let body = (world, "raw process", (0_u32, name), no_lease, ZONE.0, 0_i64);
    let body = bincode::serde::encode_to_vec(body, bincode::config::standard()).unwrap();
    let mut bytes = (b"MERIDIAN".len() as u16 + 2 + body.len() as u16)
        .to_le_bytes()
        .to_vec();
    bytes.extend_from_slice(b"MERIDIAN");
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend(body);
    bytes
}

impl Raw {
    async fn connect(pair: &Pair) -> Self {
        Self::connect_with(pair, TransportConfig::default()).await
    }

    async fn connect_with(pair: &Pair, transport: TransportConfig) -> Self {
        let files = pair.world.files("raw", &[FabricRole::Gateway]);
        let mut endpoint = Endpoint::client(LOOPBACK).unwrap();
        let mut config = config(&files);
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        let connecting = endpoint
            .connect(pair.zones.local_addr(), "zone.fabric.meridian")
            .unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Self {
            _endpoint: endpoint,
            connection,
            send,
            receive,
        }
    }

    /// One that has said a right hello and was welcomed.
    async fn welcomed(pair: &Pair) -> Self {
        let mut raw = Self::connect(pair).await;
        raw.send.write_all(&hello(FABRIC_VERSION, "raw")).await.unwrap();
        let answer = raw.answer().await;
        assert_eq!(answer[10], 0, "not welcomed");
        raw
    }

    /// One that has said a right hello, and takes not a byte of an answer.
    async fn deaf(pair: &Pair) -> Self {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(0));
        let mut raw = Self::connect_with(pair, transport).await;
        raw.send.write_all(&hello(FABRIC_VERSION, "raw")).await.unwrap();
        raw
    }

    /// What was answered, from the magic on.
    async fn answer(&mut self) -> Vec<u8> {
        let mut length = [0; 2];
        self.receive.read_exact(&mut length).await.unwrap();
        let mut answer = vec![0; usize::from(u16::from_le_bytes(length))];
        self.receive.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[..8], b"MERIDIAN");
        answer
    }

    /// The code that the zone closes the connection with.
    async fn closed_with(&self) -> u64 {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await;
        match closed.expect("the connection is still there") {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

/// The pair's own link still carries both ways.
fn still_works(pair: &Pair) {
    pair.gateway.send(join(77)).unwrap();
    assert_eq!(from_gateway(&pair.zone), join(77));
    send_snapshot(&pair.zone, &Arc::new(snapshot(1, 30_000)));
    from_zone(pair.gateway.as_ref());
    assert!(!pair.zone.is_closed() && pair.gateway.is_connected());
}

fn refused(reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    counted("meridian_fabric_refused_total", &["side=\"accepting\"", &reason])
}

#[test]
fn what_is_no_hello_is_refused_and_counted() {
    let pair = Pair::new();
    let too_long = [&u16::MAX.to_le_bytes()[..], &[0; 4_000]].concat();
    let cut_off = hello(FABRIC_VERSION, "raw")[..20].to_vec();
    let long_name = hello(FABRIC_VERSION, &"n".repeat(500));
    let other_protocol = [&100_u16.to_le_bytes()[..], &[b'G'; 100]].concat();
    let garbage: Vec<u8> = {
        let mut bytes = hello(FABRIC_VERSION, "raw");
        bytes[12..].iter_mut().for_each(|byte| *byte ^= 0xa5);
        bytes
    };
    let before = refused("malformed");
    let hellos = [too_long, cut_off, long_name, other_protocol, garbage];
    for bytes in &hellos {
        pair.world.runtime.block_on(async {
            let mut raw = Raw::connect(&pair).await;
            raw.send.write_all(bytes).await.unwrap();
            raw.send.finish().unwrap();
            assert_eq!(raw.closed_with().await, REFUSED);
        });
    }
    assert_eq!(refused("malformed"), before + hellos.len() as u64);
    assert!(pair.source.try_accept().is_none());
    still_works(&pair);
}

#[test]
fn another_version_is_refused_with_an_answer_that_says_so() {
    let pair = Pair::new();
    let answer = pair.world.runtime.block_on(async {
        let mut raw = Raw::connect(&pair).await;
        raw.send.write_all(&hello(FABRIC_VERSION + 1, "raw")).await.unwrap();
        raw.answer().await
    });
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("run the same build on both"), "{text}");
    assert_eq!(refused("version"), 1);
    assert!(pair.source.try_accept().is_none());
    still_works(&pair);
}

#[test]
fn who_says_nothing_is_closed() {
    let pair = Pair::new();
    pair.world.runtime.block_on(async {
        let raw = Raw::connect(&pair).await;
        raw.connection.closed().await;
    });
    until("it to be counted", || refused("late") == 1);
    still_works(&pair);
}

#[test]
fn who_takes_no_answer_to_its_hello_loses_its_link_and_is_counted() {
    let pair = Pair::new();
    let raw = pair.world.runtime.block_on(Raw::deaf(&pair));
    let (name, end) = accept_gateway(&pair.source);
    assert_eq!(name, "raw");
    until("the end of the link", || end.is_closed());
    until("it to be counted", || refused("late") == 1);
    assert_eq!(pair.world.runtime.block_on(raw.closed_with()), REFUSED);
    still_works(&pair);
}

#[test]
fn a_link_whose_answer_was_not_taken_yet_ends_when_it_is_replaced_or_dropped() {
    let pair = Pair::new();
    let first = pair.world.runtime.block_on(Raw::deaf(&pair));
    let (_, former) = accept_gateway(&pair.source);
    let second = pair.world.runtime.block_on(Raw::deaf(&pair));
    let (name, end) = accept_gateway(&pair.source);
    assert_eq!(name, "raw");
    assert_eq!(pair.world.runtime.block_on(first.closed_with()), REPLACED);
    until("the end of the former link", || former.is_closed());
    drop(end);
    assert_eq!(pair.world.runtime.block_on(second.closed_with()), LEFT);
    assert_eq!(refused("late"), 0);
    still_works(&pair);
}

#[test]
fn datagrams_that_are_no_messages_close_their_link_and_no_other() {
    let pair = Pair::new();
    let join_by_datagram = vec![2, 1, 7, 1, b'n'];
    let snapshot_of_a_gateway = vec![3, 1, 0, 0];
    let question_with_more = vec![0, 0, 0, 0, 9];
    let unknown = vec![9, 9, 9];
    let datagrams = [
        vec![],
        join_by_datagram,
        snapshot_of_a_gateway,
        question_with_more,
        unknown,
        vec![255; 1_000],
    ];
    for datagram in &datagrams {
        pair.world.runtime.block_on(async {
            let raw = Raw::welcomed(&pair).await;
            raw.connection.send_datagram(Bytes::from(datagram.clone())).unwrap();
            assert_eq!(raw.closed_with().await, MALFORMED, "{datagram:?}");
        });
        // A link that has ended is not handed out any more.
        assert!(pair.source.try_accept().is_none());
    }
    let malformed = counted("meridian_fabric_malformed_total", &["peer=\"raw\""]);
    assert_eq!(malformed, datagrams.len() as u64);
    still_works(&pair);
}

#[test]
fn streams_that_hold_no_messages_close_their_link_and_no_other() {
    let pair = Pair::new();
    let endless = vec![0; 4 * 1024 * 1024];
    let streams = [vec![], vec![1, 2, 3], vec![3, 1, 5, 0], endless];
    for bytes in &streams {
        pair.world.runtime.block_on(async {
            let raw = Raw::welcomed(&pair).await;
            let mut stream = raw.connection.open_uni().await.unwrap();
            // It fails where the other side has had enough before all was written.
            let _ = stream.write_all(bytes).await;
            let _ = stream.finish();
            assert_eq!(raw.closed_with().await, MALFORMED, "{:?}", bytes.first_chunk::<3>());
        });
    }
    let longer_than_any = u32::MAX.to_le_bytes().to_vec();
    let cut_off = vec![10, 0, 0, 0, 1];
    let no_message = vec![3, 0, 0, 0, 0, 200, 200];
    for bytes in [longer_than_any, cut_off, no_message] {
        pair.world.runtime.block_on(async {
            let mut raw = Raw::welcomed(&pair).await;
            raw.send.write_all(&bytes).await.unwrap();
            raw.send.finish().unwrap();
            assert_eq!(raw.closed_with().await, MALFORMED, "{bytes:?}");
        });
    }
    still_works(&pair);
}

#[test]
fn no_random_bytes_after_a_hello_disturb_another_link() {
    let pair = Pair::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..30 {
        let length = next() as usize % 900;
        let bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        pair.world.runtime.block_on(async {
            let mut raw = Raw::welcomed(&pair).await;
            raw.connection.send_datagram(bytes.clone().into()).unwrap();
            let _ = raw.send.write_all(&bytes).await;
            if let Ok(mut stream) = raw.connection.open_uni().await {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.finish();
            }
            let _ = raw.send.finish();
            raw.connection.closed().await;
        });
        // Whether the zone has seen the link before it ended or not: it has ended.
        if let Some(AcceptedLink::Gateway { end, .. }) = pair.source.try_accept() {
            until("the end of the link", || {
                while end.try_receive().is_some() {}
                end.is_closed()
            });
        }
    }
    still_works(&pair);
}
