//! Products that are added in one step, where the instructions at hand have that.

use pulp::Simd;

/// c + a · b. Instruction sets without a fused product have one in software, which is slow: two steps there.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 { simd.add_f32s(c, simd.mul_f32s(a, b)) } else { simd.mul_add_e_f32s(a, b, c) }
}

/// c − a · b
#[inline(always)]
pub(crate) fn mul_sub<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 { simd.sub_f32s(c, simd.mul_f32s(a, b)) } else { simd.negate_mul_add_e_f32s(a, b, c) }
}
