//! How many shaders are still being made: until there are none, not all that is there is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bevy::prelude::*;
use bevy::render::render_resource::PipelineCache;
use bevy::render::{Render, RenderApp, RenderSystems};

/// Counts them, where there is a renderer. Added after everything else.
pub(super) fn plugin(app: &mut App) {
    let waiting = Pipelines::default();
    app.insert_resource(waiting.clone());
    if let Some(render_app) = app.get_sub_app_mut(RenderApp) {
        render_app.insert_resource(waiting);
        render_app.add_systems(Render, count.in_set(RenderSystems::Cleanup));
    }
}

/// The number, shared with the renderer.
#[derive(Resource, Clone, Debug, Default)]
pub struct Pipelines(Arc<AtomicUsize>);

impl Pipelines {
    /// How many are being made.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn count(cache: Res<PipelineCache>, waiting: Res<Pipelines>) {
    waiting.0.store(cache.waiting_pipelines().count(), Ordering::Relaxed);
}
