//! What another gateway replicates while its link is not the one that is shown yet.
//!
//! An app has one replicated world at a time, and whatever nobody takes out of a link is thrown away. So what comes over a link without a
//! receiver is kept here, and taken in when the link gets one.

use bevy::app::{App, PreUpdate};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::query::Has;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::schedule::common_conditions::any_with_component;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy_replicon::bytes::Bytes;
use bevy_replicon::prelude::ClientMessages;
use bevy_replicon::prelude::ClientSystems as RepliconSystems;
use lightyear::prelude::Transport;
use lightyear::transport::plugin::TransportSystems;
use lightyear_replication::channels::RepliconChannelMap;
use lightyear_replication::receive::ReplicationReceiver;

/// Bytes that are kept at most: many times what a crowd in sight takes, and its changes of some seconds. A gateway that sends more before
/// its welcome is taken up is none to be played through.
const STASH_BYTES_MAX: usize = 1 << 20;

pub(super) fn plugin(app: &mut App) {
    let keep = keep
        .after(TransportSystems::Receive)
        .before(RepliconSystems::ReceivePackets)
        .run_if(any_with_component::<Stash>);
    app.add_systems(PreUpdate, keep);
}

/// Messages of replication in the order in which they came, each with the number of its channel.
#[derive(Component, Default)]
pub(super) struct Stash {
    messages: Vec<(usize, Bytes)>,
    bytes: usize,
}

impl Stash {
    pub(super) fn is_full(&self) -> bool {
        self.bytes > STASH_BYTES_MAX
    }

    fn push(&mut self, channel: usize, message: Bytes) {
        self.bytes += message.len();
        if !self.is_full() {
            self.messages.push((channel, message));
        }
    }
}

fn keep(
    channels: Res<RepliconChannelMap>,
    mut taken_in: ResMut<ClientMessages>,
    mut links: Query<(Entity, &mut Transport, &mut Stash, Has<ReplicationReceiver>)>,
    mut commands: Commands,
) {
    for (link, mut transport, mut stash, is_shown) in &mut links {
        if is_shown {
            for (channel, message) in stash.messages.drain(..) {
                taken_in.insert_received(channel, message);
            }
            commands.entity(link).remove::<Stash>();
            continue;
        }
        for (number, (_, channel)) in channels.server_channels.iter().enumerate() {
            let Some(receiver) = transport.channel_receive_mut(*channel) else {
                continue;
            };
            while let Some((_, message, _)) = receiver.read_message() {
                stash.push(number, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut stash = Stash::default();
        for _ in 0..10_000 {
            stash.push(0, Bytes::from_static(&[0; 1_000]));
        }
        assert!(stash.is_full());
        let kept: usize = stash.messages.iter().map(|(_, message)| message.len()).sum();
        assert!(kept <= STASH_BYTES_MAX);
    }
}
