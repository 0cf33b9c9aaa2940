//! The operations on plain slices give what loops in 64 bits give, on the vectors of each instruction set.

use enlarger_nn::dense::{Attention, Conv3x3, Dense, Function, Input, Matrix, PANEL, Weights};

fn values(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// Values without the pattern of those above, whose sums may cancel until they are small beside their terms.
fn noise(count: usize, salt: usize) -> Vec<f32> {
    let mixed = |i: usize| {
        let z = (((salt << 32) + i) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)) >> 40
    };
    (0..count).map(|i| mixed(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// `[out][in]` as `[panel][in][32]`, with NaN where there is no output.
fn panels(weights: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let value = |i: usize| {
        let (panel, input, output) = (i / PANEL / inputs, i / PANEL % inputs, i % PANEL);
        weights.get((panel * PANEL + output) * inputs + input).copied().unwrap_or(f32::NAN)
    };
    (0..outputs.next_multiple_of(PANEL) * inputs).map(value).collect()
}

fn with_matrix<R>(weights: &[f32], bias: Option<&[f32]>, inputs: usize, run: impl FnOnce(&Matrix<'_>) -> R) -> R {
    let outputs = weights.len() / inputs;
    let packed = panels(weights, outputs, inputs);
    run(&Matrix { outputs, inputs, weights: Weights::F32(&packed), bias })
}

fn close(got: &[f32], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let most = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() <= bound * most, "{what}: {got} at {i}, expected {expected}");
    }
}

#[test]
fn a_linear_layer_has_any_number_of_rows_inputs_and_outputs() {
    for dense in Dense::all() {
        for (rows, inputs, outputs) in
            [(1, 1, 1), (3, 7, 5), (13, 300, 33), (77, 64, 320), (300, 40, 150), (257, 513, 47)]
        {
            let (x, weights, bias) = (values(rows * inputs, 1), values(inputs * outputs, 2), values(outputs, 3));
            for bias in [None, Some(bias.as_slice())] {
                let mut got = vec![f32::NAN; rows * outputs];
                with_matrix(&weights, bias, inputs, |w| dense.linear(&x, w, &mut got, &|| true).unwrap());
                let expected: Vec<f64> = (0..rows * outputs)
                    .map(|i| {
                        let (row, output) = (i / outputs, i % outputs);
                        let pairs = x[row * inputs..][..inputs].iter().zip(&weights[output * inputs..][..inputs]);
                        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
                            + bias.map_or(0.0, |b| f64::from(b[output]))
                    })
                    .collect();
                close(&got, &expected, 2e-6, &format!("{dense:?} {rows} {inputs} {outputs}"));
            }
        }
    }
}

struct Case {
    size: [usize; 3],
    channels: usize,
    outputs: usize,
    stride: usize,
    offset: usize,
}

fn convolved(x: &[f32], weights: &[f32], bias: &[f32], case: &Case, result: [usize; 2]) -> Vec<f64> {
    let &Case { size: [batch, height, width], channels, outputs, stride, offset } = case;
    let mut sums = Vec::new();
    for (image, y, x_at, output) in (0..batch * result[0] * result[1] * outputs).map(|i| {
        let pixel = i / outputs;
        (pixel / result[0] / result[1], pixel / result[1] % result[0], pixel % result[1], i % outputs)
    }) {
        let mut sum = f64::from(bias[output]);
        for (i, j) in (0..9).map(|tap| (tap / 3, tap % 3)) {
            let (y, x_at) = ((y * stride + offset + i).wrapping_sub(1), (x_at * stride + offset + j).wrapping_sub(1));
            if y < height && x_at < width {
                for c in 0..channels {
                    let value = x[((image * height + y) * width + x_at) * channels + c];
                    sum += f64::from(value) * f64::from(weights[(output * channels + c) * 9 + i * 3 + j]);
                }
            }
        }
        sums.push(sum);
    }
    sums
}

/// What a convolution gives, and its height and width.
fn run(
    dense: Dense,
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
    case: &Case,
    input: Input<'_>,
    add: Option<&[f32]>,
) -> (Vec<f32>, [usize; 2]) {
    let &Case { size, channels, stride, offset, outputs } = case;
    with_matrix(weights, Some(bias), channels * 9, |w| {
        let conv = Conv3x3 { weights: Matrix { bias: w.bias, ..*w }, size, input, add, stride, offset };
        let [height, width] = conv.result();
        let mut got = vec![f32::NAN; size[0] * height * width * outputs];
        let mut workspace = vec![f32::NAN; conv.workspace()];
        dense.conv3x3(x, &conv, &mut got, &mut workspace, &|| true).unwrap();
        (got, [height, width])
    })
}

#[test]
fn a_convolution_has_any_size_number_of_channels_and_stride() {
    let case = |size, channels, outputs, stride, offset| Case { size, channels, outputs, stride, offset };
    let cases = [
        case([1, 1, 1], 1, 1, 1, 0),
        case([1, 5, 7], 3, 4, 1, 0),
        case([2, 9, 6], 17, 33, 1, 0),
        case([1, 4, 30], 48, 80, 1, 0),
        case([3, 13, 33], 35, 70, 1, 0),
        case([1, 8, 9], 20, 10, 2, 0),
        case([2, 7, 10], 33, 3, 2, 1),
        case([1, 6, 5], 4, 6, 1, 1),
    ];
    for dense in Dense::all() {
        for case in &cases {
            let x = values(case.size.iter().product::<usize>() * case.channels, 4);
            let weights = values(case.outputs * case.channels * 9, 5);
            let bias = values(case.outputs, 6);
            let (got, result) = run(dense, &x, &weights, &bias, case, Input::Plain, None);
            let what = format!("{dense:?} {:?} {} {}", case.size, case.channels, case.outputs);
            close(&got, &convolved(&x, &weights, &bias, case, result), 1e-5, &what);
        }
    }
}

#[test]
fn a_convolution_reads_doubled_and_normalised_pictures_and_adds_to_its_result() {
    // Batch, height and width of `x`; channels; outputs.
    let cases = [([1, 1, 1], 1, 1), ([2, 3, 5], 5, 3), ([1, 7, 9], 17, 33), ([2, 6, 4], 40, 70), ([1, 20, 23], 35, 20)];
    for dense in Dense::all() {
        for (small @ [batch, height, width], channels, outputs) in cases {
            let x = noise(batch * height * width * channels, 12);
            let (weights, bias) = (noise(outputs * channels * 9, 13), noise(outputs, 14));
            let (scale, shift) = (noise(batch * channels, 15), noise(batch * channels, 16));
            let doubled: Vec<f32> = (0..4 * x.len())
                .map(|i| {
                    let (channel, column, row) = (i % channels, i / channels % (2 * width), i / channels / (2 * width));
                    x[(row / 2 * width + column / 2) * channels + channel]
                })
                .collect();
            let normed: Vec<f32> = (0..x.len())
                .map(|i| {
                    let at = i / (height * width * channels) * channels + i % channels;
                    let v = f64::from(x[i]) * f64::from(scale[at]) + f64::from(shift[at]);
                    (v / (1.0 + (-v).exp())) as f32
                })
                .collect();
            let large = [batch, 2 * height, 2 * width];
            let normalised = Input::Normed { scale: &scale, shift: &shift };
            for (size, picture, input) in
                [(small, &x, Input::Plain), (large, &doubled, Input::Doubled), (small, &normed, normalised)]
            {
                let case = Case { size, channels, outputs, stride: 1, offset: 0 };
                let sums = noise(size.iter().product::<usize>() * outputs, 17);
                for add in [None, Some(sums.as_slice())] {
                    let (got, result) = run(dense, &x, &weights, &bias, &case, input, add);
                    let mut expected = convolved(picture, &weights, &bias, &case, result);
                    for (sum, &add) in expected.iter_mut().zip(add.unwrap_or_default()) {
                        *sum += f64::from(add);
                    }
                    close(&got, &expected, 1e-5, &format!("{dense:?} {size:?} {channels} {outputs} {input:?}"));
                }
            }
        }
    }
}

#[test]
fn attention_is_the_softmax_of_all_keys_that_are_seen() {
    for dense in Dense::all() {
        for (batch, queries, keys, heads, width, causal) in [
            (1, 1, 1, 1, 1, false),
            (2, 70, 77, 3, 40, false),
            (1, 130, 130, 2, 7, true),
            (1, 100, 1100, 1, 80, false),
            (1, 600, 600, 1, 16, true),
        ] {
            let shape = Attention { batch, queries, keys, heads, width, causal };
            let channels = heads * width;
            let q: Vec<f32> = values(batch * queries * channels, 7).iter().map(|v| v * 5.0).collect();
            let (k, v) = (values(batch * keys * channels, 8), values(batch * keys * channels, 9));
            let mut got = vec![f32::NAN; q.len()];
            let mut workspace = vec![f32::NAN; shape.workspace()];
            dense.attention([&q, &k, &v], &shape, &mut got, &mut workspace, &|| true).unwrap();
            let mut expected = vec![0.0; q.len()];
            for (image, query, head) in
                (0..batch * queries * heads).map(|i| (i / heads / queries, i / heads % queries, i % heads))
            {
                let at = |row: usize, of: usize| (image * of + row) * channels + head * width;
                let seen = if causal { query + 1 } else { keys };
                let score = |key: usize| {
                    let pairs = q[at(query, queries)..][..width].iter().zip(&k[at(key, keys)..][..width]);
                    (pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / (width as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = (0..seen).map(score).collect();
                let all: f64 = weights.iter().sum();
                for c in 0..width {
                    let sum: f64 = (0..seen).map(|key| weights[key] * f64::from(v[at(key, keys) + c])).sum();
                    expected[at(query, queries) + c] = sum / all;
                }
            }
            close(&got, &expected, 3e-6, &format!("{dense:?} {shape:?}"));
        }
    }
}

/// Phi by the series of its integral, or its continued fraction far out.
fn phi(x: f64) -> f64 {
    let size = x.abs();
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if size < 3.0 {
        let mut term = size;
        let mut sum = size;
        for n in 1..80 {
            term *= size * size / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        0.5 - density * sum
    } else {
        density / (1..200).rev().fold(size, |rest, n| size + f64::from(n) / rest)
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[test]
fn functions_are_precise_and_keep_what_is_not_a_number() {
    let x: Vec<f32> = (-8700..8800).map(|i| i as f32 / 100.0).chain((-300..300).map(|i| i as f32 / 50.0)).collect();
    type Reference = fn(f64) -> f64;
    let functions: [(Function, Reference, f64); 4] = [
        (Function::Exp, f64::exp, 1e-6),
        (Function::Silu, |x| x / (1.0 + (-x).exp()), 1e-6),
        (Function::QuickGelu, |x| if x > -50.0 { x / (1.0 + (-1.702 * x).exp()) } else { 0.0 }, 2e-5),
        (Function::Gelu, |x| x * phi(x), 1e-6),
    ];
    for dense in Dense::all() {
        for (function, reference, bound) in functions {
            let mut got = vec![0.0; x.len()];
            dense.apply(function, &x, &mut got);
            for (&x, &got) in x.iter().zip(&got) {
                let expected = reference(f64::from(x));
                // Relative, but for what is nothing beside a network's values.
                let off = (f64::from(got) - expected).abs();
                assert!(
                    off <= bound * expected.abs() + 1e-9,
                    "{dense:?} {function:?}({x}) = {got}, expected {expected}"
                );
            }
            let mut got = [0.0; 3];
            dense.apply(function, &[f32::NAN, 1.0, f32::NAN], &mut got);
            assert!(got[0].is_nan() && got[1].is_finite() && got[2].is_nan(), "{dense:?} {function:?}: {got:?}");
        }
        let (values, gates) = (values(37, 10), values(37, 11));
        let mut got = [0.0; 37];
        dense.gate(&values, &gates, &mut got);
        let expected: Vec<f64> =
            values.iter().zip(&gates).map(|(&v, &g)| f64::from(v) * f64::from(g) * phi(f64::from(g))).collect();
        close(&got, &expected, 1e-6, "gate");
    }
}

#[test]
fn normalisations_are_precise_and_keep_what_is_not_a_number() {
    for dense in Dense::all() {
        let channels = 37;
        // A mean far from zero, beside which the variance is small.
        let x: Vec<f32> = values(channels * 5, 12).iter().map(|v| v + 30.0).collect();
        let (scale, shift) = (values(channels, 13), values(channels, 14));
        let mut got = vec![0.0; x.len()];
        dense.layer_norm(&x, &scale, &shift, 1e-5, &mut got);
        let expected: Vec<f64> = (0..x.len())
            .map(|i| {
                let row = &x[i / channels * channels..][..channels];
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64;
                let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / channels as f64;
                let c = i % channels;
                (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt() * f64::from(scale[c]) + f64::from(shift[c])
            })
            .collect();
        close(&got, &expected, 5e-6, "layer norm");

        let mut sums = vec![[0.0; 2]; channels];
        dense.sums(&x, &mut sums);
        for (c, [sum, squares]) in sums.into_iter().enumerate() {
            let column = x[c..].iter().step_by(channels).map(|&v| f64::from(v));
            assert!((column.clone().sum::<f64>() - sum).abs() < 1e-9);
            assert!((column.map(|v| v * v).sum::<f64>() - squares).abs() < 1e-7);
        }

        let mut broken = x.clone();
        broken[40] = f32::NAN;
        dense.scale_shift(&broken, &scale, &shift, true, &mut got);
        for (i, (&got, &x)) in got.iter().zip(&x).enumerate() {
            let y = f64::from(x) * f64::from(scale[i % channels]) + f64::from(shift[i % channels]);
            let expected = y / (1.0 + (-y).exp());
            assert!(if i == 40 { got.is_nan() } else { (f64::from(got) - expected).abs() < 1e-5 }, "{got} {expected}");
        }
    }
}
