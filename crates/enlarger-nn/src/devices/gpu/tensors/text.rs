//! Kernels on tensors in WGSL. Maps are `[batch][height][width][channels]` in fours of channels; sums are f32, whatever maps are.

use std::fmt::Write;

use crate::devices::gpu::kernel::Store;

/// Threads of a group of any of these kernels.
pub const THREADS: u32 = 64;
/// Pixels of a tile of a convolution.
pub const PIXELS: u32 = 64;
/// Fours of input channels that a convolution brings to the memory of a group at once.
pub const DEPTH: u32 = 4;
/// Queries, and keys, that an attention looks at together.
pub const SPAN: u32 = 32;
/// Fours of channels of a head that a group of an attention makes; wider heads are made in parts.
const PART: u32 = 32;
/// Pixels whose sums are taken together.
pub const SLICE: u32 = 64;
/// Numbers that a kernel is told.
pub const FIELDS: usize = 16;

/// What kernels there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A convolution or a linear layer, for many outputs (`wide`) or few.
    Conv {
        wide: bool,
        store: Store,
        weights: Store,
    },
    /// Means and sums of squares around them, of each channel of slices of pixels.
    Moments(Store),
    /// What these come to: a factor and a summand for each channel.
    Factors,
    /// Applies them, and SiLU.
    Normalize(Store),
    LayerNorm(Store),
    /// `width` are the fours of channels of a head.
    Attention {
        width: u32,
        store: Store,
    },
    Activate(Store),
    Gate(Store),
    Add(Store),
    Concat(Store),
    Double(Store),
}

/// Fours of outputs of a tile of a convolution.
pub fn outputs(wide: bool) -> u32 {
    let Shape { across, fours, .. } = shape(wide);
    across * fours
}

/// The parts in which an attention makes a head of so many fours.
pub fn parts(width: u32) -> u32 {
    width.div_ceil(PART)
}

/// What a thread of a convolution computes.
struct Shape {
    /// Pixels.
    pixels: u32,
    /// Fours of outputs.
    fours: u32,
    /// Threads side by side over outputs; the others are over pixels.
    across: u32,
}

fn shape(wide: bool) -> Shape {
    if wide { Shape { pixels: 8, fours: 2, across: 8 } } else { Shape { pixels: 4, fours: 1, across: 4 } }
}

impl Kind {
    /// Its text.
    pub fn text(&self) -> String {
        match *self {
            Self::Conv { wide, store, weights } => conv(wide, store, weights),
            Self::Moments(store) => moments(store),
            Self::Factors => factors(),
            Self::Normalize(store) => each(
                store,
                &["count", "fours", "area", "silu"],
                &["from_map: array<Four>", "factors: array<vec4<f32>>"],
                "    let c = at % job.fours;
    let picture = at / job.fours / job.area;
    var v = wide(from_map[at]) * factors[picture * 2u * job.fours + c] + factors[(picture * 2u + 1u) * job.fours + c];
    if (job.silu == 1u) { v = v / (1.0 + exp(-v)); }
    to[at] = narrow(v);
",
            ),
            Self::LayerNorm(store) => layer_norm(store),
            Self::Attention { width, store } => attention(width, store),
            Self::Activate(store) => each(
                store,
                &["count", "kind"],
                &["from_map: array<Four>"],
                "    let v = wide(from_map[at]);
    var w = v / (1.0 + exp(-v));
    if (job.kind == 1u) { w = gelu(v); }
    if (job.kind == 2u) { w = v / (1.0 + exp(-1.702 * v)); }
    to[at] = narrow(w);
",
            ),
            Self::Gate(store) => each(
                store,
                &["count", "half"],
                &["from_map: array<Four>"],
                "    let from_at = at / job.half * 2u * job.half + at % job.half;
    to[at] = narrow(wide(from_map[from_at]) * gelu(wide(from_map[from_at + job.half])));
",
            ),
            Self::Add(store) => each(
                store,
                &["count", "fours", "width", "height", "scale", "step_x", "step_y", "step_picture"],
                &["from_map: array<Four>", "added: array<Four>"],
                "    let pixel = at / job.fours;
    let row = pixel / job.width;
    let other = row / job.height * job.step_picture + row % job.height * job.step_y + pixel % job.width * job.step_x;
    to[at] = narrow(wide(from_map[at]) + bitcast<f32>(job.scale) * wide(added[other * job.fours + at % job.fours]));
",
            ),
            Self::Concat(store) => each(
                store,
                &["count", "one", "two"],
                &["from_map: array<Four>", "second: array<Four>"],
                "    let c = at % (job.one + job.two);
    let pixel = at / (job.one + job.two);
    if (c < job.one) { to[at] = from_map[pixel * job.one + c]; } else { to[at] = second[pixel * job.two + c - job.one]; }
",
            ),
            Self::Double(store) => each(
                store,
                &["count", "fours", "width"],
                &["from_map: array<Four>"],
                "    let pixel = at / job.fours;
    let row = pixel / (2u * job.width);
    let x = pixel % (2u * job.width) / 2u;
    to[at] = from_map[(row / 2u * job.width + x) * job.fours + at % job.fours];
",
            ),
        }
    }
}

/// What a kernel is told, `first` being the first of its groups.
fn job(fields: &[&str]) -> String {
    let mut text = "struct Job { first: u32".to_owned();
    let padding: Vec<String> = (fields.len() + 1..FIELDS).map(|at| format!("padding{at}")).collect();
    for field in fields.iter().copied().chain(padding.iter().map(String::as_str)) {
        _ = write!(text, ", {field}: u32");
    }
    text + " }\nvar<immediate> job: Job;\n"
}

/// Buffers that are read, and the last that is written.
fn bindings(sources: &[&str], to: &str) -> String {
    let mut text = String::new();
    for (at, source) in sources.iter().enumerate() {
        _ = writeln!(text, "@group(0) @binding({at}) var<storage, read> {source};");
    }
    _ = writeln!(text, "@group(0) @binding({}) var<storage, read_write> to: array<{to}>;", sources.len());
    text
}

fn head(store: Store) -> String {
    store.text("Four", "wide", "narrow")
}

/// The first lines of all kernels' functions.
const MAIN: &str = "@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
";

/// A kernel that computes each four of values alone.
fn each(store: Store, fields: &[&str], sources: &[&str], body: &str) -> String {
    // The error function after Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most.
    let gelu = "fn gelu(v: vec4<f32>) -> vec4<f32> {
    let x = abs(v) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * x);
    let sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let rest = sum * exp(-x * x);
    return 0.5 * v * select(rest, 2.0 - rest, v >= vec4<f32>(0.0));
}
";
    let gelu = if body.contains("gelu(") { gelu } else { "" };
    format!(
        "{}{}{}{gelu}{MAIN}    let at = (job.first + group.x) * {THREADS}u + thread;
    if (at >= job.count) {{ return; }}
{body}}}
",
        head(store),
        job(fields),
        bindings(sources, "Four"),
    )
}

/// The sum of a value over all threads of a group.
const TOTAL: &str = "var<workgroup> shares: array<f32, 64>;
fn total(thread: u32, value: f32) -> f32 {
    shares[thread] = value;
    workgroupBarrier();
    for (var step = 32u; step > 0u; step = step / 2u) {
        if (thread < step) { shares[thread] = shares[thread] + shares[thread + step]; }
        workgroupBarrier();
    }
    let sum = shares[0];
    workgroupBarrier();
    return sum;
}
";

fn conv(wide: bool, store: Store, weights: Store) -> String {
    let Shape { pixels, fours, across } = shape(wide);
    let (down, outputs) = (THREADS / across, across * fours);
    let (loads, filters) = (PIXELS * DEPTH / THREADS, 4 * DEPTH * outputs);
    let mut text = head(store);
    text += &weights.text("Weight", "heavy", "light");
    text += &job(&[
        "pixels",
        "width",
        "height",
        "from_width",
        "from_height",
        "fours",
        "outputs",
        "kernel",
        "stride",
        "before",
        "doubled",
        "adds",
    ]);
    text += &bindings(
        &["from_map: array<Four>", "weights: array<Weight>", "bias: array<vec4<f32>>", "added: array<Four>"],
        "Four",
    );
    _ = write!(
        text,
        "var<workgroup> seen: array<vec4<f32>, {}>;
var<workgroup> taps: array<vec4<f32>, {filters}>;
{MAIN}    let tile = (job.first + group.x) * {PIXELS}u;
    let column = thread % {across}u;
    let line = thread / {across}u;
    let blocks = (job.fours + {}u) / {DEPTH}u;
    let part = thread % {DEPTH}u;
",
        PIXELS * DEPTH,
        DEPTH - 1
    );
    for load in 0..loads {
        _ = write!(
            text,
            "    let pixel{load} = tile + thread / {DEPTH}u + {}u;
    let row{load} = pixel{load} / job.width;
    let picture{load} = row{load} / job.height * (job.from_height >> job.doubled) * (job.from_width >> job.doubled);
    let y{load} = i32(row{load} % job.height * job.stride) - i32(job.before);
    let x{load} = i32(pixel{load} % job.width * job.stride) - i32(job.before);
",
            load * THREADS / DEPTH
        );
    }
    for (pixel, four) in places(pixels, fours) {
        _ = writeln!(text, "    var s{pixel}x{four} = vec4<f32>(0.0);");
    }
    _ = write!(
        text,
        "    for (var tap = 0u; tap < job.kernel * job.kernel; tap++) {{
        let dy = i32(tap / job.kernel);
        let dx = i32(tap % job.kernel);
        for (var block = 0u; block < blocks; block++) {{
            let four = block * {DEPTH}u + part;
"
    );
    for load in 0..loads {
        _ = write!(
            text,
            "            {{
                var v = vec4<f32>(0.0);
                let y = y{load} + dy;
                let x = x{load} + dx;
                if (pixel{load} < job.pixels && four < job.fours && y >= 0 && x >= 0 && y < i32(job.from_height) && x < \
             i32(job.from_width)) {{
                    let from_row = (u32(y) >> job.doubled) * (job.from_width >> job.doubled);
                    v = wide(from_map[(picture{load} + from_row + (u32(x) >> job.doubled)) * job.fours + four]);
                }}
                seen[part * {PIXELS}u + thread / {DEPTH}u + {}u] = v;
            }}
",
            load * THREADS / DEPTH
        );
    }
    _ = write!(
        text,
        "            let filters = ((group.y * job.kernel * job.kernel + tap) * blocks + block) * {filters}u;
            for (var i = thread; i < {filters}u; i += {THREADS}u) {{ taps[i] = heavy(weights[filters + i]); }}
            workgroupBarrier();
            for (var k = 0u; k < {DEPTH}u; k++) {{
"
    );
    for (lane, four) in places(4, fours) {
        _ = writeln!(
            text,
            "                let w{lane}x{four} = taps[(k * 4u + {lane}u) * {outputs}u + column + {}u];",
            four * across
        );
    }
    for pixel in 0..pixels {
        _ = writeln!(text, "                let v{pixel} = seen[k * {PIXELS}u + line + {}u];", pixel * down);
        for (lane, name) in ["x", "y", "z", "w"].into_iter().enumerate() {
            for four in 0..fours {
                let sum = format!("s{pixel}x{four}");
                _ = writeln!(text, "                {sum} = fma(vec4<f32>(v{pixel}.{name}), w{lane}x{four}, {sum});");
            }
        }
    }
    text += "            }
            workgroupBarrier();
        }
    }
";
    for (pixel, four) in places(pixels, fours) {
        _ = write!(
            text,
            "    {{
        let pixel = tile + line + {}u;
        let o = group.y * {outputs}u + column + {}u;
        if (pixel < job.pixels && o < job.outputs) {{
            var v = s{pixel}x{four} + bias[o];
            if (job.adds == 1u) {{ v += wide(added[pixel * job.outputs + o]); }}
            to[pixel * job.outputs + o] = narrow(v);
        }}
    }}
",
            pixel * down,
            four * across
        );
    }
    text + "}\n"
}

fn places(pixels: u32, fours: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..pixels).flat_map(move |pixel| (0..fours).map(move |four| (pixel, four)))
}

/// Sums are taken around the slice's first pixel, so that little cancels.
fn moments(store: Store) -> String {
    format!(
        "{}{}{}{MAIN}    let at = (job.first + group.x) * {THREADS}u + thread;
    if (at >= job.count) {{ return; }}
    let c = at % job.fours;
    let slice = at / job.fours;
    let start = slice % job.slices * {SLICE}u;
    let count = min({SLICE}u, job.area - start);
    let pixel = slice / job.slices * job.area + start;
    let near = wide(from_map[pixel * job.fours + c]);
    var sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var i = 1u; i < count; i++) {{
        let v = wide(from_map[(pixel + i) * job.fours + c]) - near;
        sum += v;
        squares = fma(v, v, squares);
    }}
    to[2u * slice * job.fours + c] = near + sum / f32(count);
    to[(2u * slice + 1u) * job.fours + c] = squares - sum * sum / f32(count);
}}
",
        head(store),
        job(&["count", "fours", "slices", "area"]),
        bindings(&["from_map: array<Four>"], "vec4<f32>"),
    )
}

/// A group of threads for each group of channels of each picture. Variances add up as Chan, Golub and LeVeque (1979) have it.
fn factors() -> String {
    format!(
        "{}{}{TOTAL}{MAIN}    let each = job.channels / job.groups;
    let picture = (job.first + group.x) / job.groups;
    let channel = (job.first + group.x) % job.groups * each;
    let stride = (job.channels + 3u) / 4u * 4u;
    var share = 0.0;
    for (var i = thread; i < job.slices * each; i += {THREADS}u) {{
        let slice = i / each;
        let at = 2u * (picture * job.slices + slice) * stride + channel + i % each;
        share += moments[at] * f32(min({SLICE}u, job.area - slice * {SLICE}u));
    }}
    let count = f32(job.area) * f32(each);
    let mean = total(thread, share) / count;
    share = 0.0;
    for (var i = thread; i < job.slices * each; i += {THREADS}u) {{
        let slice = i / each;
        let at = 2u * (picture * job.slices + slice) * stride + channel + i % each;
        let off = moments[at] - mean;
        share += moments[at + stride] + off * off * f32(min({SLICE}u, job.area - slice * {SLICE}u));
    }}
    let over = 1.0 / sqrt(total(thread, share) / count + bitcast<f32>(job.epsilon));
    for (var c = channel + thread; c < channel + each; c += {THREADS}u) {{
        let scale = norm[c] * over;
        to[2u * picture * stride + c] = scale;
        to[(2u * picture + 1u) * stride + c] = norm[stride + c] - mean * scale;
    }}
}}
",
        job(&["channels", "groups", "slices", "area", "epsilon"]),
        bindings(&["moments: array<f32>", "norm: array<f32>"], "f32"),
    )
}

/// A group of threads for each token.
fn layer_norm(store: Store) -> String {
    format!(
        "{}{}{}{TOTAL}{MAIN}    let token = (job.first + group.x) * job.fours;
    var share = 0.0;
    for (var c = thread; c < job.fours; c += {THREADS}u) {{ share += dot(wide(from_map[token + c]), vec4<f32>(1.0)); }}
    let mean = total(thread, share) / f32(4u * job.fours);
    share = 0.0;
    for (var c = thread; c < job.fours; c += {THREADS}u) {{
        let off = wide(from_map[token + c]) - mean;
        share += dot(off, off);
    }}
    let over = 1.0 / sqrt(total(thread, share) / f32(4u * job.fours) + bitcast<f32>(job.epsilon));
    for (var c = thread; c < job.fours; c += {THREADS}u) {{
        to[token + c] = narrow((wide(from_map[token + c]) - mean) * over * norm[c] + norm[job.fours + c]);
    }}
}}
",
        head(store),
        job(&["fours", "epsilon"]),
        bindings(&["from_map: array<Four>", "norm: array<vec4<f32>>"], "Four"),
    )
}

/// A group of threads for some queries of a head: it goes through the keys by [`SPAN`] and keeps running sums (Milakov and
/// Gimelshein 2018), so that no more than `SPAN * SPAN` scores exist.
fn attention(width: u32, store: Store) -> String {
    let (part, quads) = (PART.min(width), SPAN / 4);
    let fours = part.div_ceil(quads);
    let mut text = head(store);
    text += &job(&["queries", "keys", "heads", "causal", "scale"]);
    text += &bindings(&["q: array<Four>", "k: array<Four>", "v: array<Four>"], "Four");
    _ = write!(
        text,
        "const LOW: f32 = -3e38;
var<workgroup> qs: array<vec4<f32>, 256>;
var<workgroup> ks: array<vec4<f32>, 256>;
var<workgroup> scores: array<f32, 1024>;
var<workgroup> halves: array<f32, 64>;
var<workgroup> most: array<f32, 32>;
var<workgroup> sums: array<f32, 32>;
var<workgroup> kept: array<f32, 32>;
{MAIN}    let first = (job.first + group.x) * {SPAN}u;
    let head = group.y % job.heads;
    let part = group.y / job.heads * {part}u;
    let i = thread / 8u;
    let j = thread % 8u;
    let row = thread % {SPAN}u;
    let half = thread / {SPAN}u;
    let token = job.heads * {width}u;
    let from_q = group.z * job.queries * token + head * {width}u;
    let from_k = group.z * job.keys * token + head * {width}u;
    if (half == 0u) {{
        most[row] = LOW;
        sums[row] = 0.0;
    }}
"
    );
    for (query, four) in places(4, fours) {
        _ = writeln!(text, "    var o{query}x{four} = vec4<f32>(0.0);");
    }
    _ = write!(
        text,
        "    for (var start = 0u; start < job.keys; start += {SPAN}u) {{
        if (job.causal == 1u && start > first + {}u) {{ break; }}
        var d0 = vec4<f32>(0.0);
        var d1 = vec4<f32>(0.0);
        var d2 = vec4<f32>(0.0);
        var d3 = vec4<f32>(0.0);
        for (var c = 0u; c < {width}u; c += 8u) {{
            workgroupBarrier();
            for (var load = thread; load < 256u; load += {THREADS}u) {{
                let four = load % 8u;
                let at = load / 8u;
                var x = vec4<f32>(0.0);
                var y = vec4<f32>(0.0);
                if (c + four < {width}u && first + at < job.queries) {{ x = wide(q[from_q + (first + at) * token + c + four]); }}
                if (c + four < {width}u && start + at < job.keys) {{ y = wide(k[from_k + (start + at) * token + c + four]); }}
                qs[four * {SPAN}u + at] = x;
                ks[four * {SPAN}u + at] = y;
            }}
            workgroupBarrier();
            for (var four = 0u; four < 8u; four++) {{
                let q0 = qs[four * {SPAN}u + i * 4u];
                let q1 = qs[four * {SPAN}u + i * 4u + 1u];
                let q2 = qs[four * {SPAN}u + i * 4u + 2u];
                let q3 = qs[four * {SPAN}u + i * 4u + 3u];
",
        SPAN - 1
    );
    for key in 0..4 {
        _ = writeln!(
            text,
            "                let k{key} = ks[four * {SPAN}u + j * 4u + {key}u];
                d{key} += vec4<f32>(dot(q0, k{key}), dot(q1, k{key}), dot(q2, k{key}), dot(q3, k{key}));"
        );
    }
    text += "            }
        }
        let queries = vec4<u32>(first + i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
";
    for key in 0..4 {
        _ = write!(
            text,
            "        {{
            let key = start + j * 4u + {key}u;
            var d = d{key} * bitcast<f32>(job.scale);
            if (job.causal == 1u) {{ d = select(d, vec4<f32>(LOW), vec4<u32>(key) > queries); }}
            if (key >= job.keys) {{ d = vec4<f32>(LOW); }}
            let at = (j * 4u + {key}u) * {SPAN}u + i * 4u;
            scores[at] = d.x;
            scores[at + 1u] = d.y;
            scores[at + 2u] = d.z;
            scores[at + 3u] = d.w;
        }}
"
        );
    }
    _ = write!(
        text,
        "        workgroupBarrier();
        var high = LOW;
        for (var key = half * 16u; key < half * 16u + 16u; key++) {{ high = max(high, scores[key * {SPAN}u + row]); }}
        halves[thread] = high;
        workgroupBarrier();
        let before = most[row];
        let now = max(before, max(halves[row], halves[row + {SPAN}u]));
        var sum = 0.0;
        for (var key = half * 16u; key < half * 16u + 16u; key++) {{
            let score = scores[key * {SPAN}u + row];
            // What is not a number stays so.
            let weight = select(exp(score - now), 0.0, score <= LOW);
            scores[key * {SPAN}u + row] = weight;
            sum += weight;
        }}
        workgroupBarrier();
        halves[thread] = sum;
        if (half == 0u) {{
            most[row] = now;
            kept[row] = exp(before - now);
        }}
        workgroupBarrier();
        if (half == 0u) {{ sums[row] = sums[row] * kept[row] + halves[row] + halves[row + {SPAN}u]; }}
"
    );
    for (query, four) in places(4, fours) {
        _ = writeln!(text, "        o{query}x{four} *= kept[i * 4u + {query}u];");
    }
    _ = write!(
        text,
        "        for (var key = 0u; key < min({SPAN}u, job.keys - start); key++) {{
            let at = key * {SPAN}u + i * 4u;
            let from_v = from_k + (start + key) * token + part + j;
"
    );
    // The last part may be smaller, and threads beyond it have nothing to do.
    let there = |four: u32| format!("j + {}u < {part}u && part + j + {}u < {width}u", 8 * four, 8 * four);
    for four in 0..fours {
        _ = writeln!(
            text,
            "            if ({}) {{\n                let value = wide(v[from_v + {}u]);",
            there(four),
            8 * four
        );
        for query in 0..4 {
            _ = writeln!(text, "                o{query}x{four} += scores[at + {query}u] * value;");
        }
        text += "            }\n";
    }
    text += "        }\n    }\n    workgroupBarrier();\n";
    for (query, four) in places(4, fours) {
        _ = write!(
            text,
            "    if (first + i * 4u + {query}u < job.queries && {}) {{
        to[from_q + (first + i * 4u + {query}u) * token + part + j + {}u] = narrow(o{query}x{four} / sums[i * 4u + {query}u]);
    }}
",
            there(four),
            8 * four
        );
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::gpu::kernel::tests::translates;

    #[test]
    fn every_kernel_on_tensors_is_valid_and_can_be_translated_for_metal_and_direct3d() {
        let mut kinds = vec![Kind::Factors];
        for store in [Store::F16, Store::F32] {
            kinds.extend([Kind::Moments, Kind::Normalize, Kind::LayerNorm, Kind::Activate].map(|kind| kind(store)));
            kinds.extend([Kind::Gate, Kind::Add, Kind::Concat, Kind::Double].map(|kind| kind(store)));
            // Heads of CLIP, of SD 1.x at its levels, of the VAE, and tiny ones.
            kinds.extend([1, 2, 10, 16, 20, 40, 128].map(|width| Kind::Attention { width, store }));
            for weights in [Store::F16, Store::F32] {
                kinds.extend([true, false].map(|wide| Kind::Conv { wide, store, weights }));
            }
        }
        for kind in kinds {
            translates(&format!("{kind:?}"), &kind.text());
        }
    }
}
