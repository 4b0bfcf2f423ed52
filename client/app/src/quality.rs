//! How much is drawn: presets for machines from none to good graphics cards.

use bevy::light::{CascadeShadowConfig, CascadeShadowConfigBuilder, DirectionalLightShadowMap};
use bevy::prelude::*;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::scene::sky::Sun;
use crate::settings::Settings;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, apply.run_if(resource_changed::<Settings>));
}

/// A preset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Without shadows, fog and smooth edges: runs without a graphics card.
    Low,
    /// Shadows near the player, smooth edges.
    #[default]
    Medium,
    /// Fine shadows as far as one sees.
    High,
}

impl Quality {
    /// All of them, least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }

    /// Smooth edges.
    pub fn msaa(self) -> Msaa {
        match self {
            Self::Low => Msaa::Off,
            Self::Medium | Self::High => Msaa::Sample4,
        }
    }

    /// The haze far away.
    pub fn fog(self) -> Option<DistanceFog> {
        (self != Self::Low).then(|| DistanceFog {
            color: crate::scene::sky::HORIZON,
            falloff: FogFalloff::from_visibility_squared(260.0),
            ..default()
        })
    }

    /// Side of the shadow map, in texels.
    fn shadow_map(self) -> usize {
        match self {
            Self::Low => 512,
            Self::Medium => 1_024,
            Self::High => 2_048,
        }
    }

    fn cascades(self) -> CascadeShadowConfig {
        let (number, distance) = match self {
            Self::Low | Self::Medium => (1, 40.0),
            Self::High => (3, 120.0),
        };
        CascadeShadowConfigBuilder {
            num_cascades: number,
            maximum_distance: distance,
            first_cascade_far_bound: 16.0,
            ..default()
        }
        .build()
    }
}

fn apply(
    settings: Res<Settings>,
    mut applied: Local<Option<Quality>>,
    cameras: Query<Entity, With<Camera3d>>,
    mut suns: Query<(&mut DirectionalLight, &mut CascadeShadowConfig), With<Sun>>,
    mut commands: Commands,
) {
    let quality = settings.quality;
    if applied.replace(quality) == Some(quality) {
        return;
    }
    commands.insert_resource(DirectionalLightShadowMap {
        size: quality.shadow_map(),
    });
    for camera in &cameras {
        let mut camera = commands.entity(camera);
        camera.insert(quality.msaa());
        match quality.fog() {
            Some(fog) => camera.insert(fog),
            None => camera.remove::<DistanceFog>(),
        };
    }
    for (mut light, mut cascades) in &mut suns {
        light.shadow_maps_enabled = quality != Quality::Low;
        *cascades = quality.cascades();
    }
}
