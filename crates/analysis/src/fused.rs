//! Fused multiply-add, where the instruction set has it.

use pulp::Simd;

/// c + a · b. Instruction sets without a fused product would emulate it slowly in software, so it is two steps there.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 { simd.add_f32s(c, simd.mul_f32s(a, b)) } else { simd.mul_add_e_f32s(a, b, c) }
}

/// c − a · b
#[inline(always)]
pub(crate) fn mul_sub<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 { simd.sub_f32s(c, simd.mul_f32s(a, b)) } else { simd.negate_mul_add_e_f32s(a, b, c) }
}

/// All instruction sets that this processor supports and the kernels are compiled for.
#[cfg(test)]
pub(crate) fn instruction_sets() -> Vec<pulp::Arch> {
    let mut sets = vec![pulp::Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    sets.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
    let best = pulp::Arch::new();
    if !sets.iter().any(|set| std::mem::discriminant(set) == std::mem::discriminant(&best)) {
        sets.push(best);
    }
    sets
}
