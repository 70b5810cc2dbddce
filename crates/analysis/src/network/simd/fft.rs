//! Unscaled inverse discrete Fourier transforms, many at once: each lane of a SIMD register holds a separate transform,
//! so no number ever moves between lanes.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use pulp::Simd;

use crate::fused::{mul_add, mul_sub};

/// A complex number, the same for all lanes.
pub(super) type Factor = (f32, f32);

/// e^(2πi · k / n)
pub(super) fn root(k: usize, n: usize) -> Factor {
    let angle = TAU * (k % n) as f64 / n as f64;
    (angle.cos() as f32, angle.sin() as f32)
}

/// One complex number per lane.
pub(super) struct Complex<S: Simd> {
    pub(super) re: S::f32s,
    pub(super) im: S::f32s,
}

impl<S: Simd> Clone for Complex<S> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Simd> Copy for Complex<S> {}

impl<S: Simd> Complex<S> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self { re: simd.splat_f32s(0.0), im: simd.splat_f32s(0.0) }
    }

    #[inline(always)]
    fn add(self, simd: S, b: Self) -> Self {
        Self { re: simd.add_f32s(self.re, b.re), im: simd.add_f32s(self.im, b.im) }
    }

    #[inline(always)]
    fn sub(self, simd: S, b: Self) -> Self {
        Self { re: simd.sub_f32s(self.re, b.re), im: simd.sub_f32s(self.im, b.im) }
    }

    /// self + i · b
    #[inline(always)]
    pub(super) fn add_i(self, simd: S, b: Self) -> Self {
        Self { re: simd.sub_f32s(self.re, b.im), im: simd.add_f32s(self.im, b.re) }
    }

    /// self − i · b
    #[inline(always)]
    fn sub_i(self, simd: S, b: Self) -> Self {
        Self { re: simd.add_f32s(self.re, b.im), im: simd.sub_f32s(self.im, b.re) }
    }

    /// self · e^(iπ/4)
    #[inline(always)]
    fn turn_eighth(self, simd: S) -> Self {
        let factor = simd.splat_f32s(FRAC_1_SQRT_2 as f32);
        Self {
            re: simd.mul_f32s(factor, simd.sub_f32s(self.re, self.im)),
            im: simd.mul_f32s(factor, simd.add_f32s(self.re, self.im)),
        }
    }

    /// self · factor
    #[inline(always)]
    pub(super) fn times(self, simd: S, (re, im): Factor) -> Self {
        let (re, im) = (simd.splat_f32s(re), simd.splat_f32s(im));
        Self {
            re: mul_sub(simd, self.im, im, simd.mul_f32s(self.re, re)),
            im: mul_add(simd, self.im, re, simd.mul_f32s(self.re, im)),
        }
    }
}

/// The transform of four numbers.
#[inline(always)]
pub(super) fn fft4<S: Simd>(simd: S, x: [Complex<S>; 4]) -> [Complex<S>; 4] {
    let (a, b) = (x[0].add(simd, x[2]), x[0].sub(simd, x[2]));
    let (c, d) = (x[1].add(simd, x[3]), x[1].sub(simd, x[3]));
    [a.add(simd, c), b.add_i(simd, d), a.sub(simd, c), b.sub_i(simd, d)]
}

/// The transform of eight numbers.
#[inline(always)]
pub(super) fn fft8<S: Simd>(simd: S, x: [Complex<S>; 8]) -> [Complex<S>; 8] {
    let even = fft4(simd, [x[0], x[2], x[4], x[6]]);
    let odd = fft4(simd, [x[1], x[3], x[5], x[7]]);
    // odd[k] · e^(2πik/8); for k = 2 and 3 without a factor of i.
    let (odd1, odd3) = (odd[1].turn_eighth(simd), odd[3].turn_eighth(simd));
    [
        even[0].add(simd, odd[0]),
        even[1].add(simd, odd1),
        even[2].add_i(simd, odd[2]),
        even[3].add_i(simd, odd3),
        even[0].sub(simd, odd[0]),
        even[1].sub(simd, odd1),
        even[2].sub_i(simd, odd[2]),
        even[3].sub_i(simd, odd3),
    ]
}
