//! The last sight of a world whose link ended: local copies that stand still until the next gateway has replicated.
//!
//! Replication takes all its entities away when a link ends, and brings them anew over the next one. Without copies everybody would
//! vanish in between. A copy is shown and nothing else: nobody predicts it, interpolates it or walks into it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bevy::app::{App, Update};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Remove;
use bevy::ecs::observer::On;
use bevy::ecs::query::{Has, With, Without};
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::schedule::common_conditions::any_with_component;
use bevy::ecs::system::{Commands, Query, Res};
use bevy::time::{Real, Time};
use lightyear::prelude::Connected;
use lightyear_replication::prelude::Replicated;
use lightyear_replication::receive::ReplicationReceiver;
use meridian_game::{Body, DisplayName, Identity};
use meridian_ids::WorldEntityId;

use crate::connection::Connector;
use crate::plugin::OwnPlayer;
use crate::shown::{ShownPose, ShownSystems};

/// How long after a gateway's welcome what it has not replicated by then is taken for gone: everything in sight comes in the first
/// second, over a bad link in two.
const AFTER_WELCOME: Duration = Duration::from_secs(3);
/// The longest that a copy stands: as long as a zone keeps a player whom nobody plays.
const KEPT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn plugin(app: &mut App) {
    app.add_observer(copy_what_is_shown);
    app.add_systems(
        Update,
        let_go
            .in_set(ShownSystems::Copies)
            .run_if(any_with_component::<FrozenCopy>),
    );
}

/// A copy of an entity that was shown when its link ended. It has the entity's [`Identity`], [`ShownPose`], [`Body`] and, but for the own
/// player, [`DisplayName`].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenCopy {
    /// Whose copy.
    pub entity: WorldEntityId,
    /// Whether it is the own player's.
    pub is_own: bool,
    since: Instant,
}

type Shown = (
    &'static Identity,
    &'static ShownPose,
    Option<&'static Body>,
    Option<&'static DisplayName>,
    Has<OwnPlayer>,
);

/// Runs before the entities are taken away: the same moment tells replication to do so.
fn copy_what_is_shown(
    ended: On<Remove, (Connected, ReplicationReceiver)>,
    links: Query<(), (With<Connected>, With<ReplicationReceiver>)>,
    connector: Res<Connector>,
    shown: Query<Shown, With<Replicated>>,
    older: Query<(Entity, &FrozenCopy)>,
    time: Res<Time<Real>>,
    mut commands: Commands,
) {
    // Of a link that ended before, or that was left on purpose, nothing is to be seen any more.
    if !links.contains(ended.entity) || !connector.shows_world() {
        return;
    }
    let since = time.last_update().unwrap_or_else(Instant::now);
    let mut copied = HashSet::new();
    for (identity, pose, body, name, is_own) in &shown {
        let entity = identity.entity;
        if !copied.insert(entity) {
            continue;
        }
        let mut copy = commands.spawn((FrozenCopy { entity, is_own, since }, *identity, *pose));
        if let Some(body) = body {
            copy.insert(*body);
        }
        // Nobody reads the own name over the own head.
        if let Some(name) = name.filter(|_| !is_own) {
            copy.insert(name.clone());
        }
    }
    for (older, copy) in &older {
        if copied.contains(&copy.entity) {
            commands.entity(older).despawn();
        }
    }
}

/// Takes copies away whose entity is there again, or that stood for long enough.
fn let_go(
    connector: Res<Connector>,
    shown: Query<&Identity, (With<ShownPose>, Without<FrozenCopy>)>,
    copies: Query<(Entity, &FrozenCopy)>,
    time: Res<Time<Real>>,
    mut commands: Commands,
) {
    let now = time.last_update().unwrap_or_else(Instant::now);
    let there: HashSet<WorldEntityId> = shown.iter().map(|identity| identity.entity).collect();
    let welcomed = connector.welcomed_at();
    for (entity, copy) in &copies {
        let since_welcome = welcomed
            .filter(|welcomed| *welcomed >= copy.since)
            .map(|welcomed| now.saturating_duration_since(welcomed));
        let is_over = !connector.shows_world()
            || there.contains(&copy.entity)
            || since_welcome.is_some_and(|since| since > AFTER_WELCOME)
            || now.saturating_duration_since(copy.since) > KEPT_MAX;
        if is_over {
            commands.entity(entity).despawn();
        }
    }
}
