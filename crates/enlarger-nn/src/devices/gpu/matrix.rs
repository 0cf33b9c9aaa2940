//! Sums by a card's units that multiply small matrices (tensor cores, simdgroup matrices).
//!
//! A subgroup, threads that run as one, computes two lines of a tile for all outputs of its group. A is pixels by channels, from the
//! memory of the group; B channels by outputs, from where weights lie; and the sums C are f32, pixels by outputs. They pass through
//! the memory of the group to the threads, 16 outputs at a time.

use std::fmt::Write;

use super::{
    kernel::{Kind, places},
    program::BLOCK,
    tile::{Matrix, PART, QUADS, TILE},
};

/// Subgroups of a group.
const SUBGROUPS: u32 = 4;
/// Lines of a tile that a subgroup computes.
const LINES: u32 = TILE.1 / SUBGROUPS;

impl Kind {
    /// What the text of a kernel that multiplies matrices begins with.
    pub fn head_of_matrices() -> &'static str {
        "enable f16;
enable wgpu_cooperative_matrix;
alias Four = vec4<f16>;
fn wide(four: Four) -> vec4<f32> { return vec4<f32>(four); }
fn narrow(four: vec4<f32>) -> Four { return Four(four); }
"
    }

    /// Subgroups add up the products.
    pub fn by_matrices(&self, matrix: Matrix, text: &mut String) {
        let (side, threads) = (matrix.side, SUBGROUPS * matrix.threads);
        let (wide, high) = (TILE.0 + 2, TILE.1 + 2);
        let (fours, blocks) = (side / 4, side / BLOCK);
        let (up, source, outputs) = (self.upsampled, self.source(), self.outputs);
        let patch = (wide * high) as usize * fours;
        _ = write!(
            text,
            "var<workgroup> pixels: array<f16, {}>;
var<workgroup> sums: array<f32, {}>;
@compute @workgroup_size({threads})
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {{
    let left = tile.x * {}u;
    let top = job.start + tile.y * {}u;
    let steps = job.blocks / {blocks}u;
    // Where subgroups are smaller than the largest, there are more of them, which compute the same again.
    let lines = min(subgroup, {}u) * {LINES}u;
",
            4 * patch,
            (TILE.0 * TILE.1) as usize * PART,
            TILE.0,
            TILE.1,
            SUBGROUPS - 1,
        );
        for (line, m, n) in self.matrices(side) {
            _ = writeln!(text, "    var c{line}{m}{n} = coop_mat{side}x{side}<f32, C>();");
        }
        _ = write!(
            text,
            "    for (var step = 0u; step < steps; step++) {{
        for (var i = thread; i < {patch}u; i += {threads}u) {{
            let pixel = i / {fours}u;
            let part = i % {fours}u;
            let x = i32(left + pixel % {wide}u) - 1;
            let y = i32(top + pixel / {wide}u) - 1;
            var four = Four();
            if (x >= 0 && y >= 0 && x < i32(job.width) && y < i32(job.height)) {{
                let row = u32(y / {up} + job.source.origin) * job.source.row;
                let block = job.source.first + step * {blocks}u + part / 2u;
                four = {source}[row + block * job.source.block + u32(x / {up}) * 2u + part % 2u];
            }}
            pixels[4u * i] = four.x;
            pixels[4u * i + 1u] = four.y;
            pixels[4u * i + 2u] = four.z;
            pixels[4u * i + 3u] = four.w;
        }}
        workgroupBarrier();
        for (var tap = 0u; tap < 9u; tap++) {{
            let pixel = ((lines + tap / 3u) * {wide}u + tap % 3u) * {side}u;
            let weight = ((tile.z * steps + step) * 9u + tap) * {}u;
",
            side * outputs,
        );
        for n in 0..outputs / side {
            let at = n * side;
            _ = writeln!(
                text,
                "            let b{n} = coopLoadT<coop_mat{side}x{side}<f16, B>>(&weights[weight + {at}u], {outputs}u);"
            );
        }
        for line in 0..LINES as usize {
            for m in 0..TILE.0 as usize / side {
                let at = (line * wide as usize + m * side) * side;
                _ = writeln!(
                    text,
                    "            let a{line}{m} = coopLoadT<coop_mat{side}x{side}<f16, A>>(&pixels[pixel + {at}u], {side}u);"
                );
            }
        }
        for (line, m, n) in self.matrices(side) {
            let sum = format!("c{line}{m}{n}");
            _ = writeln!(text, "            {sum} = coopMultiplyAdd(a{line}{m}, b{n}, {sum});");
        }
        text.push_str("        }\n        workgroupBarrier();\n    }\n");
        for part in 0..outputs / PART {
            self.part(matrix, part, text);
        }
        text.push_str("}\n");
    }

    /// The end of 16 outputs.
    fn part(&self, matrix: Matrix, part: usize, text: &mut String) {
        let (side, threads, group) = (matrix.side, SUBGROUPS * matrix.threads, self.outputs / 4);
        for (line, m, n) in self.matrices(side).filter(|(.., n)| n * side / PART == part) {
            let at = (line * TILE.0 as usize + m * side) * PART + n * side % PART;
            let per_line = TILE.0 as usize * PART;
            _ = writeln!(text, "    coopStoreT(c{line}{m}{n}, &sums[lines * {per_line}u + {at}u], {PART}u);");
        }
        let (quads, lane) = (QUADS as usize * PART / 8, part * PART / 4);
        _ = write!(
            text,
            "    workgroupBarrier();
    for (var quad = thread; quad < {quads}u; quad += {threads}u) {{
    let column = (quad % 4u) * 4u;
    let line = (quad / 4u) % {}u;
    let lane = {lane}u + quad / {QUADS}u * 2u;
    let at = (line * {}u + column) * {PART}u + quad / {QUADS}u * 8u;
",
            TILE.1, TILE.0
        );
        for (pixel, four) in places(self.fours()) {
            let at = pixel * PART + four * 4;
            _ = writeln!(
                text,
                "    var s{pixel}{four} = floats[tile.z * {group}u + lane + {four}u] + vec4<f32>(sums[at + {at}u], sums[at + {}u], \
                 sums[at + {}u], sums[at + {}u]);",
                at + 1,
                at + 2,
                at + 3
            );
        }
        self.end(text, "continue");
        text.push_str("    }\n    workgroupBarrier();\n");
    }

    /// The lines, matrices of pixels and of outputs that a subgroup sums.
    fn matrices(&self, side: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (across, outputs) = (TILE.0 as usize / side, self.outputs / side);
        (0..LINES as usize).flat_map(move |line| (0..across).flat_map(move |m| (0..outputs).map(move |n| (line, m, n))))
    }
}
