//! Converts joint stereo back to left and right, line by line in coding order (ISO/IEC 11172-3, 2.4.3.4.9; 13818-3,
//! 2.4.3.2).

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use super::{
    bands::Layout,
    scale::{Factors, power},
    side::{Granule, Header, LINES},
};

/// Converts joint stereo to left and right. `layout`, `granule` and `factors` are the right channel's.
pub(super) fn separate(
    header: Header,
    granule: &Granule,
    layout: &Layout,
    factors: &Factors,
    left: &mut [f32; LINES],
    right: &mut [f32; LINES],
) {
    if !header.is_intensity {
        if header.is_mid_side {
            mid_side(left, right);
        }
        return;
    }
    // Above the right channel's highest non-zero line, in each short window, its scale factors are positions.
    let bands = layout.ends.len();
    let is_empty = |right: &[f32; LINES], band: usize| right[lines(layout, band)].iter().all(|&line| line == 0.0);
    let mut is_above = [true; 3];
    for band in (0..bands).rev() {
        let is_long = band < layout.long;
        let window = if is_long { 0 } else { (band - layout.long) % 3 };
        let before = band.checked_sub(if is_long { 1 } else { 3 });
        let is_last = if is_long { band + 1 == bands } else { band + 3 >= bands };
        let mut factor_of = band;
        let is_open = if is_long { is_above == [true; 3] } else { is_above[window] };
        let mut gains = None;
        if is_open && is_empty(right, band) {
            // The last bands have no position of their own: they use the previous band's, if that band has one.
            let position = match before {
                Some(before) if is_last && is_empty(right, before) => {
                    factor_of = before;
                    factors.values[before]
                }
                _ if is_last => {
                    if header.is_full_rate {
                        3
                    } else {
                        0
                    }
                }
                _ => factors.values[band],
            };
            if position < factors.limits[factor_of] {
                gains = Some(gains_at(header, granule, position));
            }
        } else if is_long {
            is_above = [false; 3];
        } else {
            is_above[window] = false;
        }
        let (left, right) = (&mut left[lines(layout, band)], &mut right[lines(layout, band)]);
        match gains {
            Some((to_left, to_right)) => {
                for (left, right) in left.iter_mut().zip(right) {
                    (*left, *right) = (*left * to_left, *left * to_right);
                }
            }
            None if header.is_mid_side => mid_side(left, right),
            None => {}
        }
    }
}

fn lines(layout: &Layout, band: usize) -> std::ops::Range<usize> {
    let start = band.checked_sub(1).map_or(0, |before| layout.ends[before]);
    start..layout.ends[band]
}

/// Gains of a line for left and right.
fn gains_at(header: Header, granule: &Granule, position: u8) -> (f32, f32) {
    if header.is_full_rate {
        let angle = f32::from(position) * PI / 12.0;
        let (sine, cosine) = angle.sin_cos();
        return (sine / (sine + cosine), cosine / (sine + cosine));
    }
    let step = if granule.scale_lengths % 2 == 1 { 2 } else { 1 };
    let less = power(-step * i32::from(position.div_ceil(2)));
    if position % 2 == 1 { (less, 1.0) } else { (1.0, less) }
}

#[inline(always)]
fn mid_side(left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let (mid, side) = (*left * FRAC_1_SQRT_2, *right * FRAC_1_SQRT_2);
        (*left, *right) = (mid + side, mid - side);
    }
}
