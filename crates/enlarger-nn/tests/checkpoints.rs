//! A file is added only if all of its arrays are computed with, and loads whatever its arrays are called and stored as.

mod common;

use std::{collections::BTreeMap, path::Path};

use common::{check, load, reference};
use enlarger_nn::weights;
use safetensors::{Dtype, tensor::TensorView};

type Arrays = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A network of `reference/`, its arrays in 32 bits under a prefix.
fn arrays(name: &str, prefix: &str) -> Arrays {
    let dict = weights::read(&reference(&format!("{name}.pth"))).expect("a network");
    let bytes = |data: &[f32]| data.iter().flat_map(|v| v.to_le_bytes()).collect();
    dict.0.iter().map(|(key, t)| (format!("{prefix}{key}"), (Dtype::F32, t.shape.clone(), bytes(&t.data)))).collect()
}

fn write(path: &Path, arrays: &Arrays) {
    let views = arrays.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("sizes fit"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialized")).expect("written");
}

#[test]
fn prefixes_and_64_bits_load_from_safetensors() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("network.safetensors");
    for prefix in ["module.", "params_ema.", "params-ema.module.", "netG.", "generator.model.", "state_dict.net_g."] {
        for name in ["rrdb_x4_zip", "plus_x4_esrgan_legacy", "compact_x3_strided"] {
            write(&path, &arrays(name, prefix));
            check(&path, name);
        }
    }
    let mut wide = arrays("rrdb_x2_zip", "");
    for (dtype, _, bytes) in wide.values_mut() {
        *dtype = Dtype::F64;
        let values = bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        *bytes = values.flat_map(f64::to_le_bytes).collect();
    }
    write(&path, &wide);
    check(&path, "rrdb_x2_zip");
}

#[test]
fn what_serves_training_alone_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("network.safetensors");
    let mut all = arrays("rrdb_x4_zip", "params_ema.");
    // A worse copy, an optimizer's state, a discriminator, counters.
    all.extend(
        arrays("rrdb_x4_zip", "params.")
            .into_iter()
            .map(|(name, (dtype, shape, bytes))| (name, (dtype, shape, vec![0; bytes.len()]))),
    );
    all.insert("optimizer.state.0.exp_avg".into(), (Dtype::F32, vec![2], vec![0; 8]));
    all.insert("net_d.conv0.weight".into(), (Dtype::F32, vec![2], vec![0; 8]));
    all.insert("params_ema.bn.num_batches_tracked".into(), (Dtype::I64, vec![], vec![0; 8]));
    all.insert("iter".into(), (Dtype::I32, vec![1], vec![0; 4]));
    write(&path, &all);
    check(&path, "rrdb_x4_zip");
}

#[test]
fn an_array_that_is_not_computed_with_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("network.safetensors");
    let strange = [
        ("rrdb_x4_zip", "body.0.attn.weight"),
        ("rrdb_x4_zip", "body.0.rdb1.conv6.weight"),
        ("rrdb_x4_zip", "body.0.srdb1.conv1.weight"),
        ("rrdb_x4_zip", "body.1.rdb1.conv2.bias"),
        ("rrdb_x4_zip", "conv_first.scale"),
        ("rrdb_x4_esrgan_legacy", "model.1.sub.0.RDB1.conv1.1.weight"),
        ("rrdb_x4_trunk_parameters", "RRDB_trunk.0.RDB1.attention.bias"),
        ("compact_x3_strided", "attn.qkv.weight"),
        ("compact_x3_strided", "body.1.bias"),
    ];
    for (name, extra) in strange {
        let mut all = arrays(name, "params.");
        all.insert(format!("params.{extra}"), (Dtype::F32, vec![2], vec![0; 8]));
        write(&path, &all);
        let error = load(&path).err().unwrap_or_else(|| panic!("{extra} is refused")).to_string();
        let last = extra.rsplit('.').take(2).collect::<Vec<_>>();
        assert!(error.contains(&format!("{}.{}", last[1], last[0])), "{extra}: {error}");
    }
    // Whole numbers that something would look up.
    let mut all = arrays("rrdb_x4_zip", "");
    all.insert("window.index".into(), (Dtype::I64, vec![2], vec![0; 16]));
    write(&path, &all);
    assert!(load(&path).err().expect("refused").to_string().contains("window.index"));
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("network.safetensors");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in ["conv_last.bias", "body.0.rdb3.conv4.weight"] {
            let mut all = arrays("rrdb_x4_zip", "");
            let bytes = &mut all.get_mut(name).expect("an array").2;
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
            write(&path, &all);
            let error = load(&path).err().expect("refused").to_string();
            assert!(error.contains(name) && error.contains("infinite or NaN"), "{error}");
        }
    }
}
