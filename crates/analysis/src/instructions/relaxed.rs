/// A browser that runs this program has relaxed SIMD.
pub(crate) fn arch() -> pulp::Arch {
    pulp::wasm::enable_relaxed_simd();
    pulp::Arch::new()
}
