//! The textures of the demo world, part of the program, with the smaller copies that keep far surfaces calm.

use bevy::asset::RenderAssetUsages;
use bevy::image::{
    CompressedImageFormats, Image, ImageAddressMode, ImageFilterMode, ImageSampler, ImageSamplerDescriptor, ImageType,
};
use bevy::prelude::*;

const GROUND: &[u8] = include_bytes!("../../../../assets/textures/ground.png");
const WALL: &[u8] = include_bytes!("../../../../assets/textures/wall.png");
const CRATE: &[u8] = include_bytes!("../../../../assets/textures/crate.png");

pub(super) fn plugin(app: &mut App) {
    let mut images = app.world_mut().resource_mut::<Assets<Image>>();
    let mut load = |name: &str, png: &[u8]| match tiled(png) {
        Ok(image) => Some(images.add(image)),
        Err(error) => {
            tracing::error!(name, %error, "a texture cannot be used");
            None
        }
    };
    let textures = Textures {
        ground: load("ground", GROUND),
        wall: load("wall", WALL),
        crate_: load("crate", CRATE),
    };
    app.insert_resource(textures);
}

/// The textures; one that could not be read leaves its surfaces plain.
#[derive(Resource, Clone)]
pub struct Textures {
    /// Four metres of paving.
    pub ground: Option<Handle<Image>>,
    /// Two metres of masonry.
    pub wall: Option<Handle<Image>>,
    /// A crate's face.
    pub crate_: Option<Handle<Image>>,
}

fn tiled(png: &[u8]) -> Result<Image, String> {
    let sampler = ImageSamplerDescriptor {
        address_mode_u: ImageAddressMode::Repeat,
        address_mode_v: ImageAddressMode::Repeat,
        mag_filter: ImageFilterMode::Linear,
        min_filter: ImageFilterMode::Linear,
        mipmap_filter: ImageFilterMode::Linear,
        anisotropy_clamp: 8,
        ..ImageSamplerDescriptor::default()
    };
    let mut image = Image::from_buffer(
        png,
        ImageType::Extension("png"),
        CompressedImageFormats::NONE,
        true,
        ImageSampler::Descriptor(sampler),
        RenderAssetUsages::RENDER_WORLD,
    )
    .map_err(|error| error.to_string())?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let full = image.data.take().ok_or("no pixels")?;
    if full.len() != width * height * 4 || !width.is_power_of_two() || width != height {
        return Err(format!(
            "not a square of RGBA: {width} x {height}, {} bytes",
            full.len()
        ));
    }
    let (levels, data) = with_smaller(full, width);
    image.texture_descriptor.mip_level_count = levels;
    image.data = Some(data);
    Ok(image)
}

/// The picture and its halves down to one pixel, one behind the other.
fn with_smaller(full: Vec<u8>, side: usize) -> (u32, Vec<u8>) {
    let (mut data, mut level, mut side, mut levels) = (full.clone(), full, side, 1);
    while side > 1 {
        let half = side / 2;
        let mut smaller = Vec::with_capacity(half * half * 4);
        for y in 0..half {
            for x in 0..half {
                for channel in 0..4 {
                    let at = |x: usize, y: usize| u32::from(level[(y * side + x) * 4 + channel]);
                    let sum = at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1);
                    smaller.push(((sum + 2) / 4) as u8);
                }
            }
        }
        data.extend_from_slice(&smaller);
        (level, side, levels) = (smaller, half, levels + 1);
    }
    (levels, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_texture_is_read_and_has_all_its_smaller_copies() {
        for png in [GROUND, WALL, CRATE] {
            let image = tiled(png).unwrap();
            let side = image.width();
            assert_eq!(image.texture_descriptor.mip_level_count, side.ilog2() + 1);
            let pixels: usize = (0..=side.ilog2()).map(|level| (side as usize >> level).pow(2)).sum();
            assert_eq!(image.data.map(|data| data.len()), Some(pixels * 4));
        }
        assert!(tiled(b"no picture").is_err());
    }

    #[test]
    fn a_smaller_copy_is_the_mean() {
        let (levels, data) = with_smaller([[0, 0, 0, 255]; 2].concat().into_iter().chain([100; 8]).collect(), 2);
        assert_eq!(levels, 2);
        assert_eq!(data[16..], [50, 50, 50, 178]);
    }
}
