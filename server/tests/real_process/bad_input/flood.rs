//! A client that sends many more inputs than there are ticks.

use std::{net::SocketAddr, time::Instant};

use lightyear::{
    input::{InputChannel, input_message::InputMessage},
    prelude::{MessageSender, Tick, input::native::NativeStateSequence},
};
use meridian_client_net::{ConnectionState, Connector, HeadlessClient, HeadlessOptions};
use meridian_game::Move;
use meridian_link::{PolledUdp, bind_udp};
use meridian_loadgen::swarm::demo_game;

use crate::{
    bot::{Bot, assert_they_play_on, drive_until, guest_session},
    support::Server,
};

type Inputs = InputMessage<NativeStateSequence<Move>>;

/// Messages that the flood grows by with each look at its client: some fifty in a tick, where a client sends one.
const MESSAGES_PER_LOOK: usize = 4;

#[test]
fn a_client_that_floods_is_cut_off_and_the_others_play_on() {
    let server = Server::start_every_role("");
    let mut bots = vec![Bot::join(&server, "player")];
    let mut flooding = client(&server, "flood");
    drive_until(&mut bots, "both to be in the world", |bots| {
        flooding.update(Instant::now());
        *flooding.state() == ConnectionState::Playing && bots[0].is_playing()
    });
    drive_until(&mut bots, "the flood to be cut off", |_| {
        flood(&mut flooding);
        flooding.update(Instant::now());
        *flooding.state() != ConnectionState::Playing
    });

    let refused = server.metric("meridian_gateway_inputs_refused_total", &[("reason", "flood")]);
    assert!(refused > 1_000.0, "{refused} messages refused");
    let log = server.log();
    assert!(
        log.contains("client floods the gateway with inputs; disconnected"),
        "{log}"
    );
    assert_they_play_on(&server, &mut bots);
    assert_eq!(server.metric("meridian_gateway_clients", &[]), 1.0);
}

fn client(server: &Server, name: &str) -> HeadlessClient {
    let socket = bind_udp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let io = PolledUdp::new(socket).unwrap();
    let options = HeadlessOptions {
        predict: false,
        interpolate: false,
        server_url: None,
        watch_borders: None,
        game: demo_game(),
    };
    HeadlessClient::new(options, &guest_session(server, name), Box::new(io), Instant::now())
}

/// Adds messages to those that the client sends with its next frame.
fn flood(client: &mut HeadlessClient) {
    let world = client.world_mut();
    let link = world.resource::<Connector>().link();
    let sender = link.and_then(|link| world.get_mut::<MessageSender<Inputs>>(link));
    let Some(mut sender) = sender else { return };
    for _ in 0..MESSAGES_PER_LOOK {
        sender.send::<InputChannel>(InputMessage::new(Tick(0)));
    }
}
