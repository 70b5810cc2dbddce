//! The pages' icon in the formats that systems need.

use std::fs;

use anyhow::Context;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};
use xtask::run::root;

/// Icon sizes in pixels that Windows uses, from lists to the desktop.
const WINDOWS: [u32; 6] = [16, 24, 32, 48, 64, 256];

/// Icon sizes in pixels that macOS uses; the larger ones also serve at half the size on high-resolution displays.
const MACOS: [u32; 5] = [32, 128, 256, 512, 1024];

/// The original drawing.
pub(crate) fn svg() -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(root().join("web/favicon.svg"))?)
}

/// A PNG with this side length in pixels.
pub(crate) fn png(side: u32) -> anyhow::Result<Vec<u8>> {
    Ok(draw(side)?.encode_png()?)
}

/// Windows' `.ico`.
pub(crate) fn ico() -> anyhow::Result<Vec<u8>> {
    let mut icons = ico::IconDir::new(ico::ResourceType::Icon);
    for side in WINDOWS {
        let image = ico::IconImage::from_rgba_data(side, side, straight(&draw(side)?));
        icons.add_entry(ico::IconDirEntry::encode(&image)?);
    }
    let mut bytes = Vec::new();
    icons.write(&mut bytes)?;
    Ok(bytes)
}

/// macOS's `.icns`.
pub(crate) fn icns() -> anyhow::Result<Vec<u8>> {
    let mut icons = icns::IconFamily::new();
    for side in MACOS {
        let image = icns::Image::from_data(icns::PixelFormat::RGBA, side, side, straight(&draw(side)?))?;
        icons.add_icon(&image)?;
    }
    let mut bytes = Vec::new();
    icons.write(&mut bytes)?;
    Ok(bytes)
}

fn draw(side: u32) -> anyhow::Result<Pixmap> {
    let tree = Tree::from_data(&svg()?, &Options::default())?;
    let mut pixels = Pixmap::new(side, side).context("an icon has a size")?;
    let scale = side as f32 / tree.size().width();
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    Ok(pixels)
}

/// Red, green, blue and alpha, with the colours not premultiplied.
fn straight(pixels: &Pixmap) -> Vec<u8> {
    pixels
        .pixels()
        .iter()
        .map(|pixel| pixel.demultiply())
        .flat_map(|c| [c.red(), c.green(), c.blue(), c.alpha()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icon_has_its_colour_in_every_form() {
        let middle = |pixels: Vec<u8>, side: usize| pixels[(side * 2 + side / 2) * 4..][..3].to_vec();
        let rust = [0xb5, 0x48, 0x2a];
        let ico = ico::IconDir::read(std::io::Cursor::new(ico().unwrap())).unwrap();
        assert_eq!(ico.entries().len(), WINDOWS.len());
        let largest = ico.entries().iter().max_by_key(|entry| entry.width()).unwrap().decode().unwrap();
        assert_eq!(middle(largest.rgba_data().to_vec(), 256), rust);
        let icns = icns::IconFamily::read(std::io::Cursor::new(icns().unwrap())).unwrap();
        assert_eq!(icns.available_icons().len(), MACOS.len());
    }
}
