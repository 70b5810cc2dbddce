// Nothing but multiply-adds, in enough chains to keep every unit busy.

@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;

const ROUNDS = 1024u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = f32(id.x % 7u) * 0.1;
    let factor = vec4<f32>(0.5, 0.25, 0.75, 0.125);
    var a = vec4<f32>(start);
    var b = vec4<f32>(start + 1.0);
    var c = vec4<f32>(start + 2.0);
    var d = vec4<f32>(start + 3.0);
    for (var round = 0u; round < ROUNDS; round++) {
        a = fma(a, factor, b);
        b = fma(b, factor, c);
        c = fma(c, factor, d);
        d = fma(d, factor, a);
    }
    out[id.x % 64u] = a + b + c + d;
}
