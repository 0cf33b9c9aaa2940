//! ncnn's graphs are read as graphs: they compute what PyTorch computes, or are refused with the layer that differs.
//! `reference/make_pth.py` makes them.

mod common;

use std::path::Path;

use common::{check, load, reference};

#[test]
fn graphs_of_every_form_compute_what_pytorch_does() {
    // Activations and gains in layers of their own, or within others.
    for (name, scale) in [("ncnn_x4_fused", 4), ("ncnn_x2_reorg", 2), ("ncnn_compact_x3", 3)] {
        let kind = check(&reference(&format!("{name}.param")), name);
        assert!(kind.contains(&format!(" {scale}x, ")), "{name}: {kind}");
        check(&reference(&format!("{name}.bin")), name);
    }
}

/// The pair with some text of its graph replaced, everywhere or at one place.
fn edited(name: &str, dir: &Path, edit: impl Fn(&str) -> String) -> std::path::PathBuf {
    let param = std::fs::read_to_string(reference(&format!("{name}.param"))).expect("a graph");
    let changed = edit(&param);
    assert_ne!(param, changed, "the edit finds its place");
    let path = dir.join("edited.param");
    std::fs::write(&path, changed).expect("written");
    std::fs::copy(reference(&format!("{name}.bin")), dir.join("edited.bin")).expect("copied");
    path
}

#[test]
fn the_same_graph_in_other_words_is_accepted() {
    let dir = tempfile::tempdir().expect("a folder");
    let split =
        |text: &str| text.replacen("Reorg reorg_1 1 1 data", "Split split 1 2 data a b\nReorg reorg_1 1 1 b", 1);
    check(&edited("ncnn_x2_reorg", dir.path(), split), "ncnn_x2_reorg");
    let swapped = |text: &str| text.replace("-23301=2,0.2,1.0", "-23301=2,2.000000e-01,1.000000e+00");
    check(&edited("ncnn_x2_reorg", dir.path(), swapped), "ncnn_x2_reorg");
}

#[test]
fn a_graph_that_computes_something_else_is_refused_by_its_layer() {
    let dir = tempfile::tempdir().expect("a folder");
    let edits: [(&str, &str, &str, &str); 13] = [
        // The size: enlarged by 3, by 4 at once, smoothly, in one direction, not at all.
        ("ncnn_x4_fused", "1=2.000000e+00 2=2.000000e+00", "1=3.000000e+00 2=3.000000e+00", "upsamples 3 times"),
        ("ncnn_x4_fused", "1=2.000000e+00 2=2.000000e+00", "1=4.000000e+00 2=4.000000e+00", "upsamples 4 times"),
        ("ncnn_x4_fused", "0=1 1=2.000000e+00", "0=2 1=2.000000e+00", "(Interp)"),
        ("ncnn_x4_fused", "1=2.000000e+00 2=2.000000e+00", "1=2.000000e+00 2=1.000000e+00", "(Interp)"),
        ("ncnn_x4_fused", "1=2.000000e+00 2=2.000000e+00", "1=1.000000e+00 2=1.000000e+00", "layer convolution_43"),
        ("ncnn_compact_x3", "1=3.000000e+00 2=3.000000e+00", "1=2.000000e+00 2=2.000000e+00", "layer binaryop_10"),
        ("ncnn_compact_x3", "0=3\n", "0=2\n", "different numbers of color channels"),
        ("ncnn_x2_reorg", "Reorg reorg_1 1 1 data b2 0=2", "Reorg reorg_1 1 1 data b2 0=3", "color channels"),
        // The wiring and the numbers: another gain, another slope, another order, a layer that is unknown.
        ("ncnn_x2_reorg", "-23301=2,0.2,1.0", "-23301=2,0.1,1.0", "does not read what body.0.rdb2.conv1"),
        ("ncnn_x4_fused", "-23310=1,2.000000e-01", "-23310=1,1.000000e-01", "body.0.rdb1.conv2"),
        ("ncnn_x2_reorg", "Concat concat_5 2 1 b3 b5", "Concat concat_5 2 1 b5 b3", "body.0.rdb1.conv2"),
        ("ncnn_compact_x3", "BinaryOp binaryop_10 2 1", "Crop binaryop_10 2 1", "binaryop_10 (Crop)"),
        ("ncnn_x4_fused", "4=1 14=1", "4=0 14=1", "(Convolution)"),
    ];
    for (name, from, to, told) in edits {
        let file = edited(name, dir.path(), |text| text.replace(from, to));
        let error = load(&file).err().unwrap_or_else(|| panic!("{name} with {to} is refused")).to_string();
        assert!(error.contains(told), "{name} with {to}: {error}");
    }
}

#[test]
fn one_slope_for_all_channels_is_as_many_equal_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    // Their slopes are gone from the file, so their values are removed too.
    let file =
        edited("ncnn_compact_x3", dir.path(), |text| text.replace("PReLU", "ReLU").replace(" 0=8\n", " 0=0.25\n"));
    let bin = std::fs::read(reference("ncnn_compact_x3.bin")).expect("values");
    let (first, body, slopes) = (4 + 4 * (3 * 8 * 9 + 8), 4 + 4 * (8 * 8 * 9 + 8), 4 * 8);
    let (mut kept, mut at) = (Vec::new(), 0);
    for convolution in [first, body, body] {
        kept.extend_from_slice(&bin[at..at + convolution]);
        at += convolution + slopes;
    }
    kept.extend_from_slice(&bin[at..]);
    std::fs::write(file.with_extension("bin"), kept).expect("written");
    let (_, kind) = load(&file).expect("a network");
    assert_eq!(kind, "Compact 3x, 2 convolutions, 8 features");
}
