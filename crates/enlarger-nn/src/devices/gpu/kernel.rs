//! Kernels in WGSL: a convolution with all that follows it. One template makes them all.
//!
//! A group of threads computes a tile of pixels for some outputs. It goes through the channels in blocks: a block of the
//! pixels under the tile and the weights for it are brought to the memory of the group, and each thread adds up the products
//! for four pixels side by side; or the card's units for matrices do it (`matrix.rs`). Sums are f32, whatever maps are. Pixels
//! outside the map are zero.
//!
//! A map is `[rows][blocks][columns][BLOCK]`, so that a block of some pixels of a row lies in one piece.

use std::fmt::Write;

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{
    program::{Add, BLOCK, Op},
    schedule::sources,
    tile::{Matrix, QUADS, TILE},
};

/// What maps and weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    F16,
    F32,
}

impl Store {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The type of four values in WGSL and the functions that widen and narrow it, by these names.
    pub fn text(self, four: &str, wide: &str, narrow: &str) -> String {
        match self {
            Self::F16 => format!(
                "alias {four} = vec2<u32>;
fn {wide}(four: {four}) -> vec4<f32> {{ return vec4<f32>(unpack2x16float(four.x), unpack2x16float(four.y)); }}
fn {narrow}(four: vec4<f32>) -> {four} {{ return {four}(pack2x16float(four.xy), pack2x16float(four.zw)); }}
"
            ),
            Self::F32 => format!(
                "alias {four} = vec4<f32>;
fn {wide}(four: {four}) -> vec4<f32> {{ return four; }}
fn {narrow}(four: vec4<f32>) -> {four} {{ return four; }}
"
            ),
        }
    }

    /// Values as they are kept.
    pub fn pack(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            Self::F32 => bytemuck::cast_slice(values).to_vec(),
        }
    }
}

/// What kernels differ in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    pub store: Store,
    /// How many times as large its source is read.
    pub upsampled: usize,
    /// How many times as large each map that is added is read.
    pub adds: Vec<usize>,
    /// Whether it writes to the map that it reads.
    pub in_place: bool,
    /// The result instead of a map: pixels are shuffled by so much, into so many colours.
    pub result: Option<(usize, usize)>,
    /// Outputs of a group of threads: 4, 8, 16 or 32.
    pub outputs: usize,
    /// What multiplies, if not each thread for itself.
    pub matrix: Option<Matrix>,
}

/// The bindings of a kernel's buffers.
pub mod binding {
    pub const WEIGHTS: u32 = 0;
    pub const FLOATS: u32 = 1;
    pub const TO: u32 = 2;
    pub const FROM: u32 = 3;
    pub const ADDS: [u32; 2] = [4, 5];
}

/// Where a map's pixel lies: sizes are in fours of values.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct View {
    /// What is added to the number of a row.
    pub origin: i32,
    pub row: u32,
    pub block: u32,
    /// The first block.
    pub first: u32,
}

/// What a run of a kernel computes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct Job {
    pub width: u32,
    pub height: u32,
    /// The rows, up to and without the last.
    pub start: u32,
    pub end: u32,
    /// Blocks of channels that are read.
    pub blocks: u32,
    pub outputs: u32,
    pub gain: f32,
    pub padding: u32,
    pub source: View,
    pub to: View,
    pub adds: [View; 2],
    pub gains: [f32; 2],
}

impl Kind {
    /// The kernel for an operation, which makes the result if there are `colours`, on a card with these units for matrices.
    pub fn of(op: &Op, store: Store, colours: Option<usize>, matrix: Option<Matrix>) -> Self {
        let padded = op.outputs.next_multiple_of(BLOCK);
        let outputs = if colours.is_some() && op.outputs <= 4 {
            4
        } else {
            [32, 16, 8].into_iter().find(|&size| padded.is_multiple_of(size)).unwrap_or(BLOCK)
        };
        let fits = |matrix: &Matrix| {
            store == Store::F16 && colours.is_none() && matrix.fits(blocks(&op.inputs) * BLOCK, outputs)
        };
        Self {
            store,
            upsampled: op.upsampled,
            adds: op.adds.iter().map(|add: &Add| add.upsampled).collect(),
            in_place: op.from == op.to.map,
            result: colours.map(|colours| (op.shuffle, colours)),
            outputs,
            matrix: matrix.filter(fits),
        }
    }

    /// Groups of threads for so many columns, rows and outputs.
    pub fn groups(&self, width: u32, rows: u32, outputs: usize) -> [u32; 3] {
        [width.div_ceil(TILE.0), rows.div_ceil(TILE.1), outputs.div_ceil(self.outputs) as u32]
    }

    /// Fours of outputs of a thread.
    pub fn fours(&self) -> usize {
        if self.outputs == 4 { 1 } else { 2 }
    }

    /// Bytes of an operation's weights, biases and slopes.
    pub fn bytes(&self, op: &Op) -> u64 {
        let outputs = op.outputs.next_multiple_of(self.outputs);
        (outputs * (blocks(&op.inputs) * 9 * BLOCK * self.store.bytes() + 2 * size_of::<f32>())) as u64
    }

    /// Channels that are gone through at a time.
    fn depth(&self) -> usize {
        self.matrix.map_or(BLOCK, |matrix| matrix.side)
    }

    /// Weights `[outputs][inputs][3][3]` as the kernel reads them: `[groups][steps][9][channels of a step][outputs of a group]`.
    pub fn pack_weights(&self, op: &Op, weights: &[f32]) -> Vec<u8> {
        let inputs: usize = op.inputs.iter().sum();
        let (depth, groups) = (self.depth(), op.outputs.div_ceil(self.outputs));
        let steps = blocks(&op.inputs) * BLOCK / depth;
        let mut packed = vec![0.0; groups * steps * 9 * depth * self.outputs];
        let mut input = 0;
        for (first, &channels) in sources(&op.inputs).zip(&op.inputs) {
            for channel in 0..channels {
                let (step, lane) = ((first * BLOCK + channel) / depth, (first * BLOCK + channel) % depth);
                for output in 0..op.outputs {
                    let (group, place) = (output / self.outputs, output % self.outputs);
                    for tap in 0..9 {
                        let to = (((group * steps + step) * 9 + tap) * depth + lane) * self.outputs + place;
                        packed[to] = weights[(output * inputs + input) * 9 + tap];
                    }
                }
                input += 1;
            }
        }
        self.store.pack(&packed)
    }

    /// Biases, then slopes, each padded to whole groups.
    pub fn pack_floats(&self, bias: &[f32], slopes: &[f32]) -> Vec<u8> {
        let size = bias.len().next_multiple_of(self.outputs);
        let mut packed = bias.to_vec();
        packed.resize(size, 0.0);
        packed.extend_from_slice(slopes);
        packed.resize(2 * size, 1.0);
        bytemuck::cast_slice(&packed).to_vec()
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = self.head();
        match self.matrix {
            None => self.by_threads(&mut text),
            Some(matrix) => self.by_matrices(matrix, &mut text),
        }
        text
    }

    /// Types and bindings.
    fn head(&self) -> String {
        let mut text = match self.matrix {
            None => self.store.text("Four", "wide", "narrow"),
            Some(_) => Self::head_of_matrices().to_owned(),
        };
        text += "struct View { origin: i32, row: u32, block: u32, first: u32 }
struct Job {
    width: u32, height: u32, start: u32, end: u32, blocks: u32, outputs: u32, gain: f32, padding: u32,
    source: View, to: View, add0: View, add1: View, gain0: f32, gain1: f32,
}
var<immediate> job: Job;
";
        let weights = if self.matrix.is_some() { "f16" } else { "Four" };
        _ = writeln!(text, "@group(0) @binding(0) var<storage, read> weights: array<{weights}>;");
        text += "@group(0) @binding(1) var<storage, read> floats: array<vec4<f32>>;\n";
        let to = if self.result.is_some() { "f32" } else { "Four" };
        _ = writeln!(text, "@group(0) @binding(2) var<storage, read_write> to: array<{to}>;");
        if !self.in_place {
            text += "@group(0) @binding(3) var<storage, read> from_map: array<Four>;\n";
        }
        for add in 0..self.adds.len() {
            _ = writeln!(text, "@group(0) @binding({}) var<storage, read> add{add}: array<Four>;", 4 + add);
        }
        text
    }

    /// The buffer that it reads.
    pub fn source(&self) -> &'static str {
        if self.in_place { "to" } else { "from_map" }
    }

    /// Each thread adds up the products for its pixels.
    fn by_threads(&self, text: &mut String) {
        let (fours, threads) = (self.fours(), QUADS * (self.outputs / (4 * self.fours())) as u32);
        let (wide, high) = (TILE.0 + 2, TILE.1 + 2);
        let (patch, taps) = (wide * high * 2, 9 * BLOCK * self.outputs / 4);
        let (up, group, source) = (self.upsampled, self.outputs / 4, self.source());
        _ = write!(
            text,
            "var<workgroup> pixels: array<vec4<f32>, {patch}>;
var<workgroup> taps: array<vec4<f32>, {taps}>;
@compute @workgroup_size({threads})
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {{
    let left = tile.x * {}u;
    let top = job.start + tile.y * {}u;
    let column = (thread % 4u) * 4u;
    let line = (thread / 4u) % {}u;
    let lane = (thread / {QUADS}u) * {fours}u;
",
            TILE.0, TILE.1, TILE.1
        );
        for (pixel, four) in places(fours) {
            _ = writeln!(text, "    var s{pixel}{four} = floats[tile.z * {group}u + lane + {four}u];");
        }
        _ = write!(
            text,
            "    for (var block = 0u; block < job.blocks; block++) {{
        for (var i = thread; i < {patch}u; i += {threads}u) {{
            let x = i32(left + (i / 2u) % {wide}u) - 1;
            let y = i32(top + i / {}u) - 1;
            var four = vec4<f32>(0.0);
            if (x >= 0 && y >= 0 && x < i32(job.width) && y < i32(job.height)) {{
                let row = u32(y / {up} + job.source.origin) * job.source.row;
                four = wide({source}[row + (job.source.first + block) * job.source.block + u32(x / {up}) * 2u + i % 2u]);
            }}
            pixels[i] = four;
        }}
        for (var i = thread; i < {taps}u; i += {threads}u) {{
            taps[i] = wide(weights[(tile.z * job.blocks + block) * {taps}u + i]);
        }}
        workgroupBarrier();
        for (var dy = 0u; dy < 3u; dy++) {{
            for (var part = 0u; part < 2u; part++) {{
                let pixel = ((line + dy) * {wide}u + column) * 2u + part;
                let tap = (dy * {}u + part * 4u) * {group}u + lane;
",
            2 * wide,
            3 * BLOCK
        );
        for pixel in 0..6 {
            _ = writeln!(text, "                let p{pixel} = pixels[pixel + {}u];", 2 * pixel);
        }
        for dx in 0..3 {
            for (channel, name) in ["x", "y", "z", "w"].into_iter().enumerate() {
                for four in 0..fours {
                    let at = (dx * BLOCK + channel) * group + four;
                    let weight = format!("w{dx}{channel}{four}");
                    _ = writeln!(text, "                let {weight} = taps[tap + {at}u];");
                    for pixel in 0..4 {
                        let (sum, from) = (format!("s{pixel}{four}"), pixel + dx);
                        _ = writeln!(text, "                {sum} = fma(vec4<f32>(p{from}.{name}), {weight}, {sum});");
                    }
                }
            }
        }
        text.push_str(
            "            }
        }
        workgroupBarrier();
    }
",
        );
        self.end(text, "return");
        text.push_str("}\n");
    }

    /// What follows the sums of a thread, its pixels of a `line` from a `column` of the tile on: the slope, what is added, and the way
    /// to the map or result. Below the rows that are computed it takes its `leave`.
    pub fn end(&self, text: &mut String, leave: &str) {
        let (fours, group) = (self.fours(), self.outputs / 4);
        _ = writeln!(text, "    let y = top + line;\n    if (y >= job.end) {{ {leave}; }}");
        for four in 0..fours {
            let at = format!("tile.z * {group}u + lane + {four}u");
            let slopes = format!("(job.outputs + {}u) / {}u * {group}u", self.outputs - 1, self.outputs);
            _ = writeln!(text, "    let slope{four} = floats[{slopes} + {at}];");
        }
        for (pixel, four) in places(fours) {
            let sum = format!("s{pixel}{four}");
            // What is not a number stays so.
            _ = writeln!(text, "    {sum} = job.gain * select({sum} * slope{four}, {sum}, {sum} >= vec4<f32>(0.0));");
        }
        for pixel in 0..4 {
            _ = writeln!(text, "    if (left + column + {pixel}u < job.width) {{");
            _ = writeln!(text, "        let x = left + column + {pixel}u;");
            match self.result {
                None => self.write_map(text, pixel),
                Some((shuffle, colours)) => self.write_result(text, pixel, shuffle, colours),
            }
            text.push_str("    }\n");
        }
    }

    /// Writes a pixel's block to a map.
    fn write_map(&self, text: &mut String, pixel: usize) {
        _ = writeln!(text, "        let block = (tile.z * {}u + lane) / 2u;", self.outputs / 4);
        for (add, up) in self.adds.iter().enumerate() {
            _ = writeln!(
                text,
                "        let at{add} = u32(i32(y / {up}u) + job.add{add}.origin) * job.add{add}.row + (job.add{add}.first + \
                 block) * job.add{add}.block + x / {up}u * 2u;"
            );
        }
        text.push_str(
            "        let at = u32(i32(y) + job.to.origin) * job.to.row + (job.to.first + block) * job.to.block + x * 2u;\n",
        );
        for four in 0..2 {
            let mut sum = format!("s{pixel}{four}");
            for add in 0..self.adds.len() {
                _ = write!(sum, " + job.gain{add} * wide(add{add}[at{add} + {four}u])");
            }
            _ = writeln!(text, "        to[at + {four}u] = narrow({sum});");
        }
    }

    /// Writes a pixel's outputs to the result, each to its place in a square of pixels.
    fn write_result(&self, text: &mut String, pixel: usize, shuffle: usize, colours: usize) {
        for (four, place) in (0..self.fours()).flat_map(|four| (0..4).map(move |place| (four, place))) {
            let square = shuffle * shuffle;
            _ = writeln!(
                text,
                "        {{\n            let o = tile.z * {}u + lane * 4u + {}u;",
                self.outputs,
                four * 4 + place
            );
            text.push_str("            if (o < job.outputs) {\n");
            _ = writeln!(
                text,
                "                let c = o / {square}u;
                let across = x * {shuffle}u + o % {shuffle}u;
                let down = y * {shuffle}u + o % {square}u / {shuffle}u;
                var v = s{pixel}{four}[{place}];"
            );
            for (add, up) in self.adds.iter().enumerate() {
                _ = writeln!(
                    text,
                    "                v += job.gain{add} * wide(add{add}[u32(i32(down / {up}u) + job.add{add}.origin) * \
                     job.add{add}.row + (job.add{add}.first + c / 8u) * job.add{add}.block + across / {up}u * 2u + c % 8u / \
                     4u])[c % 4u];"
                );
            }
            _ = writeln!(
                text,
                "                to[(u32(i32(down) + job.to.origin) * job.width * {shuffle}u + across) * {colours}u + c] = v;
            }}
        }}"
            );
        }
    }
}

/// Blocks of channels that inputs take.
fn blocks(inputs: &[usize]) -> usize {
    inputs.iter().map(|channels| channels.div_ceil(BLOCK)).sum()
}

/// The pixels and fours of outputs of a thread.
pub fn places(fours: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..4).flat_map(move |pixel| (0..fours).map(move |four| (pixel, four)))
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashSet;

    use naga::{
        Module,
        back::{hlsl, msl},
        valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
    };

    use super::*;
    use crate::{
        arch::{Activation, Compact, RrdbNet},
        architecture::Architecture,
        devices::gpu::program::Program,
    };

    /// The kernels of networks of all architectures, scales and kinds, for cards with these units.
    fn kinds(matrix: Option<Matrix>) -> HashSet<Kind> {
        let mut graphs = Vec::new();
        for (unshuffle, channels, features, growth) in [(1, 3, 64, 32), (2, 3, 24, 12), (4, 1, 16, 8)] {
            graphs.push(RrdbNet { unshuffle, channels, features, blocks: 1, growth, upsamplings: 2 }.graph());
        }
        for (scale, channels, features) in [(1, 3, 16), (2, 1, 24), (3, 3, 64), (4, 3, 64)] {
            graphs.push(Compact { scale, channels, features, convs: 1, activation: Activation::Prelu }.graph());
        }
        let mut kinds = HashSet::new();
        for graph in &graphs {
            let program = Program::new(graph, 3).expect("it is supported");
            for store in [Store::F16, Store::F32] {
                kinds.extend(program.ops.iter().map(|op| Kind::of(op, store, program.colours_of(op), matrix)));
            }
        }
        kinds
    }

    /// Checks a kernel's text: it is valid, every card has room for what its groups share, and it can be translated for Metal and
    /// Direct3D.
    pub fn translates(what: &str, text: &str) {
        let (module, info) = valid(what, text, Capabilities::SHADER_FLOAT16_IN_FLOAT32);
        for_metal(&module, &info);
        let direct3d = hlsl::Options {
            shader_model: hlsl::ShaderModel::V5_1,
            immediates_target: Some(hlsl::BindTarget::default()),
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &direct3d, &pipeline).write(&module, &info, None).expect("Direct3D's language");
        assert!(text.contains("[numthreads("), "{text}");
    }

    fn valid(what: &str, text: &str, capabilities: Capabilities) -> (Module, ModuleInfo) {
        let module =
            naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(text)));
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES | capabilities);
        let info = validator.validate(&module).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        // 16 KiB and 128 bytes are what every card has (WebGPU's limits, and Vulkan's for push constants).
        let bytes = |space: naga::AddressSpace| -> u32 {
            let there = module.global_variables.iter().filter(|(_, variable)| variable.space == space);
            there.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum()
        };
        assert!(bytes(naga::AddressSpace::WorkGroup) <= 16384 && bytes(naga::AddressSpace::Immediate) <= 128, "{what}");
        (module, info)
    }

    fn for_metal(module: &Module, info: &ModuleInfo) {
        let metal = msl::Options { lang_version: (2, 4), ..Default::default() };
        let (text, _) = msl::write_string(module, info, &metal, &Default::default()).expect("Metal's language");
        assert!(text.contains("kernel void"), "{text}");
    }

    #[test]
    fn every_kernel_is_valid_and_can_be_translated_for_metal_and_direct3d() {
        let kinds = kinds(None);
        assert!(kinds.len() >= 20, "{}", kinds.len());
        for kind in kinds {
            translates(&format!("{kind:?}"), &kind.text());
        }
    }

    /// Direct3D has no such units in naga's translation.
    #[test]
    fn every_kernel_for_matrix_units_is_valid_and_can_be_translated_for_metal() {
        for side in [8, 16] {
            let matrices = kinds(Some(Matrix { side, threads: 32 })).into_iter().filter(|kind| kind.matrix.is_some());
            let matrices: Vec<Kind> = matrices.collect();
            assert!(matrices.len() >= 6, "{}", matrices.len());
            for kind in matrices {
                let needs = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
                let (module, info) = valid(&format!("{kind:?}"), &kind.text(), needs);
                for_metal(&module, &info);
            }
        }
    }
}
