//! Small graphs of the last two seconds, drawn into pictures: a bar per frame, tick or probe.

use std::collections::VecDeque;
use std::time::Duration;

use bevy::asset::RenderAssetUsages;
use bevy::image::{Image, ImageSampler};
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};
use bevy::time::common_conditions::on_timer;
use meridian_client_net::NetworkHealth;

use super::timing::{FrameTimes, SAMPLES};
use crate::screen::{Panels, Screen};

/// Width of a graph in pixels: two for each sample.
pub(super) const WIDTH: usize = 2 * SAMPLES;
/// Its height.
pub(super) const HEIGHT: usize = 34;

pub(super) fn plugin(app: &mut App) {
    let mut images = app.world_mut().resource_mut::<Assets<Image>>();
    let image = GraphImage(Graph::ALL.map(|_| images.add(empty())));
    app.insert_resource(image);
    app.init_resource::<ActionLatencies>();
    app.add_systems(
        Update,
        (
            note_latency.run_if(on_timer(Duration::from_secs(1))),
            draw.run_if(in_state(Screen::World).and_then(|panels: Res<Panels>| panels.hud))
                .run_if(on_timer(Duration::from_millis(50))),
        )
            .chain(),
    );
}

/// What a graph is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Graph {
    Frame,
    Tick,
    Latency,
}

impl Graph {
    pub(super) const ALL: [Self; 3] = [Self::Frame, Self::Tick, Self::Latency];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Frame => "frame time, line at 16.7 ms",
            Self::Tick => "tick time, line at 2 ms",
            Self::Latency => "action latency by second, line at 100 ms",
        }
    }

    /// The value of the line, in milliseconds; twice as much fills the graph.
    fn line_ms(self) -> f32 {
        match self {
            Self::Frame => 16.7,
            Self::Tick => 2.0,
            Self::Latency => 100.0,
        }
    }
}

/// The graphs' pictures.
#[derive(Resource)]
pub(super) struct GraphImage([Handle<Image>; 3]);

impl GraphImage {
    pub(super) fn of(&self, graph: Graph) -> Handle<Image> {
        self.0[graph as usize].clone()
    }
}

/// The median action latency of each of the last seconds, in milliseconds.
#[derive(Resource, Default)]
struct ActionLatencies(VecDeque<f32>);

fn empty() -> Image {
    let size = Extent3d {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        depth_or_array_layers: 1,
    };
    let mut image = Image::new_fill(
        size,
        TextureDimension::D2,
        &[0, 0, 0, 0],
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::default(),
    );
    image.sampler = ImageSampler::nearest();
    image
}

/// One bar for each second; the time without a connection leaves none.
fn note_latency(health: Res<NetworkHealth>, mut latencies: ResMut<ActionLatencies>) {
    let Some(action) = health.action else { return };
    if latencies.0.len() >= SAMPLES {
        latencies.0.pop_front();
    }
    latencies.0.push_back(action.as_secs_f32() * 1e3);
}

fn draw(
    times: Res<FrameTimes>,
    latencies: Res<ActionLatencies>,
    graphs: Res<GraphImage>,
    mut images: ResMut<Assets<Image>>,
) {
    for graph in Graph::ALL {
        let Some(mut image) = images.get_mut(&graphs.of(graph)) else {
            continue;
        };
        let Some(pixels) = image.data.as_mut() else { continue };
        match graph {
            Graph::Frame => plot(pixels, times.frame.ms(), graph.line_ms()),
            Graph::Tick => plot(pixels, times.tick.ms(), graph.line_ms()),
            Graph::Latency => plot(pixels, latencies.0.iter().copied(), graph.line_ms()),
        }
    }
}

/// Draws bars from the left, two pixels each, into RGBA pixels: good ones green, those over the line yellow, over twice of it red.
fn plot(pixels: &mut [u8], values: impl Iterator<Item = f32>, line: f32) {
    const BACKGROUND: [u8; 4] = [10, 16, 26, 220];
    const LINE: [u8; 4] = [90, 105, 125, 255];
    const GOOD: [u8; 4] = [104, 200, 140, 255];
    const POOR: [u8; 4] = [250, 205, 90, 255];
    const BAD: [u8; 4] = [255, 120, 95, 255];
    pixels
        .chunks_exact_mut(4)
        .for_each(|pixel| pixel.copy_from_slice(&BACKGROUND));
    let mut set = |x: usize, y: usize, colour: [u8; 4]| {
        let at = ((HEIGHT - 1 - y) * WIDTH + x) * 4;
        pixels[at..at + 4].copy_from_slice(&colour);
    };
    (0..WIDTH).for_each(|x| set(x, HEIGHT / 2, LINE));
    for (index, value) in values.take(SAMPLES).enumerate() {
        let share = if value.is_finite() {
            (value / (2.0 * line)).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let high = ((share * HEIGHT as f32).round() as usize).clamp(1, HEIGHT);
        let colour = match value / line {
            ratio if ratio <= 1.0 => GOOD,
            ratio if ratio <= 2.0 => POOR,
            _ => BAD,
        };
        for y in 0..high {
            set(2 * index, y, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values_and_no_value_leaves_the_picture() {
        let mut pixels = vec![0; WIDTH * HEIGHT * 4];
        let values = [0.0, 10.0, 1e9, f32::NAN, -5.0]
            .into_iter()
            .chain(std::iter::repeat_n(5.0, 1_000));
        plot(&mut pixels, values, 10.0);
        let column = |x: usize| {
            (0..HEIGHT)
                .filter(|y| pixels[(y * WIDTH + 2 * x) * 4 + 1] >= 120)
                .count()
        };
        assert_eq!(
            [column(0), column(1), column(2), column(3)],
            [1, HEIGHT / 2, HEIGHT, HEIGHT]
        );
        assert_eq!(column(10), HEIGHT / 4 + 1, "8.5 pixels, rounded");
    }
}
