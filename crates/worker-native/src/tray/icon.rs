//! The image of `web/favicon.svg` in pixels: four rounded bars on a square with rounded corners.

/// Width and height in pixels, which are also the units of the drawing.
pub(super) const SIDE: u32 = 32;

const RADIUS: f32 = 9.0;
const GROUND: [u8; 3] = [0xb5, 0x48, 0x2a];
const INK: [u8; 3] = [0xff, 0xf6, 0xea];

/// Half of a bar's width.
const HALF: f32 = 1.5;

/// For each bar, its x position, upper end and lower end.
const BARS: [[f32; 3]; 4] = [[7.5, 13.5, 18.5], [13.2, 8.0, 24.0], [18.9, 11.5, 20.5], [24.5, 14.5, 17.5]];

/// Red, green, blue and opacity of each pixel, row by row.
pub(super) fn rgba() -> Vec<u8> {
    let pixel = |i: u32| {
        let (x, y) = ((i % SIDE) as f32 + 0.5, (i / SIDE) as f32 + 0.5);
        let is_ink = BARS.iter().map(|bar| coverage(to_bar(x, y, *bar) - HALF)).fold(0.0, f32::max);
        let mix = |ground: u8, ink: u8| (f32::from(ground) * (1.0 - is_ink) + f32::from(ink) * is_ink).round() as u8;
        let [red, green, blue] = std::array::from_fn(|i| mix(GROUND[i], INK[i]));
        [red, green, blue, (255.0 * coverage(to_square(x, y))).round() as u8]
    };
    (0..SIDE * SIDE).flat_map(pixel).collect()
}

/// The share of a pixel covered by a shape, from the distance to its border (negative inside).
fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

/// Distance of a point from a bar's middle line.
fn to_bar(x: f32, y: f32, [at, top, bottom]: [f32; 3]) -> f32 {
    (x - at).hypot(y - y.clamp(top, bottom))
}

/// Distance of a point from the square's border.
fn to_square(x: f32, y: f32) -> f32 {
    let half = SIDE as f32 / 2.0;
    let beyond = |at: f32| (at - half).abs() - (half - RADIUS);
    let (x, y) = (beyond(x), beyond(y));
    x.max(0.0).hypot(y.max(0.0)) + x.max(y).min(0.0) - RADIUS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_the_sign() {
        let pixels = rgba();
        let at = |x: u32, y: u32| {
            let start = 4 * (y * SIDE + x) as usize;
            [pixels[start], pixels[start + 1], pixels[start + 2], pixels[start + 3]]
        };
        assert_eq!(pixels.len(), 4 * 32 * 32);
        assert_eq!(at(0, 0)[3], 0, "the corners are round");
        assert_eq!(at(16, 2), [0xb5, 0x48, 0x2a, 255]);
        assert_eq!((at(13, 15), at(7, 15)), ([0xff, 0xf6, 0xea, 255], [0xff, 0xf6, 0xea, 255]));
    }
}
